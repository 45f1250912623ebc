import pandas as pd
import pytest

from tests.dictionary import dictionary, undescribed


def test_the_page_is_read_as_it_is_meant():
    files = dictionary()
    forecasts, measurements = files["forecasts.csv"], files["measurements.parquet"]
    assert forecasts.studies == "Every study"
    assert forecasts.columns["params"] == "whole"  # shared, and of the sealed forecasts
    assert forecasts.columns["skill_to_p0"] == "number"
    assert {"query_lo", "query_hi"} <= forecasts.optional
    assert (measurements.columns["source"], measurements.columns["annotations"]) == ("text", "whole")


@pytest.mark.parametrize(
    ("name", "table", "said"),
    [
        ("new.csv", {"a": [1]}, "new.csv is written but not described in docs/results.md: describe it there."),
        ("exponents.csv", {"c": [1]}, "exponents.csv: column c is written but not described: describe it."),
        ("exponents.csv", {"c": [1]}, "exponents.csv: column a is described but not written: remove it."),
        ("exponents.csv", {"a": ["much"]}, "exponents.csv: column a is described as number, but holds 'much'"),
        ("exponents.csv", {"a": [1]}, "next_runs.csv is described in docs/results.md but was not written"),
    ],
)
def test_what_does_not_agree_is_said(tmp_path, name, table, said):
    pd.DataFrame(table).to_csv(tmp_path / name, index=False)
    assert any(sentence.startswith(said) for sentence in undescribed(tmp_path, {"Every study"}))
