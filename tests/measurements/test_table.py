import pandas as pd
import pandera.errors
import pytest

from rankscale_utils.measurements.table import headline, headlines, write_measurements

ROW = {"run": "a-b-s0", "objective": "a", "rung": "b", "seed": 0, "params": 10, "params_non_embedding": 8,
       "exposure": 100, "collection": "c", "task": "rerank", "metric": "nDCG@10", "score": "own", "value": 0.5,
       "excluded": ""}  # fmt: skip


def test_measurements_are_written_as_they_are(tmp_path):
    table = pd.DataFrame([ROW, ROW | {"metric": "AP", "value": None, "excluded": "constant scores"}])
    write_measurements(tmp_path / "measurements.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "measurements.parquet"), table)


@pytest.mark.parametrize(
    ("column", "value"), [("value", -0.1), ("value", None), ("params", 0), ("run", 3), ("task", "find")]
)
def test_measurements_that_break_the_schema_are_not_written(tmp_path, column, value):
    with pytest.raises(pandera.errors.SchemaError, match=column):
        write_measurements(tmp_path / "measurements.parquet", pd.DataFrame([ROW | {column: value}]))
    assert list(tmp_path.iterdir()) == []


def test_the_headline_is_the_studys_choice_or_the_first_metric_that_rises(new_study):
    table = pd.DataFrame({"metric": ["CE9", "nDCG@10", "AP"]})
    assert headline(new_study(), table) == "nDCG@10"
    assert headline(new_study(forecasting={"headline": "AP"}), table) == "AP"
    assert headline(new_study(forecasting={"headline": "RR@10"}), table) == "nDCG@10"
    assert headlines(new_study(), table) == ["nDCG@10", "CE9"]
