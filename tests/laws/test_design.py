import dataclasses

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Cost, fit, forecast, resample, size_law
from rankscale_utils.laws.design import _Choice, candidate_runs, plan_runs
from rankscale_utils.laws.information import Goal, Theory
from rankscale_utils.laws.known import Belief
from rankscale_utils.laws.refitting import refit
from rankscale_utils.laws.resampling import t_quantile

from .conftest import EXPOSURES, SIZES

COST = Cost.six_n()
LADDER = pd.Series(SIZES, [f"{N:g}" for N in SIZES])
SIZE = "params_non_embedding"


def judged(draws, candidates, target):
    """Every candidate as a plan's first run is chosen among them."""
    choice = _Choice.of(draws, COST, candidates, target, 0.95, None, SIZE, "exposure")
    return choice.judged(choice.goal.theory.information, 0)


@pytest.fixture
def draws(law, ladder):
    return resample(fit(law, ladder()), draws=100)


@pytest.fixture
def short(law, ladder):
    """Four rungs of one seed: one run more than the coefficients that runs tell."""
    return resample(fit(law, ladder(seeds=1)), draws=100)


def dense(theory):
    """Jacobian of all fitted rows and their covariance, run by run."""
    data = theory.fit.data
    same = data["run"].to_numpy()[:, None] == data["run"].to_numpy()
    covariance = theory.within**2 * np.eye(len(data)) + theory.between**2 * same
    return theory.derivatives(data["N"].to_numpy(), data["D"].to_numpy()), covariance


def without_bounds(theory):
    """Information of the fitted runs alone."""
    low, high = theory.problem.bounds
    return theory.information - np.diag(12 / (high - low) ** 2)


def test_information_is_what_dense_algebra_finds(draws):
    theory = Theory.of(draws, None, 0.95)
    J, covariance = dense(theory)
    np.testing.assert_allclose(without_bounds(theory), J.T @ np.linalg.solve(covariance, J), rtol=1e-8)
    g = theory.derivatives(np.array([4.4e5]), np.array([1.6e5]))
    expected = g @ np.linalg.solve(theory.information, g.T)
    np.testing.assert_allclose(theory.variances(theory.information, g), expected[0], rtol=1e-6)


def test_a_prior_tells_of_alpha_alone(draws):
    with_prior, without = (Theory.of(draws, prior, 0.95).information for prior in (Belief(0.5, 1.0, 0.5), None))
    expected = np.zeros((5, 5))
    expected[2, 2] = 1 / 0.5**2
    np.testing.assert_allclose(with_prior - without, expected, atol=1e-6)


def test_law_variance_is_what_refitting_simulated_ladders_finds(law, ladder):
    """Brute force: the nonlinear law refitted to ladders with fresh noise, where noise is small."""
    fitted = fit(law, ladder(seeds=4, between=5e-4, within=3e-4))
    known = dataclasses.replace(resample(fitted, draws=10), between_sd=5e-4, within_sd=3e-4)
    rng, (_, run) = np.random.default_rng(1), np.unique(fitted.data["run"], return_inverse=True)
    noise = rng.normal(0, 5e-4, (800, fitted.runs))[:, run] + rng.normal(0, 3e-4, (800, fitted.rows))
    refitted = refit(fitted, fitted.predict(fitted.data["N"], fitted.data["D"]) + noise)
    simulated = law.predict(refitted, 4.4e5, 1.6e5).std()
    theory = Theory.of(known, None, 0.95)
    g = theory.derivatives(np.array([4.4e5]), np.array([1.6e5]))
    assert np.sqrt(theory.variances(theory.information, g)[0]) == pytest.approx(simulated, rel=0.1)


def test_half_width_now_is_near_the_forecasts(draws, held_out):
    row = judged(draws, candidate_runs(draws.fit, LADDER), held_out).iloc[0]
    interval = forecast(draws, held_out).query("kind == 'new_run'").iloc[0]
    assert row["half_width_now"] == pytest.approx((interval["hi"] - interval["lo"]) / 2, rel=0.3)


def test_an_added_run_never_widens_the_law(draws, short, held_out):
    for one in (draws, short):
        theory = Theory.of(one, None, 0.95)
        goal = Goal.of(theory, held_out, SIZE, "exposure")
        now = theory.variances(theory.information, goal.derivatives)
        for N in (1e3, 1.2e4, 1e6):
            for D in (EXPOSURES[:1], EXPOSURES, 4 * EXPOSURES):
                after = theory.variances(theory.information + theory.of_run(np.full(len(D), N), D), goal.derivatives)
                assert (after <= now * (1 + 1e-9)).all()
        assert (judged(one, candidate_runs(one.fit, LADDER), held_out)["shrinkage"] > 0).all()


def test_rows_come_with_their_cost_and_the_most_gain_per_flop_is_first(draws, held_out):
    candidates = candidate_runs(draws.fit, LADDER).assign(note="kept")
    table = judged(draws, candidates, held_out)
    assert len(table) == len(candidates)
    assert (table["note"] == "kept").all()
    np.testing.assert_allclose(table["flops"], 6 * table[SIZE] * table["exposure"])
    np.testing.assert_allclose(table["shrinkage_per_flop"], table["shrinkage"] / table["flops"])
    planned = plan_runs(draws, COST, candidates, held_out, 1e30)
    assert planned["rung"].iloc[0] == table.loc[table["shrinkage_per_flop"].idxmax(), "rung"]
    on_scale = table["half_width_after_on_scale"] / table["half_width_now_on_scale"]
    np.testing.assert_allclose(table["shrinkage"], 1 - on_scale)


