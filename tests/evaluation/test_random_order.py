"""What a random order scores, against every order there is."""

import itertools

import ir_measures
import numpy as np
import pandas as pd
import pytest

from rankscale_utils.evaluation.random_order import ORDERS, hands_of, hands_of_corpus, random_order
from rankscale_utils.evaluation.rankings import measure_of, values_per_query

EXACT = ("nDCG@3", "nDCG", "RR@3", "RR", "AP", "AP@3", "R@2", "P@3", "P@10", "Success@2", "AP(rel=2)@3")
JUDGMENTS = pd.DataFrame(
    [("q", "a", 2), ("q", "b", 1), ("q", "not-found", 3), ("q", "c", 0), ("r", "d", 1), ("s", "absent", 1)],
    columns=["query_id", "doc_id", "relevance"],
)
FOUND = {"q": "abcxyw", "r": "de"}  # s has no candidate
CANDIDATES = pd.DataFrame(
    [(query, document, True) for query, documents in FOUND.items() for document in documents]
    + [("q", "not-found", False)],
    columns=["query_id", "document_id", "retrieved"],
)


def measures(*names):
    found = {name: measure_of(name, 1) for name in names}
    return found, {name: ir_measures.evaluator([measure], JUDGMENTS) for name, measure in found.items()}


def by_query(table):
    return table.set_index(["metric", "query_id"])["value"].sort_index()


def every_order():
    for orders in itertools.product(*(itertools.permutations(documents) for documents in FOUND.values())):
        yield {
            query: {document: -float(place) for place, document in enumerate(order)}
            for query, order in zip(FOUND, orders, strict=True)
        }


def test_formulas_are_the_mean_over_every_order():
    found, evaluators = measures(*EXACT)
    values = pd.concat([values_per_query(evaluators, run) for run in every_order()])
    truth = values.groupby(["metric", "query_id"])["value"].mean()
    mine = random_order(hands_of(CANDIDATES, JUDGMENTS), found, evaluators)
    pd.testing.assert_series_equal(by_query(mine), truth, check_names=False, rtol=1e-12)
    assert (mine["standard_error"] == 0).all()
    assert by_query(mine)["RR", "q"] == pytest.approx(0.58)


def test_a_measure_without_a_formula_is_the_mean_of_many_orders_with_its_error():
    found, evaluators = measures("Rprec")
    values = pd.concat([values_per_query(evaluators, run) for run in every_order()])
    mine = random_order(hands_of(CANDIDATES, JUDGMENTS), found, evaluators)
    error = mine["standard_error"].iloc[0]
    assert 0 < error < 0.3 / np.sqrt(ORDERS)
    assert mine["value"].mean() == pytest.approx(values["value"].mean(), abs=4 * error)
    again = random_order(hands_of(CANDIDATES, JUDGMENTS), found, evaluators)
    pd.testing.assert_frame_equal(mine, again)


def test_a_random_search_shows_few_documents_of_a_corpus():
    found, evaluators = measures("R@5", "nDCG@3", "AP")
    mine = by_query(random_order(hands_of_corpus(1000, 10, JUDGMENTS), found, evaluators))
    assert mine["R@5", "r"] == pytest.approx(5 / 1000)
    assert mine["nDCG@3", "r"] == pytest.approx((1 + 1 / np.log2(3) + 1 / 2) / 1000)
    assert mine["AP", "r"] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 1000)  # the ten that are shown
