from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Average, Cost, Series, averages, candidate_runs, known, plan_runs
from rankscale_utils.laws.design import Doubt

from .conftest import EXPOSURES, SIZES
from .test_allocation import average_of

COST, TARGET = Cost.six_n(), pd.DataFrame({"N": [4.4e5], "D": [1.6e5]})


def single_seeds() -> Average:
    return average_of("additive", seeds=1, between=0.004)


def candidates_of(average: Average) -> pd.DataFrame:
    return candidate_runs(average.series.table, TARGET)


def half_width(average: Average) -> float:
    made = average.forecast(TARGET).query("kind == 'new_run'").iloc[0]
    return (made["hi"] - made["lo"]) / 2


def test_an_observation_narrows_as_gaussians_are_conditioned():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    doubt = Doubt(root @ root.T, np.array([0.5, 0.2, 0.1, 0.3]))
    targets = np.array([2, 3])
    for place in (0, 1):
        after = doubt.after(place)
        rest = doubt.covariance[np.ix_(targets, [place])]
        seen = doubt.covariance[place, place] + doubt.noise[place]
        expected = doubt.covariance[np.ix_(targets, targets)] - rest @ rest.T / seen
        np.testing.assert_allclose(after.covariance[np.ix_(targets, targets)], expected)
        np.testing.assert_allclose(doubt.narrowed(targets)[place], np.sqrt(after.of_runs(targets)).mean())


def test_the_width_now_is_that_of_the_forecast():
    average = single_seeds()
    planned = plan_runs(average, COST, candidates_of(average), TARGET, 1e13)
    assert planned["half_width_now"].iloc[0] == pytest.approx(half_width(average))
    np.testing.assert_allclose(planned["half_width_now"][1:], planned["half_width_after"][:-1])
    np.testing.assert_allclose(planned["shrinkage"], 1 - planned["half_width_after"] / planned["half_width_now"])


def test_training_the_run_narrows_at_least_as_foreseen():
    average = single_seeds()
    between = candidates_of(average).query("N > 2e5 and D == 1.6e5")
    foreseen = plan_runs(average, COST, between, TARGET, 6 * between["N"].iloc[0] * 1.7e5).iloc[0]
    widths, rows = [], average.series.table
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = average.forecast(pd.DataFrame({"N": between["N"].iloc[0], "D": EXPOSURES}))["forecast"][
            : len(EXPOSURES)
        ]
        values = values.to_numpy() + rng.normal(0, 0.004) + rng.normal(0, 0.002, len(EXPOSURES))
        run = pd.DataFrame({"run": "next", "rung": "next", "N": between["N"].iloc[0], "D": EXPOSURES, "value": values})
        series = Series(average.series.labels, pd.concat([rows, run]), True, (0.0, 0.8), "arcsine")
        widths.append(half_width(averages([series], known(), 300)[0]))
    assert 0.6 < np.mean(widths) / foreseen["half_width_after"] < 1.1
    assert foreseen["half_width_after"] < foreseen["half_width_now"]


def test_a_run_near_the_target_tells_more_than_a_small_one():
    average = single_seeds()
    candidates = pd.DataFrame({"N": [4e3, 2.2e5], "D": 1.6e5})
    small, near = (
        plan_runs(average, COST, candidates.iloc[[i]], TARGET, 6 * candidates["N"][i] * 1.7e5) for i in (0, 1)
    )
    assert near["shrinkage"].iloc[0] > 2 * (small["shrinkage"].iloc[0] if len(small) else 0.005)


def test_a_plan_keeps_to_its_budget_and_carries_columns_along():
    average = single_seeds()
    candidates = candidates_of(average).assign(note="kept")
    planned = plan_runs(average, COST, candidates, TARGET, 3e11)
    assert planned["cumulative_flops"].iloc[-1] <= 3e11
    np.testing.assert_allclose(planned["cumulative_flops"], planned["flops"].cumsum())
    np.testing.assert_allclose(planned["flops"], 6 * planned["N"] * planned["D"])
    assert (planned["note"] == "kept").all()
    assert (planned["shrinkage"] >= 0.02).all()


def test_where_nothing_helps_nothing_is_planned():
    average = average_of("additive", seeds=6)
    dull = pd.DataFrame({"N": [4e3], "D": EXPOSURES[0]})
    assert plan_runs(average, COST, dull, TARGET, 1e30).empty


def test_candidates_are_rungs_the_middles_between_them_and_one_on_the_way_to_the_target():
    average = single_seeds()
    table = candidates_of(average)
    assert len(table) == (4 + 3 + 1) * 3
    assert (table["kind"] == "another seed").sum() == 4 * 3
    assert set(table["D"] / EXPOSURES[-1]) == {0.5, 1.0, 2.0}
    middle = table.loc[table["rung"] == "between 4000 and 12000", "N"]
    np.testing.assert_allclose(middle, np.sqrt(4e3 * 1.2e4))
    way = table.loc[table["rung"] == f"between {SIZES[-1]:g} and the one to forecast", "N"]
    np.testing.assert_allclose(way, np.sqrt(SIZES[-1] * 4.4e5))
    ends = average.series.last
    assert set(candidate_runs(ends, TARGET)["D"]) == {EXPOSURES[-1]}  # of a size law, at its own exposure alone


def test_where_no_run_tells_what_exposure_does_one_at_another_is_planned():
    ends = single_seeds().series.last
    (average,) = averages([replace(single_seeds().series, table=ends)], known(), 200)
    longer = TARGET.assign(D=4 * EXPOSURES[-1])
    first = plan_runs(average, COST, candidate_runs(ends, longer), longer, 1e30).iloc[0]
    assert first["D"] == pytest.approx(2 * EXPOSURES[-1])
    assert first["half_width_after"] < first["half_width_now"] / 2


def test_candidates_of_a_ladder_of_even_tokens_a_parameter_keep_to_it():
    average = single_seeds()
    uneven = average.series.table.assign(D=lambda rows: rows["D"] * rows["N"] / SIZES[-1])
    target = TARGET.assign(D=lambda rows: EXPOSURES[-1] * rows["N"] / SIZES[-1])
    offered = candidate_runs(uneven, target)
    assert set((offered["D"] / offered["N"] / (EXPOSURES[-1] / SIZES[-1])).round(9)) == {0.5, 1.0, 2.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"budget_flops": 1.0}, "budget_flops is 1; the cheapest candidate costs"),
     ({"candidates": pd.DataFrame({"N": [], "D": []})}, "no rows to choose from")],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(change, message):
    average = single_seeds()
    given = {"candidates": candidates_of(average), "budget_flops": 1e12} | change
    with pytest.raises(ValueError, match=message):
        plan_runs(average, COST, given["candidates"], TARGET, given["budget_flops"])
