import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from rankscale_utils.laws import (
    Cost,
    equal_compute,
    exponents,
    fit,
    isoflop,
    joint_law,
    kaplan_law,
    measured_at_equal_compute,
    optimal,
    parabola,
    resample,
    size_law,
)
from rankscale_utils.laws.allocation import _vertex

from .conftest import EXPOSURES, SIZES, TRUTH

LADDER_COST = Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])  # its slope changes from rung to rung
BUDGETS = np.geomspace(1e9, 1e15, 13)


@pytest.fixture(params=[True, False], ids=["rising", "falling"])
def fitted(ladder, request):
    law = joint_law(request.param, limits=(0.0, 0.8))
    return fit(law, ladder(between=0, within=0, law=law))


@pytest.mark.parametrize("cost", [Cost.six_n(), LADDER_COST], ids=["6ND", "ladder"])
def test_optimum_is_what_numeric_search_finds(fitted, cost):
    found = optimal(fitted, cost, BUDGETS)
    for row in found.itertuples():
        np.testing.assert_allclose(cost.flops_per_unit(row.size) * row.exposure, row.flops)
        np.testing.assert_allclose(fitted.predict(row.size, row.exposure)[0], row.value)
        grid = np.geomspace(row.size / 100, row.size * 100, 4001)
        best = (fitted.law.sign * isoflop(fitted, cost, row.flops, grid)["value"]).min()
        assert fitted.law.sign * row.value <= best + 1e-12


def test_power_law_cost_has_a_closed_form(fitted):
    def left(log_size, flops=1e12):
        size = np.exp(log_size)
        return fitted.law.sign * fitted.predict(size, flops / (6 * size))[0]

    numeric = minimize_scalar(left, bounds=(0, 25), method="bounded", options={"xatol": 1e-9})
    assert np.log(optimal(fitted, Cost.six_n(), 1e12)["size"].iloc[0]) == pytest.approx(numeric.x, abs=1e-4)
    growth = np.polyfit(np.log(BUDGETS), np.log(optimal(fitted, Cost.six_n(), BUDGETS)[["size", "exposure"]]), 1)[0]
    alpha, beta = TRUTH[[2, 4]]
    np.testing.assert_allclose(growth, np.array([beta, alpha]) / (alpha + beta), rtol=1e-5)


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


def test_intervals_hold_the_truth(law, ladder):
    draws = resample(fit(law, ladder()), draws=300)
    true = optimal(fit(law, ladder(between=0, within=0)), Cost.six_n(), [1e11])
    found = optimal(draws, Cost.six_n(), [1e11])
    for name in ("size", "exposure", "value"):
        assert found[f"{name}_lo"].iloc[0] < true[name].iloc[0] < found[f"{name}_hi"].iloc[0]
    table = exponents(draws, Cost.six_n()).set_index("exponent")
    assert table.loc["a", "value"] + table.loc["b", "value"] == pytest.approx(1)
    assert table.loc["a", "lo"] < 0.3 / 0.65 < table.loc["a", "hi"]


def test_equal_compute_shows_the_regret_of_a_wrong_law(law, ladder):
    table, right = ladder(between=0, within=0), fit(law, ladder(between=0, within=0))
    measured = measured_at_equal_compute(table, Cost.six_n())
    compared = equal_compute(measured, right, Cost.six_n())
    assert (compared["rungs"] >= 2).all()
    assert compared["regret"].max() < 5e-3  # only interpolation between checkpoints is left
    wrong = fit(law, ladder(between=0, within=0, truth=np.array([0.45, 1.5, 0.35, 0.05, 0.3])))
    assert equal_compute(measured, wrong, Cost.six_n())["regret"].max() > 1e-2


def test_equal_compute_never_reads_beyond_a_rungs_checkpoints(law, ladder):
    table = ladder(between=0, within=0)
    compared = equal_compute(measured_at_equal_compute(table, Cost.six_n()), fit(law, table), Cost.six_n())
    for row in compared.itertuples():
        for size in (row.picked, row.best):
            assert 6 * size * EXPOSURES[0] <= row.flops <= 6 * size * EXPOSURES[-1]


