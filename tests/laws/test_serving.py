import dataclasses

import numpy as np
import pytest

from rankscale_utils.laws import Cost, fit, joint_law, kaplan_law, optimal, resample, size_law
from rankscale_utils.laws.serving import Service, best_sizes, least_cost, search_window, within_budget

from .conftest import EXPOSURES, SIZES, TRUTH

COST = Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])
SERVICE = Service(queries=1e6, depth=100, training_price=1.4, serving_price=0.7)
BUDGETS = np.geomspace(1e-4, 1e2, 5)
LAWS = {
    "rising": (joint_law(True, (0.0, 0.8)), TRUTH),
    "falling": (joint_law(False), TRUTH),
    "rising gap": (joint_law(True, (0.0, 0.8), "gap"), np.array([1.6, 6.0, 0.35, 12.0, 0.3])),
    "falling gap": (joint_law(False, scale="gap"), np.array([-1.5, 6.0, 0.35, 12.0, 0.3])),
    "Kaplan": (kaplan_law(True, (0.0, 0.8)), np.array([0.6, 3.0, 0.3, 40.0, 0.25])),
    "Kaplan gap": (kaplan_law(False, scale="gap"), np.array([-1.0, 30.0, 0.3, 400.0, 0.25])),
}


@pytest.fixture(params=LAWS)
def known(request, ladder):
    """A fit whose coefficients are exactly the law's."""
    law, truth = LAWS[request.param]
    found = fit(law, ladder(between=0, within=0, law=law, truth=truth))
    return dataclasses.replace(found, coefficients=dict(zip(law.coefficient_names, truth.tolist(), strict=True)))


@pytest.fixture
def draws(law, ladder):
    return resample(fit(law, ladder()), draws=200)


def dollars(service, N, D):
    training = service.training_price * COST.flops_per_unit(N) * D / 1e18
    pairs = service.queries * service.depth
    return training, service.serving_price * pairs * COST.flops_per_unit(N) / 3 / 1e18


def test_the_budgets_optimum_is_what_brute_force_finds(known):
    for row in within_budget(known, COST, SERVICE, BUDGETS).itertuples():
        training, serving = dollars(SERVICE, row.size, row.exposure)
        assert (training + serving, training, serving) == pytest.approx((row.budget, row.training, row.serving))
        assert known.predict(row.size, row.exposure)[0] == pytest.approx(row.value)
        sizes = np.geomspace(row.size / 1000, row.size * 1000, 20001)
        left = row.budget - dollars(SERVICE, sizes, 0)[1]
        sizes, left = sizes[left > 0], left[left > 0]
        brute = known.predict(sizes, left / (SERVICE.training_price * COST.flops_per_unit(sizes) / 1e18))
        assert known.law.sign * row.value <= (known.law.sign * brute).min() + 1e-12


def test_the_least_cost_is_what_brute_force_finds(known):
    wanted = known.predict(5e4, [1e5, 1e6])
    for row in least_cost(known, COST, SERVICE, wanted).itertuples():
        assert row.status == "reachable"
        assert known.predict(row.size, row.exposure)[0] == pytest.approx(row.wanted, abs=1e-9)
        assert sum(dollars(SERVICE, row.size, row.exposure)) == pytest.approx(row.total)
        sizes, exposures = np.meshgrid(np.geomspace(row.size / 30, row.size * 30, 801),
                                       np.geomspace(row.exposure / 30, row.exposure * 30, 801))  # fmt: skip
        value = known.predict(sizes.ravel(), exposures.ravel())
        enough = known.law.sign * value <= known.law.sign * row.wanted
        assert row.total <= sum(dollars(SERVICE, sizes.ravel()[enough], exposures.ravel()[enough])).min() * (1 + 1e-9)


def test_cost_and_quality_are_two_sides_of_one_optimum(known):
    best = within_budget(known, COST, SERVICE, BUDGETS)
    back = least_cost(known, COST, SERVICE, best["value"])
    np.testing.assert_allclose(back["total"], BUDGETS, rtol=1e-6)
    np.testing.assert_allclose(back["size"], best["size"], rtol=1e-3)