def test_a_run_at_the_target_beats_a_small_one_of_as_many_checkpoints(draws, held_out):
    candidates = pd.DataFrame({SIZE: [4e3, 4.4e5], "exposure": 1.6e5, "checkpoints": 6})
    shrinkage = judged(draws, candidates, held_out).set_index(SIZE)["shrinkage"]
    assert shrinkage[4.4e5] > 1.5 * shrinkage[4e3]


def test_four_single_seeds_gain_first_by_degrees_of_freedom(short, held_out):
    table = judged(short, candidate_runs(short.fit, LADDER), held_out)
    by_t = 1 - t_quantile(0.95, short.degrees + 1) / t_quantile(0.95, short.degrees)
    assert (table["shrinkage"] >= by_t - 1e-9).all()
    assert by_t > 0.5 * table["shrinkage"].median()


def test_plan_keeps_to_the_budget(draws, held_out):
    candidates = candidate_runs(draws.fit, LADDER)
    cheapest = (6 * candidates[SIZE] * candidates["exposure"]).min()
    planned = plan_runs(draws, COST, candidates, held_out, 30 * cheapest)
    assert planned["cumulative_flops"].iloc[-1] <= 30 * cheapest
    np.testing.assert_allclose(planned["cumulative_flops"], planned["flops"].cumsum())
    np.testing.assert_allclose(planned["half_width_now"][1:], planned["half_width_after"][:-1])
    assert (planned["shrinkage"] >= 0.01).all()


def test_plan_begins_with_the_best_next_run_and_may_repeat_it(short, held_out):
    candidates = candidate_runs(short.fit, LADDER)[2:3]  # one candidate, not at index 0
    first = judged(short, candidates, held_out).iloc[0]
    planned = plan_runs(short, COST, candidates, held_out, 3.5 * first["flops"])
    assert len(planned) == 3
    assert planned["half_width_after"].iloc[0] == pytest.approx(first["half_width_after"])
    assert planned["shrinkage"].is_monotonic_decreasing


def test_plan_stops_when_nothing_helps(draws, held_out):
    planned = plan_runs(draws, COST, candidate_runs(draws.fit, LADDER)[:1], held_out, 1e30)
    assert len(planned) < 60
    dull = pd.DataFrame({SIZE: [4e3], "exposure": EXPOSURES[0]})
    many = dataclasses.replace(draws, degrees=1000)
    assert plan_runs(many, COST, dull, held_out, 1e30).empty


def test_candidates_are_rungs_and_the_middles_between_them(draws):
    table = candidate_runs(draws.fit, LADDER)
    assert len(table) == 7 * 3
    assert (table["kind"] == "another seed").sum() == 4 * 3
    assert set(table["exposure"] / EXPOSURES[-1]) == {0.5, 1.0, 2.0}
    middle = table.loc[table["rung"] == "between 4000 and 12000", SIZE]
    np.testing.assert_allclose(middle, np.sqrt(4e3 * 1.2e4))
    assert table.groupby("exposure")["checkpoints"].unique().map(list).tolist() == [[5], [6], [7]]
    frame = pd.DataFrame({"rung": LADDER.index.repeat(2), SIZE: LADDER.to_numpy().repeat(2)})
    pd.testing.assert_frame_equal(candidate_runs(draws.fit, frame), table)


def test_a_size_law_is_asked_only_at_its_exposure(ladder, held_out):
    table = ladder()
    sizes_only = resample(fit(size_law(True, (0.0, 0.8)), table[table["exposure"] == EXPOSURES[-1]]), draws=50)
    candidates = candidate_runs(sizes_only.fit, LADDER)
    assert (candidates["checkpoints"] == 1).all()
    assert (judged(sizes_only, candidates, held_out)["shrinkage"] > 0).all()
    with pytest.raises(ValueError, match="size law was not fitted at"):
        judged(sizes_only, candidates.assign(exposure=1e4), held_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": pd.DataFrame({SIZE: [], "exposure": []})}, "candidates has no rows"),
        ({"candidates": pd.DataFrame({SIZE: [1e4], "exposure": [0.0]})}, "exposure is 0.0 in candidates"),
        ({"candidates": pd.DataFrame({SIZE: [np.nan], "exposure": [1e4]})}, "is nan in candidates"),
        ({"candidates": pd.DataFrame({"exposure": [1e4]})}, "'params_non_embedding' is missing from candidates"),
        (
            {"candidates": pd.DataFrame({SIZE: [1e4], "exposure": [1.6e5], "checkpoints": [9]})},
            "a whole number from 1 to 6",
        ),
        ({"target": pd.DataFrame({SIZE: [], "exposure": []})}, "target has no rows"),
        ({"budget_flops": 1e3}, "the cheapest candidate costs"),
        ({"budget_flops": np.nan}, "the cheapest candidate costs"),
        ({"level": 1.0}, "level is 1.0"),
    ],
)
def test_bad_input_is_refused(draws, held_out, change, message):
    good = {"candidates": candidate_runs(draws.fit, LADDER), "target": held_out, "budget_flops": 1e12}
    with pytest.raises(ValueError, match=message):
        plan_runs(draws, COST, **(good | change))


def test_a_law_through_every_run_is_refused(law, ladder, held_out):
    three = resample(fit(law, ladder(seeds=1, sizes=SIZES[:3])), draws=20)
    with pytest.raises(ValueError, match="passes through all 3 runs"):
        judged(three, candidate_runs(three.fit, LADDER), held_out)