def test_allocation_needs_a_joint_law(ladder):
    table = ladder()
    sizes_only = fit(size_law(True), table[table["exposure"] == EXPOSURES[-1]])
    with pytest.raises(ValueError, match="size law; allocate with a joint law"):
        optimal(sizes_only, Cost.six_n(), 1e12)
    assert isinstance(isoflop(fit(joint_law(True), table), Cost.six_n(), [1e9, 1e10], SIZES), pd.DataFrame)


GAP = np.array([1.6, 6.0, 0.35, 12.0, 0.3])  # asymptote, A, alpha, B, beta, on the gap's scale
OTHER_LAWS = [
    (joint_law(True, (0.0, 0.8), "gap"), GAP),
    (joint_law(False, scale="gap"), GAP * [-1, 1, 1, 1, 1]),
    (kaplan_law(True, (0.0, 0.8)), np.array([0.6, 3.0, 0.3, 40.0, 0.25])),
    (kaplan_law(False, scale="gap"), np.array([-1.0, 30.0, 0.3, 400.0, 0.25])),
]


@pytest.mark.parametrize(("law", "truth"), OTHER_LAWS, ids=["rising gap", "falling gap", "Kaplan", "Kaplan gap"])
def test_the_optimum_of_other_forms_and_scales_is_what_a_grid_finds(law, truth, ladder):
    fitted = fit(law, ladder(between=0, within=0, law=law, truth=truth))
    fitted = dataclasses.replace(fitted, coefficients=dict(zip(law.coefficient_names, truth.tolist(), strict=True)))
    for row in optimal(fitted, LADDER_COST, BUDGETS).itertuples():
        np.testing.assert_allclose(fitted.predict(row.size, row.exposure)[0], row.value)
        grid = np.geomspace(row.size / 100, row.size * 100, 4001)
        best = (law.sign * isoflop(fitted, LADDER_COST, row.flops, grid)["value"]).min()
        assert law.sign * row.value <= best + 1e-12


@pytest.mark.parametrize("law", [joint_law(True, (0.0, 0.8), "gap"), joint_law(False, scale="gap")])
def test_intervals_on_the_gap_stay_within_the_limits(law, ladder):
    truth = GAP if law.rising else GAP * [-1, 1, 1, 1, 1]
    draws = resample(fit(law, ladder(law=law, truth=truth), scale="gap"), draws=100)
    found = optimal(draws, LADDER_COST, BUDGETS[2:])
    for name in ("size", "exposure", "value"):
        assert (found[f"{name}_lo"] <= found[name]).all()
        assert (found[name] <= found[f"{name}_hi"]).all()
    assert found["value_lo"].ge(0).all()
    assert found["value_hi"].le(law.limits[1]).all()


def test_the_parabola_agrees_with_a_law_that_it_can_see(law, ladder):
    table = ladder(between=0, within=0, sizes=tuple(np.geomspace(2e3, 2e6, 12)))
    measured = measured_at_equal_compute(table, Cost.six_n(), levels=20)
    checked = parabola(measured, fit(law, table), Cost.six_n())
    inside = checked[checked["status"] == "inside"]
    assert len(inside) >= 4
    assert (checked["rungs"] >= 3).all()
    assert inside["ratio"].between(0.3, 3).all()
    assert checked.loc[checked["status"] != "inside", "vertex"].isna().all()
    np.testing.assert_allclose(inside["law_size"], optimal(fit(law, table), Cost.six_n(), inside["flops"])["size"])


@pytest.mark.parametrize(
    ("falling", "status"),
    [((2, 1, 2.1), "inside"), ((1, 2, 1), "bends the wrong way"), ((1, 2, 4), "smallest"), ((4, 2, 1), "largest")],
)
def test_a_parabola_without_a_vertex_inside_says_so(falling, status):
    vertex, said = _vertex(np.log([1e3, 1e4, 1e5]), np.array(falling, float))
    assert status in said
    assert np.isfinite(vertex) == (status == "inside")