def test_without_queries_only_training_is_paid_for(known, draws):
    unserved = dataclasses.replace(SERVICE, queries=0)
    flops = BUDGETS / SERVICE.training_price * 1e18
    for law in (known, draws):
        found, expected = within_budget(law, COST, unserved, BUDGETS), optimal(law, COST, flops)
        for column in set(expected) - {"flops", "level"}:
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-4)
        assert (found["serving"] == 0).all()
    drawn = least_cost(draws, COST, unserved, 0.3)
    assert drawn[["serving", "serving_lo", "serving_hi"]].to_numpy() == pytest.approx(0)
    assert drawn["total"][0] == drawn["training"][0]


def test_the_more_is_served_the_smaller_the_model(known):
    for name in ("queries", "depth", "serving_price"):
        more = [dataclasses.replace(SERVICE, **{name: getattr(SERVICE, name) * times}) for times in (1, 30, 900)]
        for solve, at in ((within_budget, 0.01), (least_cost, known.predict(5e4, 1e6))):
            found = [solve(known, COST, service, at)["size"][0] for service in more]
            assert found[0] > found[1] > found[2]


def test_intervals_are_in_order_and_within_the_budget(draws):
    best = within_budget(draws, COST, SERVICE, BUDGETS).iloc[0:]
    least = least_cost(draws, COST, SERVICE, [0.2, 0.3])
    for table, names in ((best, ("size", "exposure", "value", "training", "serving")), (least, ("size", "total"))):
        for name in names:
            assert (table[f"{name}_lo"] <= table[name]).all()
            assert (table[name] <= table[f"{name}_hi"]).all()
    served = [dollars(SERVICE, size, 0)[1] for size in best["size_hi"]]
    assert (np.array(served) <= BUDGETS * (1 + 1e-9)).all()
    assert (best[["training_hi", "serving_hi"]].max(axis=1) <= BUDGETS).all()
    assert (least["reached"] == 1).all()
    again = within_budget(draws, COST, SERVICE, BUDGETS, level=0.5)
    assert (again["size_hi"] < best["size_hi"]).all()


def test_sizes_of_the_draws_are_those_behind_the_interval(draws):
    sizes = best_sizes(draws, COST, SERVICE, 0.01)
    one = dataclasses.replace(draws.fit, coefficients=dict(zip(draws.fit.coefficients, draws.coefficients[7])))  # noqa: B905
    assert sizes.shape == (200,)
    assert sizes[7] == pytest.approx(within_budget(one, COST, SERVICE, 0.01)["size"][0])


def test_what_no_money_reaches_is_said_in_a_sentence(draws, known):
    most = draws.fit.vector[0]
    table = least_cost(draws, COST, SERVICE, [0.3, most - 1e-4, most + 0.02])
    assert list(table["status"].str.split(":").str[0]) == ["reachable", "reachable", "out of reach"]
    assert f"no further than {most:.4f}" in table["status"][2]
    assert table.loc[2, ["size", "exposure", "total", "total_hi"]].isna().all()
    assert table["reached"][1] < 0.95  # half of the draws level off before it, so no cost is too high
    assert np.isinf(table["total_hi"][1])
    beyond = known.law.from_scale(known.vector[0] - known.law.sign * 0.05)
    assert least_cost(known, COST, SERVICE, beyond)["status"][0].startswith("out of reach")


def test_a_budget_that_serves_no_measured_size_buys_a_smaller_one(known):
    row = within_budget(known, COST, SERVICE, 1e-6).iloc[0]
    assert row["size"] < SIZES[0]
    assert row["serving"] < 1e-6
    low, high = search_window(known)
    assert low < np.log(row["size"]) < np.log(EXPOSURES[-1]) < high


@pytest.mark.parametrize("name", ["queries", "depth", "training_price", "serving_price"])
@pytest.mark.parametrize("number", [-1.0, np.nan, np.inf])
def test_a_service_that_cannot_be_is_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} is {number}; give"):
        dataclasses.replace(SERVICE, **{name: number})


def test_refusals(known, ladder):
    with pytest.raises(ValueError, match="no best exposure"):
        dataclasses.replace(SERVICE, training_price=0)
    for solve, what in ((within_budget, "budget"), (least_cost, "wanted value")):
        with pytest.raises(ValueError, match=f"{what} is .*positive, finite"):
            solve(known, COST, SERVICE, [1.0, -2.0])
        table = ladder()
        size_only = fit(size_law(True), table[table["exposure"] == EXPOSURES[-1]])
        with pytest.raises(ValueError, match="joint law"):
            solve(size_only, COST, SERVICE, 0.3)
