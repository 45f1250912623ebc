"""A study's tables are found by name, and read as they were written."""

import pandas as pd
import pytest

from rankscale_utils.study.loading import open_study


def test_tables_are_read_by_name(tiny_study):
    study = open_study(tiny_study.source)
    assert study == tiny_study
    assert not study.results()
    study.folder.mkdir(parents=True)
    table = pd.DataFrame({"objective": ["None", "NA"], "value": [0.1 + 0.2, None]})
    table.to_csv(study.folder / "forecasts.csv", index=False)
    table.to_parquet(study.folder / "measurements.parquet")
    (study.folder / "backtest.csv").write_text("\n")
    (study.folder / "fits.json").write_text("[]")
    results = study.results()
    assert list(results) == ["backtest", "forecasts", "measurements"]
    assert repr(results) == "Results of tiny: backtest, forecasts, measurements"
    pd.testing.assert_frame_equal(results["forecasts"], table)
    pd.testing.assert_frame_equal(results["measurements"], table)
    assert results["backtest"].empty
    assert results.get("speed") is None
    with pytest.raises(KeyError, match=r"has no table 'speed': those that there are: backtest, forecasts, measurem"):
        results["speed"]
