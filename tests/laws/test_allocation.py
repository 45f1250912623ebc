from functools import cache

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import (
    FORWARD,
    Average,
    Cost,
    Life,
    Reach,
    Series,
    averages,
    exponents,
    joint_law,
    kaplan_law,
    known,
    least_cost,
    optimal,
    within_budget,
)
from rankscale_utils.laws.allocation import INSIDE, weighted_quantile

from .conftest import EXPOSURES, SIZES, TRUTH

LADDER_COST = Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])  # its slope changes from rung to rung
COSTS = {"6ND": Cost.six_n(), "ladder": LADDER_COST}
BUDGETS = np.geomspace(1e9, 1e12, 5)
LIFE = Life(annotation=0, training_price=1.4, serving_price=0.7, texts=1e8, text_share=FORWARD)
LAWS = {
    "additive": (joint_law(True, (0.0, 0.8)), TRUTH),
    "falling": (joint_law(False), TRUTH),
    "Kaplan": (kaplan_law(True, (0.0, 0.8)), np.array([0.6, 3.0, 0.3, 40.0, 0.25])),
}


def table_of(law, truth, between=0.0005, seeds=2, sizes=SIZES) -> pd.DataFrame:
    rng, runs = np.random.default_rng(0), []
    for N in sizes:
        for seed in range(seeds):
            values = (
                law.predict(truth, N, EXPOSURES) + rng.normal(0, between) + rng.normal(0, between / 2, len(EXPOSURES))
            )
            runs.append(
                pd.DataFrame({"run": f"{N:g}-{seed}", "rung": f"{N:g}", "N": N, "D": EXPOSURES, "value": values})
            )
    return pd.concat(runs, ignore_index=True)


@cache
def average_of(name: str, forms: tuple[str, ...] = (), **ladder: float) -> Average:
    law, truth = LAWS[name]
    series = Series({"objective": name}, table_of(law, truth, **ladder), law.rising, law.limits,
                    "arcsine" if law.rising else "gap")  # fmt: skip
    return averages([series], known(), 300, forms)[0]


def reach_of(average: Average) -> Reach:
    return Reach.of(average.series.table)


def closed_form(cost_factor: float, flops: float) -> float:
    """The best size of the additive truth where a unit of exposure costs factor · N (arXiv 2203.15556, eq. 4)."""
    _, A, alpha, B, beta = TRUTH
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / cost_factor) ** (beta / (alpha + beta))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_no_other_size_is_forecast_better_at_the_same_cost(name, cost):
    average = average_of(name)
    sign = 1 if average.series.rising else -1
    for row in optimal(average, cost, BUDGETS, reach_of(average)).itertuples():
        np.testing.assert_allclose(cost.flops_per_unit(row.size) * row.exposure, row.flops, rtol=1e-9)
        sizes = np.exp(np.linspace(*reach_of(average).sizes, 300))
        exposures = row.flops / cost.flops_per_unit(sizes)
        low, high = np.exp(reach_of(average).exposures)
        inside = (exposures >= low) & (exposures <= high)
        said = average.forecast(pd.DataFrame({"N": sizes[inside], "D": exposures[inside]}))
        best = (sign * said["forecast"]).max()
        assert sign * row.value >= best - 2e-4


@pytest.mark.parametrize("name", LAWS)
def test_what_a_budget_reaches_is_the_forecast_of_that_run(name):
    average = average_of(name)
    best = optimal(average, LADDER_COST, BUDGETS, reach_of(average))
    served = within_budget(average, LADDER_COST, LIFE, [1e-5, 1e-4], reach_of(average))
    for table in (best, served):
        at = table[["size", "exposure"]].set_axis(["N", "D"], axis=1)
        said = average.forecast(at).query("kind == 'new_run'")
        np.testing.assert_allclose(table[["value", "value_lo", "value_hi"]], said[["forecast", "lo", "hi"]], rtol=1e-12)


def test_the_optimum_of_powers_is_the_closed_form():
    average = average_of("additive", ("additive",), seeds=6)
    found = optimal(average, Cost.six_n(), [1e10, 1e11], reach_of(average))
    for row in found.itertuples():
        assert row.size == pytest.approx(closed_form(6, row.flops), rel=0.15)
        assert row.size_lo < closed_form(6, row.flops) < row.size_hi
        assert row.status == INSIDE


def test_exponents_hold_the_truth_and_add_up_to_one():
    table = exponents(average_of("additive"), Cost.six_n()).set_index("exponent")
    assert table["value"].sum() == pytest.approx(1, abs=1e-6)
    alpha, beta = TRUTH[[2, 4]]
    assert table.loc["a", "lo"] < beta / (alpha + beta) < table.loc["a", "hi"]
    assert table.loc["b", "lo"] == pytest.approx(1 - table.loc["a", "hi"], abs=1e-3)


def test_what_costs_more_than_the_reach_is_not_told():
    average = average_of("additive")
    reach = reach_of(average)
    corner = np.exp(LADDER_COST.log_per_unit(np.array([reach.sizes[1]]))[0] + reach.exposures[1])
    told, beyond = optimal(average, LADDER_COST, [0.9 * corner, 1.1 * corner], reach).to_dict("records")
    assert told["size"] <= np.exp(reach.sizes[1]) * (1 + 1e-9)
    assert told["exposure"] <= np.exp(reach.exposures[1]) * (1 + 1e-9)
    assert np.isnan([beyond["size"], beyond["value"], beyond["value_hi"]]).all()
    assert beyond["status"].startswith("not told by these runs")


