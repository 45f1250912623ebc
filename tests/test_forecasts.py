"""A ladder whose law is known, from the CSV to sealed, scored forecasts and allocated budgets."""

import numpy as np
import pandas as pd
import pytest
import yaml

from rankscale_utils import allocations, findings, forecasts, laws
from rankscale_utils.measurements import of_runs
from rankscale_utils.study import load_study

SIZES = {"xs": 1e4, "s": 3e4, "m": 1e5, "l": 3e5, "xl": 1e6, "xxl": 1e7}
EXPOSURES = np.geomspace(1e4, 1e6, 6)
TRUTH = {"nDCG@10": (0.45, -6.0, 0.4, -5.0, 0.4), "CE64": (2.0, 20.0, 0.4, 15.0, 0.4)}  # y∞, ∓A, alpha, ∓B, beta


def true_value(metric, N, D):
    asymptote, A, alpha, B, beta = TRUTH[metric]
    return asymptote + A * N**-alpha + B * D**-beta


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("rankscale_utils.study.ROOT", tmp_path)
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
        "forecasting": {"draws": 200, "simulations": 20},
    }
    (tmp_path / "known.yaml").write_text(yaml.safe_dump(fields))
    return load_study(tmp_path / "known.yaml")


@pytest.fixture
def fitted(study):
    return forecasts.fit_study(study)


def test_forecasts_are_near_the_truth_and_their_intervals_hold_it(study, fitted):
    forecasts.seal_study(study, fitted)
    scored = forecasts.score_study(study, fitted)
    assert set(scored["metric"]) == set(TRUTH)
    assert (scored["error"].abs() < 0.01).all()
    assert scored.loc[scored["kind"] == "new_run", "covered"].mean() >= 0.9
    assert scored["coverage"].between(0.5, 1).all()
    joint = scored[scored["law"] == "joint"]
    assert (joint["skill"] > 0.5).all()


def test_what_is_held_out_is_designed_without_its_values(study):
    design = forecasts.held_out_design(study)
    assert set(design["rung"]) == {"xxl"}
    assert "value" not in design
    assert len(design) == len(TRUTH) * len(EXPOSURES)


def test_a_seal_says_whether_the_truth_was_there_already(study, fitted):
    sealed = forecasts.seal_study(study, fitted)
    assert sealed["truth_existed"].all()
    assert "existed by then" in findings.sealed(sealed)
    assert "No held-out run had been trained" in findings.sealed(sealed.assign(truth_existed=False))


def test_fits_never_see_a_held_out_rung(fitted):
    assert all("xxl" not in set(one.table["rung"]) for one in fitted)
    assert all(draws.fit.data["N"].max() == SIZES["xl"] for one in fitted for draws in one.laws.values())


def test_a_forecast_of_other_measurements_is_refused(study, fitted):
    forecasts.seal_study(study, fitted)
    table = pd.read_csv(study.measurements_file)
    table.loc[table["rung"] == "xs", "value"] += 1e-6
    table.to_csv(study.measurements_file, index=False)
    with pytest.raises(laws.SealBroken, match="sealed on other measurements"):
        forecasts.score_study(study, forecasts.fit_study(study))


def test_changed_held_out_values_do_not_change_what_is_sealed(study, fitted):
    before = forecasts.seal_study(study, fitted)
    table = pd.read_csv(study.measurements_file)
    table.loc[table["rung"] == "xxl", "value"] *= 0.5
    table.to_csv(study.measurements_file, index=False)
    after = forecasts.seal_study(study, forecasts.fit_study(study))
    volatile = ["sealed_at", "sealed_sha256"]
    pd.testing.assert_frame_equal(before.drop(columns=volatile), after.drop(columns=volatile))


def test_excluded_rows_enter_no_fit(study):
    table = of_runs(study, fitted_only=True)
    table = table.assign(excluded=np.where(table["run"] == "listwise-m-s1", "constant scores", ""))
    runs = {run for rows in forecasts.series(table, study) for run in rows["run"]}
    assert "listwise-m-s1" not in runs
    assert "listwise-m-s0" in runs


def test_the_asymptote_stays_below_the_candidates_ceiling(fitted):
    for one in fitted:
        if one.metric == "nDCG@10":
            assert one.joint.fit.law.limits == (0.0, 0.6)


def test_rungs_that_share_no_exposure_are_compared_at_the_end_of_each_run():
    table = pd.DataFrame(
        {"run": ["a", "a", "b", "b"], "rung": ["s", "s", "m", "m"], "exposure": [1, 2, 3, 4], "value": 0.1}
    )
    assert forecasts.at_end(table)["exposure"].tolist() == [2, 4]
    assert forecasts.at_end(table.assign(exposure=[1, 2, 2, 3]))["exposure"].tolist() == [2, 2]


def test_the_ladders_own_past_is_forecast_from_smaller_rungs_alone(study, fitted):
    past = forecasts.backtests(fitted, 0.95)
    assert set(past["rung"]) == {"l", "xl"}
    assert past["covered"].between(0, 1).all()
    assert "new-run intervals" in findings.past(past)


def test_exponents_and_budgets_follow_the_known_law(study, fitted):
    table = allocations.all_measurements(study)
    cost, counted = allocations.training_cost(study, table)
    assert "128 tokens" in counted
    exponents = allocations.exponents(fitted, cost, 0.95)
    assert exponents["a"].to_numpy() == pytest.approx(0.5, abs=0.1)  # alpha = beta, and a pair's cost grows as N
    assert ((exponents["a_lo"] <= 0.5) & (exponents["a_hi"] >= 0.5)).all()
    allocation = allocations.allocate_study(study, fitted, table, cost)
    assert (study.folder / "allocation.csv").exists()
    spent = cost.flops_per_unit(allocation["size"]) * allocation["exposure"]
    assert spent.to_numpy() == pytest.approx(allocation["flops"].to_numpy())
    compared = allocations.equal_compute(fitted, table, cost)
    assert (compared["regret"] >= 0).all()
    assert set(compared["picked"]) <= set(SIZES)
    assert compared["regret"].mean() < 0.005


def test_flops_that_the_measurements_bring_are_used(study):
    table = allocations.all_measurements(study)
    table["flops"] = 7.0 * table["params_non_embedding"] ** 0.8 * table["exposure"]
    cost, counted = allocations.training_cost(study, table)
    assert cost.growth == pytest.approx(0.8)
    assert "real pair lengths" in counted
