"""Runs unlike the others are named from the CSV to the page, with what would be forecast without them."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.fit import fit_study, held_out_rows
from rankscale_utils.analysis.results import read_table
from rankscale_utils.analysis.strange_runs import FAR, PAST_BEST, name_strange_runs
from rankscale_utils.report import strange_runs as page
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from tests.report.html import records

SIZES = dict(zip(("17m", "32m", "68m", "150m", "400m"), 4e6 * 3.0 ** np.arange(5), strict=True))
EXPOSURES = (10_000, 20_000, 40_000, 80_000, 160_000)


def truth(size, exposure):
    return 0.45 - 4 * size**-0.3 - 3 * exposure**-0.4


@pytest.fixture
def ladder():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"objective": "listwise", "rung": rung, "params": size, "seed": seed, "exposure": exposure,
             "collection": "dev", "metric": "nDCG@10", "value": truth(size, exposure) + rng.normal(0, 5e-4)}
            for rung, size in SIZES.items() for seed in (0, 1) for exposure in EXPOSURES
        ]
    )  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return what makes a study of a table, with more fields of forecasting."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(table, more=""):
        table.to_csv(tmp_path / "ladder.csv", index=False)
        fields = f"held_out: {{rungs: [400m]}}\nforecasting: {{draws: 100{more}}}\n"
        (tmp_path / "mine.yaml").write_text(f"measurements: ladder.csv\n{fields}", encoding="utf-8")
        return load_study(tmp_path / "mine.yaml")

    return write


def test_nothing_is_strange_of_a_ladder_that_keeps_its_law(study, ladder):
    mine = study(ladder)
    strange = name_strange_runs(mine, fit_study(mine))
    assert strange.empty
    assert page.strange_sentences(strange) == []
    assert page.without_table(strange).data == ""
    assert read_table(paths.strange_runs_file(mine.folder)).empty


def test_a_far_run_is_named_and_what_is_forecast_without_it_is_nearer_to_the_truth(study, ladder):
    far = (ladder["rung"] == "68m") & (ladder["seed"] == 1)
    mine = study(ladder.assign(value=ladder["value"] - 0.06 * far))
    (row,) = name_strange_runs(mine, fit_study(mine)).to_dict("records")
    assert (row["run"], row["kind"], row["target"]) == ("listwise-68m-s1", FAR, "400m")
    actual = truth(SIZES["400m"], EXPOSURES[-1])
    assert row["expected"] == pytest.approx(truth(SIZES["68m"], EXPOSURES[-1]), abs=0.006)
    assert abs(row["without"] - actual) < abs(row["forecast"] - actual)
    assert row["without_hi"] - row["without_lo"] < 0.5 * (row["forecast_hi"] - row["forecast_lo"])
    [said] = page.strange_sentences(pd.DataFrame([row]))
    assert said.startswith("listwise-68m-s1 is far from the other runs: its nDCG@10 on dev is 0.")
    assert "Without it 400m is forecast 0." in said
    [shown] = records(page.without_table(pd.DataFrame([row])))
    assert shown["without it"] == f"{row['without']:.4f}"


def test_a_run_that_falls_is_past_its_best_and_the_best_so_far_can_be_forecast(study, ladder):
    fall = ladder["exposure"].map(dict(zip(EXPOSURES, (0, 0, 0, 0.03, 0.08), strict=True)))
    falling = ladder.assign(value=ladder["value"] - fall)
    strange = name_strange_runs(study(falling), fit_study(study(falling)))
    assert set(strange["kind"]) == {PAST_BEST}
    assert len(strange) == 8  # every fitted run
    assert strange["best_exposure"].unique().tolist() == [40_000]
    said = page.strange_sentences(strange)
    assert "went from 0." in said[0]
    assert said[-1] == "8 runs are past their best; strange_runs.csv names them all."
    best = study(falling, ", value: best")
    fitted = fit_study(best)
    assert name_strange_runs(best, fitted).empty
    truths = falling[falling["rung"] == "400m"].groupby("seed")["value"].max()
    ends = held_out_rows(best).query("exposure == 160_000")
    assert ends.set_index("seed")["value"].tolist() == truths.tolist()
    (one,) = fitted
    assert one.average.series.last["value"].tolist() == [
        rows["value"].max() for _, rows in falling[falling["rung"] != "400m"].groupby(["rung", "seed"], sort=False)
    ]