def test_a_line_that_crosses_the_reach_between_two_sizes_of_the_search_is_found():
    reach, crossing = Reach((0.0, 7.0), (1.0, 9.0)), 4.56789
    sizes, exposures = reach.line(lambda log_N: 5 - 5000 * (log_N - crossing))
    np.testing.assert_allclose(sizes, crossing, atol=1e-3)
    np.testing.assert_allclose(exposures[[0, -1]], [9, 1], atol=1e-3)
    assert not len(reach.line(lambda log_N: 0.9 - log_N)[0])  # all cost more
    assert not len(reach.line(lambda log_N: 20 - log_N)[0])  # all cost less


def test_an_optimum_at_the_end_of_the_reach_says_at_which():
    reach = Reach((0.0, 5.0), (1.0, 9.0))
    assert reach.place(2.0, 3.0) == INSIDE
    assert "10 times the largest size" in reach.place(5.0, 3.0)
    assert "10 times the longest exposure" in reach.place(2.0, 9.0)
    assert "a tenth of the smallest size" in reach.place(0.0, 3.0)
    assert "a tenth of the shortest exposure" in reach.place(2.0, 1.0)


@pytest.mark.parametrize("name", LAWS)
def test_the_least_cost_of_what_a_budget_reaches_is_the_budget(name):
    average = average_of(name)
    best = within_budget(average, LADDER_COST, LIFE, [2e-5], reach_of(average)).iloc[0]
    least = least_cost(average, LADDER_COST, LIFE, best["value"], reach_of(average)).iloc[0]
    assert least["total"] == pytest.approx(2e-5, rel=0.02)
    assert least["value"] == pytest.approx(best["value"], abs=2e-4)
    assert least["training"] + least["serving"] == pytest.approx(least["total"])


def test_what_nothing_within_reach_is_forecast_to_reach_says_so():
    average = average_of("additive")
    row = least_cost(average, LADDER_COST, LIFE, 0.79, reach_of(average)).iloc[0]
    assert row["status"].startswith("out of reach: with ten times the largest size and longest exposure fitted 0.")
    assert np.isnan(row["total"])


def test_the_more_is_served_the_smaller_the_model():
    average = average_of("additive")
    lives = [Life(annotation=0, texts=texts, text_share=FORWARD, serving_price=0.7) for texts in (0, 1e8, 1e9)]
    sizes = [within_budget(average, LADDER_COST, life, 2e-5, reach_of(average))["size"].iloc[0] for life in lives]
    assert sizes[0] > sizes[1] > sizes[2]


def test_intervals_are_in_order_and_within_the_reach():
    average = average_of("additive", seeds=1, between=0.004)
    best = within_budget(average, LADDER_COST, LIFE, [5e-6, 2e-5, 1e-4], reach_of(average))
    for name in ("size", "exposure", "value", "training", "serving"):
        assert (best[f"{name}_lo"] <= best[name] * (1 + 1e-9)).all()
        assert (best[name] <= best[f"{name}_hi"] * (1 + 1e-9)).all()
    low, high = np.exp(reach_of(average).sizes)
    assert best["size_lo"].min() >= low * (1 - 1e-9)
    assert best["size_hi"].max() <= high * (1 + 1e-9)
    np.testing.assert_allclose(best["training"] + best["serving"], best["budget"], rtol=1e-6)


def test_cost_goes_through_the_ladder_and_keeps_its_end_slopes():
    np.testing.assert_allclose(LADDER_COST.flops_per_unit(SIZES), [5e5, 1.2e6, 3e6, 1.2e7])
    assert Cost.six_n().flops_per_unit(1e7) == pytest.approx(6e7)
    sizes = np.log([1e2, 5e3, 4e4, 1e7])
    np.testing.assert_allclose(LADDER_COST.log_size(LADDER_COST.log_per_unit(sizes)), sizes)
    slope = np.log(12 / 3) / np.log(1.1e5 / 3.6e4)
    assert LADDER_COST.flops_per_unit(1.1e6) == pytest.approx(1.2e7 * 10**slope)
    with pytest.raises(ValueError, match="1 sizes"):
        Cost.from_ladder([1e4, 1e4], [1e6, 1e6])
    with pytest.raises(ValueError, match="grow with size"):
        Cost.from_ladder([1e4, 2e4], [1e6, 1e6])


def test_a_cost_that_does_not_grow_is_one_power_through_all_rungs():
    sparse = Cost.through([1e6, 3e6, 9e6, 2.7e7], [6e8, 6e8, 5e8, 1.6e9])
    growth = np.polyfit(np.log([1e6, 3e6, 9e6, 2.7e7]), np.log([6e8, 6e8, 5e8, 1.6e9]), 1)[0]
    assert sparse.growth == pytest.approx(growth)
    assert np.log(sparse.flops_per_unit([1e6, 3e6, 9e6, 2.7e7])).mean() == pytest.approx(
        np.log([6e8, 6e8, 5e8, 1.6e9]).mean()
    )
    assert Cost.through([1e6, 3e6], [2e9, 1e9]).growth == pytest.approx(0.05)
    assert Cost.through(SIZES, [5e5, 1.2e6, 3e6, 1.2e7]) == LADDER_COST
    with pytest.raises(ValueError, match="1 sizes"):
        Cost.through([1e4, 1e4], [1e6, 1e6])


def test_a_quantile_counts_every_value_as_its_share():
    values, shares = np.array([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]]), np.array([0.2, 0.2, 0.6])
    np.testing.assert_allclose(weighted_quantile(values, shares, 0.5), [3.0, 7.0])
    np.testing.assert_allclose(weighted_quantile(values, shares, 0.1), [1.0, 7.0])
