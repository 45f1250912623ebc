import dataclasses

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import (
    FORWARD,
    Cost,
    Life,
    fit,
    joint_law,
    kaplan_law,
    resample,
    size_law,
    split_budget,
)

from .conftest import EXPOSURES, SIZES, TRUTH

COST = Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])
SERVED = Life(annotation=0, training_price=1.4, serving_price=0.7, texts=1e8, text_share=FORWARD)
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


def dollars(life, N, D):
    training = life.training_price * COST.flops_per_unit(N) * D / 1e18
    return training, life.serving_price * life.texts * COST.flops_per_unit(N) / 3 / 1e18


def test_the_budgets_optimum_is_what_brute_force_finds(known):
    for row in split_budget(known, COST, SERVED, BUDGETS).itertuples():
        training, serving = dollars(SERVED, row.size, row.exposure)
        assert (training + serving, training, serving) == pytest.approx((row.budget, row.training, row.serving))
        assert known.predict(row.size, row.exposure)[0] == pytest.approx(row.value)
        sizes = np.geomspace(row.size / 1000, row.size * 1000, 20001)
        left = row.budget - dollars(SERVED, sizes, 0)[1]
        sizes, left = sizes[left > 0], left[left > 0]
        brute = known.predict(sizes, left / (SERVED.training_price * COST.flops_per_unit(sizes) / 1e18))
        assert known.law.sign * row.value <= (known.law.sign * brute).min() + 1e-12


def test_the_more_is_served_the_smaller_the_model(known):
    for name in ("texts", "text_share", "serving_price"):
        more = [dataclasses.replace(SERVED, **{name: getattr(SERVED, name) * times}) for times in (1, 30, 900)]
        found = [split_budget(known, COST, life, 0.01)["size"][0] for life in more]
        assert found[0] > found[1] > found[2]


def test_intervals_are_in_order_and_within_the_budget(draws):
    best = split_budget(draws, COST, SERVED, BUDGETS)
    for name in ("size", "exposure", "value", "training", "serving"):
        assert (best[f"{name}_lo"] <= best[name]).all()
        assert (best[name] <= best[f"{name}_hi"]).all()
    served = [dollars(SERVED, size, 0)[1] for size in best["size_hi"]]
    assert (np.array(served) <= BUDGETS * (1 + 1e-9)).all()
    assert (best[["training_hi", "serving_hi"]].max(axis=1) <= BUDGETS).all()
    again = split_budget(draws, COST, SERVED, BUDGETS, level=0.5)
    assert (again["size_hi"] < best["size_hi"]).all()


def test_a_budget_that_serves_no_measured_size_buys_a_smaller_one(known):
    row = split_budget(known, COST, SERVED, 1e-6).iloc[0]
    assert row["size"] < SIZES[0]
    assert row["serving"] < 1e-6


@pytest.mark.parametrize("name", ["texts", "text_share", "training_price", "serving_price"])
@pytest.mark.parametrize("number", [-1.0, np.nan, np.inf])
def test_a_life_that_cannot_be_is_refused(name, number):
    with pytest.raises(ValueError, match=f"{name} is {number}; give"):
        dataclasses.replace(SERVED, **{name: number})


def test_refusals(known, ladder):
    with pytest.raises(ValueError, match="no best exposure"):
        dataclasses.replace(SERVED, training_price=0)
    with pytest.raises(ValueError, match=r"budget is .*positive, finite"):
        split_budget(known, COST, SERVED, [1.0, -2.0])
    table = ladder()
    size_only = fit(size_law(True), table[table["exposure"] == EXPOSURES[-1]])
    with pytest.raises(ValueError, match="joint law"):
        split_budget(size_only, COST, SERVED, 0.3)


# Annotated pairs: the law and the prices of arXiv 2403.18684.

LAW = kaplan_law(False)
P1 = np.array([0.03, 3.6e4, 0.56, 7.1e3, 1.31])  # arXiv 2403.18684, §5.3: asymptote, A, alpha, B, beta
# Assumed, as P1's own constants were not at hand: 10,000 steps of 256 queries (32 tokens) with a passage and a negative
# each (180), $4 an A100-hour at 8e13 FLOP/s, $0.6 an annotated pair.
TOKENS = 32 + 2 * 180
P1_COST = Cost((0.0, 1.0), (np.log(6.0 * TOKENS), np.log(6.0 * TOKENS) + 1.0))
P1_PRICES = {"annotation": 0.6, "training_price": 14, "serving_price": 14, "text_share": 60 / TOKENS}
ANNOTATED = Life(**P1_PRICES, fixed_exposure=2.56e6, epochs=0)
WEB = dataclasses.replace(ANNOTATED, texts=1e11)


