"""A ladder whose law is known, from the CSV to sealed, scored forecasts and allocated budgets."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils import laws
from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.compute import all_measurements, training_costs
from rankscale_utils.analysis.design import held_out_design
from rankscale_utils.analysis.fit import fit_study, known_of, with_axes
from rankscale_utils.analysis.forecast import score_study, seal_study
from rankscale_utils.analysis.held_out import SEALED_COLUMNS, past_of_averages
from rankscale_utils.analysis.results import read_table
from rankscale_utils.analysis.sealing import SealBroken
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import measured_rows
from rankscale_utils.report import fit as fit_page
from rankscale_utils.study import paths
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.loading import load_study
from tests.dictionary import undescribed

SIZES = {"xs": 1e4, "s": 3e4, "m": 1e5, "l": 3e5, "xl": 1e6, "xxl": 1e7}
EXPOSURES = np.geomspace(1e4, 1e6, 6)
TRUTH = {"nDCG@10": (0.45, -6.0, 0.4, -5.0, 0.4), "CE64": (2.0, 20.0, 0.4, 15.0, 0.4)}  # y∞, ∓A, alpha, ∓B, beta


def true_value(metric, N, D):
    asymptote, A, alpha, B, beta = TRUTH[metric]
    return asymptote + A * N**-alpha + B * D**-beta


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("rankscale_utils.study.paths.ROOT", tmp_path)
    rng, rows = np.random.default_rng(0), []
    for metric in TRUTH:
        for rung, N in SIZES.items():
            for seed in range(3):
                level = rng.normal(0, 0.002)
                for D in EXPOSURES:
                    value = true_value(metric, N, D) + level + rng.normal(0, 0.001)
                    rows.append(("listwise", rung, N, seed, D, "test", metric, value, 0.6))
    columns = ["objective", "rung", "params", "seed", "exposure", "collection", "metric", "value", "ceiling"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "known.csv", index=False)
    fields = {
        "measurements": "known.csv",
        "held_out": {"rungs": ["xxl"]},
        "forecasting": {"draws": 200},
    }
    (tmp_path / "known.yaml").write_text(yaml.safe_dump(fields))
    return load_study(tmp_path / "known.yaml")


@pytest.fixture
def fitted(study):
    return fit_study(study)


def test_what_was_fitted_is_kept_until_anything_changes(study, fitted, monkeypatch):
    monkeypatch.setattr(laws, "expanding", None)  # whatever would be fitted now, fails
    for one, again in zip(fitted, fit_study(study), strict=True):
        pd.testing.assert_frame_equal(one.past, again.past)
        for name, draws in one.laws.items():
            assert np.array_equal(draws.coefficients, again.laws[name].coefficients)
    fewer = study.forecasting.model_copy(update={"draws": 50})
    with pytest.raises(TypeError):
        fit_study(study.model_copy(update={"forecasting": fewer}))
    table = pd.read_csv(study.measurements_file)
    table.assign(value=table["value"] * (1 - 1e-9)).to_csv(study.measurements_file, index=False)
    with pytest.raises(TypeError):
        fit_study(study)


def test_forecasts_are_near_the_truth_and_their_intervals_hold_it(study, fitted):
    seal_study(study, fitted)
    scored = score_study(study, fitted)
    assert set(scored["metric"]) == set(TRUTH)
    ours = scored[scored["law"] == "average"]
    assert (ours["error"].abs() < 0.02).all()
    assert ours.loc[ours["kind"] == "new_run", "covered"].mean() >= 0.9
    average = scored[scored["law"] == "average"]
    assert average[["coverage", "past_coverage"]].apply(lambda share: share.between(0.5, 1)).all(axis=None)
    past = past_of_averages(fitted)
    assert average["past_intervals"].tolist() == [(past["kind"] == kind).sum() for kind in average["kind"]]
    assert (average["skill"] > 0.5).all()
    assert ((average["hi_alone"] - average["lo_alone"]) > 0.9 * (average["hi"] - average["lo"])).mean() > 0.5


def test_what_is_held_out_is_designed_without_its_values(study, fitted):
    design = held_out_design(study, fitted)
    assert set(design["rung"]) == {"xxl"}
    assert "value" not in design
    assert len(design) == len(TRUTH)
    assert (design["exposure"] == EXPOSURES[-1]).all()


def test_one_row_for_each_held_out_rung_objective_metric_and_kind(study, fitted):
    seal_study(study, fitted)
    score_study(study, fitted)
    made, baselines = (pd.read_csv(study.folder / f"{name}.csv") for name in ("forecasts", "baselines"))
    assert not made.duplicated(["objective", "metric", "rung", "kind"]).any()
    assert len(made) == 2 * len(TRUTH)
    assert set(made["law"]) == {"average"}
    assert set(baselines["law"]) == {"P0 size", "P0 joint", "no change"}
    assert made.columns[: len(SEALED_COLUMNS)].tolist() == SEALED_COLUMNS
    assert {"sealed_sha256", "actual", "error", "covered"} <= set(made) & set(baselines)


@pytest.mark.parametrize(("field", "column"), [("size", "flops_per_pair"), ("exposure", "tokens")])
def test_an_axis_that_the_measurements_lack_is_refused(study, field, column):
    settings = study.forecasting.model_copy(update={field: column})
    with pytest.raises(StudyError, match=f"forecasting.{field} = {column}: the measurements have no"):
        fit_study(study.model_copy(update={"forecasting": settings}))


def test_the_prior_follows_what_N_counts(study):
    table = with_axes(study_measurements(study, fitted_only=True), study.forecasting)
    known = known_of(study.forecasting, table)
    assert known == laws.known()
    halved = known_of(study.forecasting, table.assign(N=table["N"] ** 0.5))
    assert halved.size_exponent.median == pytest.approx(2 * known.size_exponent.median)
    assert halved.exposure_exponent == known.exposure_exponent


def test_a_study_may_believe_otherwise(study):
    table = with_axes(study_measurements(study, fitted_only=True), study.forecasting)
    prior = Forecasting(prior={"wide": True, "size_exponent": {"median": 0.5, "spread": 0.2}}).prior
    known = known_of(study.forecasting.model_copy(update={"prior": prior}), table)
    assert (known.size_exponent.median, known.size_exponent.spread) == (0.5, 0.2)
    assert known.run_noise.spread == pytest.approx(3 * laws.known().run_noise.spread)


def test_a_seal_says_whether_the_truth_was_there_already(study, fitted):
    sealed = seal_study(study, fitted)
    assert sealed["truth_existed"].all()
    assert "existed by then" in fit_page.sealed_sentence(sealed)
    assert "No held-out run had been trained" in fit_page.sealed_sentence(sealed.assign(truth_existed=False))


def test_fits_never_see_a_held_out_rung(fitted):
    assert all("xxl" not in set(one.table["rung"]) for one in fitted)
    assert all(draws.fit.data["N"].max() == SIZES["xl"] for one in fitted for draws in one.laws.values())


def test_a_forecast_of_other_measurements_is_refused(study, fitted):
    seal_study(study, fitted)
    table = pd.read_csv(study.measurements_file)
    table.loc[table["rung"] == "xs", "value"] += 1e-6
    table.to_csv(study.measurements_file, index=False)
    with pytest.raises(SealBroken, match="sealed on other measurements"):
        score_study(study, fit_study(study))


def test_changed_held_out_values_do_not_change_what_is_sealed(study, fitted):
    before = seal_study(study, fitted)
    table = pd.read_csv(study.measurements_file)
    table.loc[table["rung"] == "xxl", "value"] *= 0.5
    table.to_csv(study.measurements_file, index=False)
    shutil.rmtree(paths.sealed_forecasts_file(study.folder).parent)
    after = seal_study(study, fit_study(study))
    volatile = ["sealed_at", "sealed_sha256"]
    pd.testing.assert_frame_equal(before.drop(columns=volatile), after.drop(columns=volatile))


def test_excluded_rows_enter_no_fit(study):
    table = study_measurements(study, fitted_only=True)
    table = table.assign(excluded=np.where(table["run"] == "listwise-m-s1", "constant scores", ""))
    runs = set(measured_rows(table)["run"])
    assert "listwise-m-s1" not in runs
    assert "listwise-m-s0" in runs


def test_the_asymptote_stays_below_the_candidates_ceiling(fitted):
    for one in fitted:
        if one.metric == "nDCG@10":
            assert one.joint.fit.law.limits == (0.0, 0.6)


def test_the_ladders_own_past_is_forecast_from_smaller_rungs_alone(study, fitted):
    past = past_of_averages(fitted)
    assert set(past["rung"]) == {"l", "xl"}
    assert past["covered"].between(0, 1).all()
    said = fit_page.past_sentence(past)
    runs = past[past["kind"] == "new_run"]
    assert f"of {len(runs)} new-run intervals held the truth, of {past['objective'].nunique() * 2} models" in said
    assert f"{(runs['error'] / runs['actual']).abs().median():.1%} of the value" in said


def test_an_allocation_follows_the_known_law_and_is_written_to_the_last_digit(study):
    found = allocate_study(study)
    assert "128 tokens" in found.counted
    assert found.exponents["a"].to_numpy() == pytest.approx(0.5, abs=0.15)  # alpha = beta; a gap bends a law of values
    assert ((found.exponents["a_lo"] <= 0.55) & (found.exponents["a_hi"] >= 0.45)).all()
    spent = found.costs["listwise"].flops_per_unit(found.optima["size"]) * found.optima["exposure"]
    assert spent.to_numpy() == pytest.approx(found.optima["flops"].to_numpy())
    assert (found.equal_compute["regret"] >= 0).all()
    assert set(found.equal_compute["picked"]) <= set(SIZES)
    assert found.equal_compute["regret"].mean() < 0.005
    assert (found.next_runs["half_width_after"] < found.next_runs["half_width_now"]).all()
    assert set(found.next_runs["target"]) == {"xxl"}
    for name, file in paths.ALLOCATION_FILES.items():
        table = getattr(found, name)
        assert len(table), name
        pd.testing.assert_frame_equal(read_table(file(study.folder)), table, check_exact=True, check_dtype=False)
    assert undescribed(study.folder, set()) == []


def test_budgets_are_those_of_the_test_that_can_be_forecast(study):
    table = pd.read_csv(study.measurements_file)
    expected = allocate_study(study).equal_compute
    first = table[table["rung"] != "xxl"].assign(collection="first", exposure=lambda rows: 100 * rows["exposure"])
    pd.concat([first, table]).to_csv(study.measurements_file, index=False)  # a test that no held-out rung was put to
    found = allocate_study(study)
    assert {one.collection for one in found.fitted} == set(found.table["collection"]) == {"test"}
    np.testing.assert_allclose(found.equal_compute["flops"], expected["flops"])


def test_flops_that_the_measurements_bring_are_used(study, fitted):
    table = all_measurements(study, fitted[0])
    table["flops"] = 7.0 * table["params_non_embedding"] ** 0.8 * table["exposure"]
    costs, counted = training_costs(table, study.allocation.tokens_per_pair)
    assert costs["listwise"].growth == pytest.approx(0.8)
    assert "real pair lengths" in counted
