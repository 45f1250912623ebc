"""The published ladder, from its four smaller rungs to the truth of its two larger ones."""

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import allocate, forecast
from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.design import design_of_series, held_out_design
from rankscale_utils.analysis.fit import fit_study
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.measurements.reading import read_measurements
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.paths import CHECKOUT

NAMES = ["objective", "metric", "rung", "params", "exposure", "forecast", "lo", "hi", "level", "kind", "law",
         "sealed_sha256", "actual", "error", "covered"]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study as it ships, its results in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rankscale_utils.study.paths.ROOT", tmp_path_factory.mktemp("published"))
        yield load_study(CHECKOUT / "params" / "published.yaml")


@pytest.fixture(scope="module")
def fitted(study):
    return fit_study(study)


@pytest.fixture(scope="module")
def scored(study, fitted):
    """The averages' forecasts and the baselines', as a reader of the files has them."""
    seal_study(study, fitted)
    score_study(study, fitted)
    return {name: pd.read_csv(study.folder / f"{name}.csv") for name in ("forecasts", "baselines")}


def errors(table, law):
    """Mean absolute relative error of a law at each rung."""
    rows = table[(table["law"] == law) & (table["kind"] == "new_run")]
    return (rows["error"] / rows["actual"]).abs().groupby(rows["rung"]).mean()


def test_one_row_for_each_held_out_rung_objective_metric_and_kind(study, scored):
    made = scored["forecasts"]
    keys = ["rung", "objective", "metric", "kind"]
    metrics = read_measurements(study.measurements_file)["metric"].unique()
    every = pd.MultiIndex.from_product(
        [["400m", "1b"], ["listwise", "pointwise"], metrics, ["mean_law", "new_run"]], names=keys
    )
    assert len(every) == len(made) == 2 * 2 * 6 * 2
    assert set(pd.MultiIndex.from_frame(made[keys])) == set(every)
    assert set(made["law"]) == {"average"}


def test_forecasts_and_baselines_have_the_same_columns(scored):
    made, baselines = scored["forecasts"], scored["baselines"]
    assert set(NAMES) <= set(made.columns)
    assert baselines.columns.tolist() == made.columns.tolist()
    assert made[NAMES].notna().all(axis=None)
    assert made["sealed_sha256"].nunique() == 1
    assert set(baselines["sealed_sha256"]) == set(made["sealed_sha256"])
    assert baselines.groupby("law").size().to_dict() == {"P0 size": 24, "P0 joint": 24, "no change": 24}


def test_the_truth_is_each_runs_last_ten_checkpoints(study, scored):
    """Reckoned anew from the CSV."""
    table = read_measurements(study.measurements_file).sort_values("step")
    keys = ["objective", "metric", "rung"]
    actual = table.groupby(keys).tail(10).groupby(keys)["value"].mean()
    made = scored["forecasts"]
    assert made["actual"].to_numpy() == pytest.approx(actual[pd.MultiIndex.from_frame(made[keys])].to_numpy())
    assert made["error"].to_numpy() == pytest.approx((made["forecast"] - made["actual"]).to_numpy())


@pytest.mark.parametrize("rung", ["400m", "1b"])
def test_the_error_is_little_more_than_half_of_p0s_size_law(scored, rung):
    ours, theirs = errors(scored["forecasts"], "average"), errors(scored["baselines"], "P0 size")
    assert ours[rung] <= 0.55 * theirs[rung]  # 0.53 at 400M, 0.49 at 1B
    assert ours[rung] <= errors(scored["baselines"], "no change")[rung] / 2


def test_intervals_of_a_new_run_hold_the_truth(scored):
    made = scored["forecasts"]
    new = made[made["kind"] == "new_run"]
    assert new["covered"].mean() >= 0.9
    inside = (new["lo"] <= new["actual"]) & (new["actual"] <= new["hi"])
    assert new["covered"].tolist() == inside.tolist()


def test_what_is_held_out_decides_nothing(study, fitted, tmp_path):
    table = pd.read_csv(study.measurements_file)
    table.loc[table["rung"].isin(study.held_out.rungs), "value"] *= 0.5
    table.to_csv(tmp_path / "halved.csv", index=False)
    halved = study.model_copy(update={"measurements": tmp_path / "halved.csv"})
    again = fit_study(halved)
    assert (
        read_measurements(halved.measurements_file)["value"] != read_measurements(study.measurements_file)["value"]
    ).any()
    pd.testing.assert_frame_equal(again[0].past, fitted[0].past)
    design = held_out_design(study, fitted)
    pd.testing.assert_frame_equal(held_out_design(halved, again), design)
    for one, other in zip(fitted, again, strict=True):
        assert one.average.series.scale == other.average.series.scale
        at = design_of_series(one, design)
        pd.testing.assert_frame_equal(one.average.forecast(at), other.average.forecast(at))


def test_a_table_in_memory_says_what_a_study_seals_to_every_digit(study, fitted, scored):
    settings = study.forecasting.model_dump(exclude={"level"})
    table = pd.read_csv(study.measurements_file)
    made = forecast(table, study.held_out.rungs, level=study.forecasting.level, every_law=True, **settings)
    sealed = pd.read_csv(paths.sealed_forecasts_file(study.folder), keep_default_na=False, na_values=[""])
    shared = [name for name in sealed if name in made]
    assert len(shared) >= 20
    pd.testing.assert_frame_equal(made[shared], sealed[shared], check_exact=True, check_dtype=False)
    truth = ["actual", "error", "covered", "skill", "skill_to_p0"]
    averages = made.loc[made["law"] == "average", truth].reset_index(drop=True)
    pd.testing.assert_frame_equal(averages, scored["forecasts"][truth], check_exact=True)


def test_a_table_in_memory_is_allocated_as_a_study_is(study, fitted):
    settings = study.forecasting.model_dump()
    optima = allocate(study.measurements_file, held_out=study.held_out.rungs, **settings)
    allocation = allocate_study(study)
    pd.testing.assert_frame_equal(optima.best, allocation.optima, check_exact=True)
    pd.testing.assert_frame_equal(optima.exponents, allocation.exponents[[*optima.exponents]], check_exact=True)
    assert optima.counted == allocation.counted


def test_fits_see_the_four_smaller_rungs_alone(fitted):
    assert len(fitted) == 2 * 6
    assert all(set(one.table["rung"]) == {"17m", "32m", "68m", "150m"} for one in fitted)
    assert np.isfinite(fitted[0].past["forecast"]).all()
