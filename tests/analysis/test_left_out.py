import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.fit import fit_study, series_left_out
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.errors import StudyError
from rankscale_utils.report import allocate as page
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"17m": 4e6, "32m": 1.25e7, "68m": 4.2e7, "150m": 1.1e8, "400m": 3.4e8}


def series(metric="nDCG@10", exposures=(10_000, 40_000, 160_000), value=None, **columns):
    """A size and exposure law's values, or one value everywhere, a row for each rung and exposure."""
    rows = [
        {"objective": "listwise", "rung": rung, "params": size, "exposure": exposure, "collection": "dev",
         "metric": metric, "value": value or 0.45 - 2 * size**-0.2 - 3 * exposure**-0.4, **columns}
        for rung, size in SIZES.items() for exposure in exposures
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return what writes a study of measurements: study(table)."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(*tables):
        pd.concat(tables).to_csv(tmp_path / "ladder.csv", index=False)
        fields = "held_out: {rungs: [400m]}\nforecasting: {draws: 100}\n"
        (tmp_path / "mine.yaml").write_text(f"measurements: ladder.csv\n{fields}", encoding="utf-8")
        return load_study(tmp_path / "mine.yaml")

    return write


def reasons(study):
    return series_left_out(study).set_index("metric")["reason"].to_dict()


def test_a_metric_at_its_ceiling_is_left_out_with_its_reason_and_the_others_are_fitted(study):
    saturated = series("R@100", value=0.6, ceiling=0.6)
    mine = study(series(ceiling=0.8), saturated)
    assert reasons(mine) == {
        "R@100": "R@100 is its ceiling, 0.6, in every run: reranking the candidates cannot change it"
    }
    assert [one.metric for one in fit_study(mine)] == ["nDCG@10"]


def test_one_value_at_the_limit_leaves_its_series_out(study):
    perfect = series("Success@1")
    perfect.loc[3, "value"] = 1.0
    said = reasons(study(series(), perfect))["Success@1"]
    assert said == "Success@1 is at its limit, 1, in 1 of 12 rows, listwise-32m-s0's among them"


def test_a_series_without_a_held_out_row_or_on_two_rungs_is_left_out(study):
    late = series("R@100").query("rung in ('150m', '68m', '400m')")
    unseen = series("RR@10").query("rung != '400m'")
    assert reasons(study(series(), late, unseen)) == {
        "R@100": "2 fitted rungs measured: a size law needs 3",
        "RR@10": "no row of it on 400m, so there is nothing to forecast",
    }


def test_where_nothing_is_left_one_sentence_says_why(study):
    with pytest.raises(
        StudyError, match=r"no series of mine can be forecast: listwise, R@100: R@100 is its ceiling, 1, in"
    ):
        fit_study(study(series("R@100", value=1.0)))


def test_one_row_a_rung_is_forecast_and_its_budgets_are_told_to_be_unknown(study):
    mine = study(series(exposures=[160_000]))
    fitted = fit_study(mine)
    seal_study(mine, fitted)
    scored = score_study(mine, fitted)
    new = scored[(scored["law"] == "average") & (scored["kind"] == "new_run")].iloc[0]
    assert new["lo"] < new["actual"] < new["hi"]
    assert abs(new["error"]) < 0.005
    allocation = allocate_study(mine)
    assert allocation.optima.empty
    assert "three exposures or more" in page.allocation_sentence(mine, allocation.exponents, allocation.equal_compute)
    assert page.isoflops(mine, allocation) == []


def test_two_rungs_of_one_size_are_told_together(study):
    table = series(exposures=[10_000, 20_000, 40_000, 80_000, 160_000])
    wide = table[table["rung"] == "68m"].assign(rung="68m-wide", value=lambda rows: rows["value"] + 1e-3)
    compared = allocate_study(study(table, wide)).equal_compute
    assert compared["picked"].isin([*SIZES, "68m or 68m-wide"]).all()
    assert np.isfinite(compared["regret"]).all()
