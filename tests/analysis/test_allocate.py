"""Serving, the parabola and the verdicts of a study: its own numbers, its defaults, and what its pages say of them."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import laws
from rankscale_utils.analysis.budgets import best_within_budget, least_total_cost, life_of_reranker, total_budget
from rankscale_utils.analysis.compute import (
    best_at_budgets,
    compare_at_equal_compute,
    compute_exponents,
    in_every_universe,
    isoflop_check,
    training_costs,
)
from rankscale_utils.analysis.fit import joint_of
from rankscale_utils.errors import StudyError
from rankscale_utils.report import allocate as allocate_page
from rankscale_utils.report.prose import dollars

SIZES, EXPOSURES = (4e3, 1.2e4, 3.6e4, 1.1e5), np.geomspace(5e3, 1.6e5, 6)
TRUTH = (0.45, 1.5, 0.35, 3.0, 0.3)
LAWS = {"nDCG@10": laws.joint_law(True, (0.0, 0.8)), "CE9": laws.joint_law(False)}


@pytest.fixture(scope="module")
def fitted():
    """Two metrics of one objective whose laws are known, as `fits.fit_study` gives them."""
    rng, found = np.random.default_rng(0), []
    for metric, law in LAWS.items():
        runs = [
            pd.DataFrame({"rung": f"r{N:g}", "run": f"{N:g}-{seed}", "N": N, "D": EXPOSURES, "exposure": EXPOSURES,
                          "params_non_embedding": N,
                          "value": law.predict(np.array(TRUTH), N, EXPOSURES) + rng.normal(0, 0.003)})
            for N in SIZES for seed in range(3)
        ]  # fmt: skip
        labels = {"objective": "listwise", "metric": metric, "collection": "c"}
        rows = pd.concat(runs, ignore_index=True).assign(**labels)
        scale = "arcsine" if law.rising else "gap"
        (average,) = laws.averages([laws.Series(labels, rows, law.rising, law.limits, scale)], laws.known(), 200)
        found.append(SimpleNamespace(**labels, labels=labels, average=average, joint=joint_of(average), table=rows))
    return found


@pytest.fixture
def table(fitted):
    return pd.concat([one.table for one in fitted], ignore_index=True)


def costs_of(study, table):
    return training_costs(table, study.allocation.tokens_per_pair)[0]


def test_the_studys_own_numbers_are_used(new_study, fitted, table):
    study = new_study(allocation={"queries": "1e6", "depth": 50, "budget": 0.002, "wanted": 0.2})
    costs = costs_of(study, table)
    assert total_budget(study, table, costs) == 0.002
    best = best_within_budget(study, fitted, table, costs)
    assert list(best["metric"]) == ["nDCG@10", "CE9"]
    np.testing.assert_allclose(best["training"] + best["serving"], 0.002)
    np.testing.assert_allclose(best["share"], best["serving"] / 0.002)
    np.testing.assert_allclose(best["serving"], 1.4e-18 * 1e6 * 50 * costs["listwise"].flops_per_unit(best["size"]) / 3)
    least = least_total_cost(study, fitted, table, costs)
    assert least["wanted"][0] == 0.2
    largest = table[(table["metric"] == "CE9") & (table["N"] == SIZES[-1])]
    assert least["wanted"][1] == pytest.approx(largest.groupby("exposure")["value"].mean().min())


def test_the_default_budget_is_ten_trainings_and_serving(new_study, table):
    study = new_study()
    flops = 6 * 128 * SIZES[-1]
    expected = 1.4e-18 * (10 * flops * EXPOSURES[-1] + 1e7 * 100 * flops / 3)
    assert total_budget(study, table, costs_of(study, table)) == pytest.approx(expected)


def test_scoring_a_pair_costs_a_third_whatever_exposure_counts(new_study, table):
    study = new_study()
    tokens = table.assign(D=table["exposure"] * 60)
    cost, same = (costs_of(study, one)["listwise"] for one in (tokens, table))
    log_N = np.log(SIZES)
    a, b = life_of_reranker(study, tokens), life_of_reranker(study, table)
    np.testing.assert_allclose(a.log_fixed(cost, log_N), b.log_fixed(same, log_N))
    np.testing.assert_allclose(a.log_each(cost, log_N) + np.log(60), b.log_each(same, log_N))


def test_sentences_follow_the_numbers(new_study, fitted, table):
    study = new_study(allocation={"budget": 0.05, "wanted": 0.37})
    costs = costs_of(study, table)
    best, least = (solve(study, fitted, table, costs)
                   for solve in (best_within_budget, least_total_cost))  # fmt: skip
    (one,) = allocate_page.within_budget_sentences(study, best)
    assert f"reaches nDCG@10 on {best['collection'][0]} {best['value'][0]:.4f}" in one
    assert "non-embedding parameters trained on" in one
    assert 0.995 < best["share"][0] < 1
    assert "Serving takes more than 99% of the money" in one
    assert (
        f"0.3700 on {least['collection'][0]} is forecast at no less than $"
        in allocate_page.least_cost_sentences(study, least)[0]
    )
    beyond = new_study(allocation={"wanted": 0.79})
    unreached = least_total_cost(beyond, fitted, table, costs)
    assert (
        f"0.7900 on {unreached['collection'][0]} is out of reach: with ten times the largest size"
        in allocate_page.least_cost_sentences(beyond, unreached)[0]
    )
    assert allocate_page.budget_table(beyond, unreached).data.count("<td>–</td>") == 6
    assert "the study sets it" in allocate_page.serving_prices_sentence(study, 0.05)
    assert "10 times the training of the costliest run" in allocate_page.serving_prices_sentence(beyond, 1.0)


def test_a_study_without_joint_laws_says_so(new_study, fitted, table):
    study = new_study()
    alone = [SimpleNamespace(**vars(one) | {"joint": None}) for one in fitted]
    best = best_within_budget(study, alone, table, costs_of(study, table))
    assert "No series" in allocate_page.within_budget_sentences(study, best)[0]
    assert "No series" in allocate_page.least_cost_sentences(study, best)[0]
    assert allocate_page.budget_table(study, best).data == ""


def test_verdicts_say_data_size_or_neither():
    row = {"objective": "listwise", "metric": "AP", "law": "converged", "b": 0.6, "universes": 9, "agreeing": 9}
    ends = [(0.55, 0.65, "data"), (0.4, 0.8, "undecided"), (0.1, 0.3, "size"), (0.1, 0.3, "at a bound: alpha"),
            (0.45, 0.58, "both")]  # fmt: skip
    rows = [row | {"b_lo": low, "b_hi": high, "favours": favours} for low, high, favours in ends]
    told = allocate_page.verdict_sentences(pd.DataFrame(rows))
    assert [re.search("data is|neither|size is|no verdict|both grow alike", one)[0] for one in told] == [
        "data is", "neither", "size is", "no verdict", "both grow alike"]  # fmt: skip
    assert "[0.45, 0.58] lies between 0.4 and 0.6, in all 9 analyses" in told[-1]
    assert "[0.55, 0.65] lies above a half, in all 9 analyses" in told[0]


def test_a_side_is_favoured_only_where_every_analysis_says_so():
    row = {"objective": "listwise", "metric": "AP", "law": "converged", "b": 0.3, "b_lo": 0.2, "b_hi": 0.4}
    exponents = pd.DataFrame([row | {"favours": "size"}, row | {"metric": "CE9", "favours": "size"}])
    labels = {"objective": "listwise", "metric": "AP"}
    for of_one, favours, agreeing in ((0.3, "size", 3), (0.55, "undecided", 2)):
        universes = pd.DataFrame([labels | {"exponent": b} for b in (0.3, 0.4, of_one, np.nan)])
        found = in_every_universe(exponents, universes)
        assert found["favours"].tolist() == [favours, "size"]
        assert found["universes"].tolist() == [3, 0]
        assert found["agreeing"].tolist() == [agreeing, 0]
    (divided, _) = allocate_page.verdict_sentences(found)
    assert "only 2 of 3 analyses say what b = 0.30 [0.20, 0.40] says" in divided
    assert in_every_universe(exponents, None)["favours"].tolist() == ["size", "size"]


def test_an_even_division_that_is_well_known_is_an_answer(fitted, table, new_study):
    costs = costs_of(new_study(), table)
    found = compute_exponents(fitted, costs, 0.95).set_index("metric").loc["CE9"]  # of α = 0.35 and β = 0.3
    assert 0.4 < found["b_lo"] < 0.35 / 0.65 < found["b_hi"] < 0.6
    assert found["favours"] == "both"
    exponents = pd.DataFrame([found.to_dict() | {"metric": "CE9"}])
    for other, favours in ((0.42, "both"), (0.38, "undecided")):
        universes = pd.DataFrame({"objective": "listwise", "metric": "CE9", "exponent": [0.52, other]})
        assert in_every_universe(exponents, universes)["favours"].tolist() == [favours]


def test_the_parabola_stands_beside_the_law(new_study, fitted, table):
    study = new_study()
    check = isoflop_check(study, fitted, table, costs_of(study, table))
    assert set(check["metric"]) <= {"nDCG@10"}
    assert allocate_page.parabola_sentence(check.iloc[:0]).startswith("No three rungs")
    assert allocate_page.parabola_table(check.iloc[:0]).data == ""
    inside = pd.DataFrame({"status": ["inside", "inside", "bends the wrong way"], "ratio": [0.5, 2.0, np.nan]})
    assert "2 have a vertex inside" in allocate_page.parabola_sentence(inside)
    assert "0.5 to 2 times the vertex" in allocate_page.parabola_sentence(inside)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "$0"), (2e-7, "under $1e-6"), (3.456e-5, "$3.46e-05"), (0.08512, "$0.0851"), (12.34, "$12.3"),
     (1.4, "$1.40"), (999.7, "$1000"), (33619.0, "$33.6k"), (2e15, "over $1e15"), (np.inf, "no limit"), (np.nan, "–")],
)  # fmt: skip
def test_money_is_written_with_three_digits(value, written):
    assert dollars(value) == written


@pytest.mark.parametrize(
    ("field", "value"),
    [("queries", -1), ("queries", ".inf"), ("depth", 0), ("training_price", 0), ("serving_price", -0.1), ("budget", 0),
     ("wanted", "much"), ("price", 1.4)],
)  # fmt: skip
def test_an_allocation_that_cannot_be_is_refused_in_one_sentence(new_study, field, value):
    with pytest.raises(StudyError, match=f"allocation.{field}") as refusal:
        new_study(allocation={field: float("inf") if value == ".inf" else value})
    assert str(refusal.value).count("\n") == 0


def test_two_exposures_are_too_few_to_divide_a_budget_by(new_study, fitted, table):
    study, without = new_study(), [SimpleNamespace(**(vars(one) | {"joint": None})) for one in fitted]
    costs = costs_of(study, table)
    assert best_at_budgets(without, costs, np.array([1e15]), 0.95).empty
    assert compute_exponents(without, costs, 0.95).empty
    assert compare_at_equal_compute(without, table, costs).empty
