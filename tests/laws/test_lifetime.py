import dataclasses

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.laws import Cost, fit, kaplan_law, resample, size_law
from rankscale_utils.laws.lifetime import Life, best_split

LAW = kaplan_law(False)
P1 = np.array([0.03, 3.6e4, 0.56, 7.1e3, 1.31])  # arXiv 2403.18684, §5.3: asymptote, A, alpha, B, beta
# Assumed, as P1's own constants were not at hand: 10,000 steps of 256 queries (32 tokens) with a passage and a negative
# each (180), $4 an A100-hour at 8e13 FLOP/s, $0.6 an annotated pair.
TOKENS = 32 + 2 * 180
COST = Cost((0.0, 1.0), (np.log(6.0 * TOKENS), np.log(6.0 * TOKENS) + 1.0))
LIFE = Life(annotation=0.6, training_price=14, serving_price=14, exposure=2.56e6, epochs=0, text_share=60 / TOKENS)
WEB = dataclasses.replace(LIFE, texts=1e11)


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
    found = fit(LAW, measured(), exposure="annotations")
    return dataclasses.replace(found, coefficients=dict(zip(LAW.coefficient_names, P1.tolist(), strict=True)))


@pytest.fixture(scope="module")
def draws():
    return resample(fit(LAW, measured(0.02, seeds=2), exposure="annotations"), draws=100)


LIVES = {
    "steps fixed": dataclasses.replace(LIFE, texts=1e8),
    "epochs": dataclasses.replace(LIFE, exposure=0, epochs=20, texts=1e8),
    "annotation free": dataclasses.replace(LIFE, annotation=0, exposure=0, epochs=20, texts=1e8),
    "both": dataclasses.replace(LIFE, epochs=3),
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_the_best_split_is_what_brute_force_finds_and_costs_the_budget(p1, life):
    for row in best_split(p1, COST, life, [2e4, 1e6]).itertuples():
        lived = life if row.inference else life.without_inference()
        found = lived.costs(COST, row.size, row.annotations).iloc[0]
        assert found["total"] == pytest.approx(row.budget)
        dollars = [row.annotation_dollars, row.training_dollars, row.inference_dollars]
        assert dollars == pytest.approx(found[["annotation", "training", "inference"]].tolist())
        assert p1.predict(row.size, row.annotations)[0] == pytest.approx(row.value)
        sizes = np.geomspace(row.size / 1e3, row.size * 1e3, 20001)
        none, one = (lived.costs(COST, sizes, D)["total"].to_numpy() for D in (0, 1))
        affordable = none < row.budget
        annotations = (row.budget - none[affordable]) / (one - none)[affordable]
        assert row.value <= p1.predict(sizes[affordable], annotations).min() + 1e-9


def test_a_life_costs_what_is_counted_by_hand():
    life = Life(annotation=0.5, training_price=2, serving_price=3, exposure=1e3, epochs=2, texts=1e6, text_share=0.25)
    found = life.costs(Cost.six_n(), 1e9, 1e4).iloc[0]
    assert found["annotation"] == pytest.approx(5e3)
    assert found["training"] == pytest.approx(2e-18 * 6e9 * (1e3 + 2 * 1e4))
    assert found["inference"] == pytest.approx(3e-18 * 6e9 * 0.25 * 1e6)
    assert found["total"] == pytest.approx(found[:3].sum())


def test_p1s_budget_buys_billions_of_parameters_and_millions_once_inference_counts(p1):
    counted, left_out = best_split(p1, COST, WEB, 2e4).itertuples()
    assert counted.inference
    assert not left_out.inference
    assert 2e9 < left_out.size < 3e10  # P1: about 13B
    assert 1e6 < counted.size < 1e8  # P1: millions
    assert counted.value > left_out.value
    assert left_out.inference_dollars == 0
    assert left_out.annotations == pytest.approx(left_out.annotation_dollars / 0.6)


def test_draws_give_every_budget_an_interval(draws):
    table = best_split(draws, COST, WEB, [2e4, 2e5])
    assert table["inference"].tolist() == [True, False, True, False]
    for name in ("size", "annotations", "value"):
        assert (table[f"{name}_lo"] < table[name]).all()
        assert (table[name] < table[f"{name}_hi"]).all()
    assert (table["level"] == 0.95).all()
    assert (table["annotations_hi"] <= table["budget"] / WEB.annotation).all()
    spent = WEB.costs(COST, table["size_hi"], 0)["total"][table["inference"]]
    assert (spent <= table["budget"][table["inference"]] * (1 + 1e-9)).all()
    assert table["size"].to_numpy() == pytest.approx(best_split(draws.fit, COST, WEB, [2e4, 2e5])["size"].to_numpy())


def test_a_budget_below_the_cheapest_run_is_one_sentence(p1):
    cheapest = WEB.costs(COST, 5e5, 1e3)["total"].iloc[0]
    assert len(best_split(p1, COST, WEB, cheapest)) == 2
    with pytest.raises(ValueError, match=r"budget \$\S+ is below the \$\S+ that the cheapest measured run costs"):
        best_split(p1, COST, WEB, [2e4, 0.99 * cheapest])


@pytest.mark.parametrize("change", [{"annotation": -1}, {"texts": np.inf}, {"annotation": 0, "epochs": 0}])
def test_impossible_prices_are_refused(change):
    with pytest.raises(ValueError, match=r"annotation|texts"):
        dataclasses.replace(LIFE, **change)


def test_other_laws_and_budgets_are_refused(p1):
    with pytest.raises(ValueError, match="budget"):
        best_split(p1, COST, LIFE, -1)
    size_only = fit(size_law(False), measured(), exposure="annotations")
    with pytest.raises(ValueError, match="joint"):
        best_split(size_only, COST, LIFE, 1e6)