def measured(noise=0.0, seeds=1, seed=0):
    """P1's sizes and numbers of annotations, each trained to its own end."""
    rng, rows = np.random.default_rng(seed), []
    for N in (5e5, 3e6, 1.2e7, 2.5e7, 8e7):
        for D in (1e3, 5e3, 2.5e4, 1e5, 5e5):
            for repeat in range(seeds):
                value = LAW.predict(P1, N, D)[0] * np.exp(rng.normal(0, noise))
                rows.append((f"{N:g}-{D:g}-{repeat}", N, D, value))
    return pd.DataFrame(rows, columns=["run", "params_non_embedding", "annotations", "value"])


@pytest.fixture(scope="module")
def p1():
    """P1's joint law, exactly as published."""
    fitted = fit(LAW, measured(), exposure="annotations")
    return dataclasses.replace(fitted, coefficients=dict(zip(LAW.coefficient_names, P1.tolist(), strict=True)))


@pytest.fixture(scope="module")
def p1_draws():
    return resample(fit(LAW, measured(0.02, seeds=2), exposure="annotations"), draws=100)


LIVES = {
    "steps fixed": dataclasses.replace(ANNOTATED, texts=1e8),
    "epochs": dataclasses.replace(ANNOTATED, fixed_exposure=0, epochs=20, texts=1e8),
    "annotation free": dataclasses.replace(ANNOTATED, annotation=0, fixed_exposure=0, epochs=20, texts=1e8),
    "both": dataclasses.replace(ANNOTATED, epochs=3),
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
@pytest.mark.parametrize("served", [True, False])
def test_a_life_within_its_budget_is_what_brute_force_finds(p1, life, served):
    life = life if served else life.without_serving()
    for row in split_budget(p1, P1_COST, life, [2e4, 1e6]).itertuples():
        spent = life.costs(P1_COST, row.size, row.exposure).iloc[0]
        assert spent["total"] == pytest.approx(row.budget)
        assert [getattr(row, part) for part in life.paid_for] == pytest.approx(spent[[*life.paid_for]].tolist())
        assert p1.predict(row.size, row.exposure)[0] == pytest.approx(row.value)
        sizes = np.geomspace(row.size / 1e3, row.size * 1e3, 20001)
        none, one = (life.costs(P1_COST, sizes, D)["total"].to_numpy() for D in (0, 1))
        affordable = none < row.budget
        annotations = (row.budget - none[affordable]) / (one - none)[affordable]
        assert row.value <= p1.predict(sizes[affordable], annotations).min() + 1e-9


def test_a_life_costs_what_is_counted_by_hand():
    life = Life(
        annotation=0.5, training_price=2, serving_price=3, fixed_exposure=1e3, epochs=2, texts=1e6, text_share=0.25
    )
    spent = life.costs(Cost.six_n(), 1e9, 1e4).iloc[0]
    assert spent["annotation"] == pytest.approx(5e3)
    assert spent["training"] == pytest.approx(2e-18 * 6e9 * (1e3 + 2 * 1e4))
    assert spent["serving"] == pytest.approx(3e-18 * 6e9 * 0.25 * 1e6)
    assert spent["total"] == pytest.approx(spent[:3].sum())


def test_p1s_budget_buys_billions_of_parameters_and_millions_once_inference_counts(p1):
    counted, left_out = (split_budget(p1, P1_COST, life, 2e4).iloc[0] for life in (WEB, WEB.without_serving()))
    assert 2e9 < left_out["size"] < 3e10  # P1: about 13B
    assert 1e6 < counted["size"] < 1e8  # P1: millions
    assert counted["value"] > left_out["value"]
    assert left_out["serving"] == 0
    assert left_out["exposure"] == pytest.approx(left_out["annotation"] / 0.6)


@pytest.mark.parametrize("life", [WEB, WEB.without_serving()], ids=["served", "unserved"])
def test_draws_give_every_annotated_budget_an_interval(p1_draws, life):
    table = split_budget(p1_draws, P1_COST, life, [2e4, 2e5])
    for name in ("size", "exposure", "value"):
        assert (table[f"{name}_lo"] < table[name]).all()
        assert (table[name] < table[f"{name}_hi"]).all()
    assert (table["level"] == 0.95).all()
    assert (table["exposure_hi"] <= table["budget"] / life.annotation).all()
    spent = life.costs(P1_COST, table["size_hi"], 0)["total"]
    assert (spent <= table["budget"] * (1 + 1e-9)).all()
    assert (table[["annotation_hi", "training_hi", "serving_hi"]].max(axis=1) <= table["budget"]).all()


@pytest.mark.parametrize("change", [{"annotation": -1}, {"texts": np.inf}, {"annotation": 0, "epochs": 0}])
def test_impossible_prices_are_refused(change):
    with pytest.raises(ValueError, match=r"annotation|texts"):
        dataclasses.replace(ANNOTATED, **change)
