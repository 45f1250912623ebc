"""What laws do not see, and what was filled in, is counted and written."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.changes import changes_on_reading
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"17m": 4e6, "32m": 1.25e7, "68m": 4.2e7, "150m": 1.1e8, "400m": 3.4e8}


@pytest.fixture
def table():
    rows = [
        {"objective": "listwise", "rung": rung, "params": size, "exposure": exposure, "collection": "dev",
         "metric": metric, "value": 0.45 - 2 * size**-0.2 - 3 * exposure**-0.4, "seed": 0}
        for rung, size in SIZES.items() for exposure in (10_000, 100_000, 400_000, 1_600_000)
        for metric in ("nDCG@10", "RR@10")
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def changes(tmp_path, monkeypatch):
    """Return what counts the changes of a study of measurements: how many, by what and where."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def count(table, **forecasting):
        table.to_csv(tmp_path / "ladder.csv", index=False)
        fields = {"draws": 100, "metrics": ["nDCG@10"]} | forecasting
        (tmp_path / "mine.yaml").write_text(
            f"measurements: ladder.csv\nheld_out: {{rungs: [400m]}}\nforecasting: {fields}\n", encoding="utf-8"
        )
        study = load_study(tmp_path / "mine.yaml")
        found = changes_on_reading(study, fit_study(study), study_measurements(study, fitted_only=False))
        assert list(found) == ["what", "count", "where"]
        return {(row["what"], row["where"]): row["count"] for row in found.to_dict("records")}

    return count


def test_a_table_of_measurements_is_counted_from_file_to_laws(table, changes):
    noted = table.assign(note="mine", rung=table["rung"].where(table.index % 20 > 0, " " + table["rung"] + " "))
    failed = (noted["rung"].str.strip() == "17m") & (noted["exposure"] == 400_000)
    noted.loc[failed, "value"] = np.nan
    noted["excluded"] = np.where(failed, "diverged", "")
    found = changes(noted)
    assert found == {
        ("rows got params_non_embedding = params, as there is no such column", "ladder.csv"): 40,
        ("blanks around a label were dropped", "ladder.csv"): 2,
        ("columns were carried along and not used: note", "ladder.csv"): 1,
        ("rows are no measurements: diverged", "listwise-17m-s0"): 2,
        ("rows of metrics that forecasting.metrics does not name: RR@10", "ladder.csv"): 20,
        ("rows before 10% of their run (forecasting.burn_in): no law sees them", "laws of the fitted rungs"): 8 - 0,
    }


def test_averaged_checkpoints_are_counted(table, changes):
    averaged = changes(table, burn_in=0, checkpoints=2)
    what = "rows stand for 2 neighbouring checkpoints each (forecasting.checkpoints), of 16 rows"
    assert averaged[what, "laws of the fitted rungs"] == 8
