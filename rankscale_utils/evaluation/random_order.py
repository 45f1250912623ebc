"""What a random order of the same documents scores: a model that ranks no better has learnt nothing that helps.

Exact where a formula is short, or else the mean over many orders.
"""

from dataclasses import dataclass
from functools import cache

import ir_measures
import numpy as np
import pandas as pd

from .rankings import values_per_query

ORDERS = 100  # drawn where there is no formula
SEED = 0


@dataclass(frozen=True)
class Hand:
    """One query's documents before they are shuffled.

    documents: how many there are; shown: how many of them a ranking holds; grades: of the judged ones among them, with
    their ids; judged: the grades of all judged documents, found or not.
    """

    documents: int
    shown: int
    ids: tuple[str, ...]
    grades: tuple[int, ...]
    judged: tuple[int, ...]


def hands_of(candidates: pd.DataFrame, judgments: pd.DataFrame) -> dict[str, Hand]:
    """Return every judged query's own candidates, all of which a ranking holds; columns as in `metrics.Test`."""
    found = candidates[candidates["retrieved"]][["query_id", "document_id"]].rename(columns={"document_id": "doc_id"})
    sizes = found.groupby("query_id").size()
    inside = judgments.merge(found, on=["query_id", "doc_id"])
    return _hands(inside, judgments, lambda query: (int(sizes.get(query, 0)),) * 2)


def hands_of_corpus(documents: int, depth: int, judgments: pd.DataFrame) -> dict[str, Hand]:
    """Return every judged query's corpus of so many documents, `depth` of which a ranking holds."""
    return _hands(judgments, judgments, lambda query: (documents, min(depth, documents)))


def _hands(inside: pd.DataFrame, judgments: pd.DataFrame, sizes: object) -> dict[str, Hand]:
    mine = {query: rows for query, rows in inside.groupby("query_id")}
    none = inside.iloc[:0]
    return {
        query: Hand(
            *sizes(query),
            tuple(mine.get(query, none)["doc_id"]),
            tuple(mine.get(query, none)["relevance"].astype(int)),
            tuple(rows["relevance"].astype(int)),
        )
        for query, rows in judgments.groupby("query_id", sort=False)
    }


def random_order(
    hands: dict[str, Hand], measures: dict[str, ir_measures.Measure], evaluators: dict[str, object]
) -> pd.DataFrame:
    """Return query_id, metric, value: what each query scores on average over all orders of its documents.

    measures: by the study's names; evaluators: what computes them, for those without a formula. A further column
    standard_error is of a metric's mean over queries, 0 where it is exact.
    """
    exact = {name: measure for name, measure in measures.items() if _has_formula(measure)}
    rows = [
        (query, name, expected_value(hand, measure), 0.0)
        for name, measure in exact.items()
        for query, hand in hands.items()
    ]
    table = pd.DataFrame(rows, columns=["query_id", "metric", "value", "standard_error"])
    drawn = {name: evaluator for name, evaluator in evaluators.items() if name not in exact}
    return pd.concat([table, _mean_of_orders(hands, drawn)], ignore_index=True) if drawn else table


def _has_formula(measure: ir_measures.Measure) -> bool:
    return measure.NAME in FORMULAS and set(measure.params) <= {"cutoff", "rel"}


def expected_value(hand: Hand, measure: ir_measures.Measure) -> float:
    """Return a measure's mean over all orders of a query's documents; for measures that have a formula."""
    if not hand.documents:
        return 0.0
    cutoff = measure.params.get("cutoff")
    shown = min(hand.shown, cutoff or hand.shown)
    if measure.NAME == "nDCG":
        return _ndcg(hand.documents, shown, hand.grades, hand.judged, cutoff)
    lowest = measure.params.get("rel", 1)
    relevant, judged = (sum(grade >= lowest for grade in grades) for grades in (hand.grades, hand.judged))
    if not judged:
        return 0.0
    return FORMULAS[measure.NAME](hand.documents, shown, relevant, judged, cutoff or shown)


@cache
def _ndcg(documents: int, shown: int, grades: tuple, judged: tuple, cutoff: int | None) -> float:
    """Every place holds the mean gain: Σ gain / n · Σ 1 / log₂(i + 1), over the ideal."""
    ideal = sorted((max(grade, 0) for grade in judged), reverse=True)[:cutoff]
    best = float(np.dot(ideal, _discounts(len(ideal))))
    return sum(max(grade, 0) for grade in grades) / documents * _discounts(shown).sum() / best if best else 0.0


def _discounts(places: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, places + 2))


def _precision(documents: int, shown: int, relevant: int, judged: int, cutoff: int) -> float:
    return shown * relevant / documents / cutoff


def _recall(documents: int, shown: int, relevant: int, judged: int, cutoff: int) -> float:
    return shown * relevant / documents / judged


def _first_at(documents: int, shown: int, relevant: int) -> np.ndarray:
    """Return the probability that the first relevant document has rank 1, 2, …: (shown,)."""
    before = np.arange(shown)
    left = documents - before
    none_before = np.concatenate([[1.0], np.cumprod(np.clip(left - relevant, 0, None) / left)])[:-1]
    return none_before * np.minimum(relevant / left, 1)


@cache
def _reciprocal_rank(documents: int, shown: int, relevant: int, judged: int, cutoff: int) -> float:
    return float((_first_at(documents, shown, relevant) / np.arange(1, shown + 1)).sum())


@cache
def _success(documents: int, shown: int, relevant: int, judged: int, cutoff: int) -> float:
    return float(_first_at(documents, shown, relevant).sum())


@cache
def _average_precision(documents: int, shown: int, relevant: int, judged: int, cutoff: int) -> float:
    """Rank i holds a relevant document in R / n of orders, and then (R − 1) / (n − 1) of those before it are."""
    ranks = np.arange(1, shown + 1)
    before = (relevant - 1) / (documents - 1) if documents > 1 else 0.0
    return float((relevant / documents * (1 + (ranks - 1) * before) / ranks).sum() / judged)


FORMULAS = {
    "nDCG": _ndcg,
    "P": _precision,
    "R": _recall,
    "RR": _reciprocal_rank,
    "Success": _success,
    "AP": _average_precision,
}


def _mean_of_orders(hands: dict[str, Hand], evaluators: dict[str, object]) -> pd.DataFrame:
    rng, drawn = np.random.default_rng(SEED), []
    for order in range(ORDERS):
        drawn.append(values_per_query(evaluators, _shuffled(hands, rng)).assign(order=order))
    table = pd.concat(drawn, ignore_index=True)
    errors = table.groupby(["metric", "order"])["value"].mean().groupby("metric").sem()
    means = table.groupby(["query_id", "metric"], sort=False)["value"].mean().reset_index()
    return means.assign(standard_error=means["metric"].map(errors))


def _shuffled(hands: dict[str, Hand], rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return one order of every query's documents, best first, as ir-measures reads it; unjudged ones are nameless."""
    run = {}
    for query, hand in hands.items():
        places = rng.choice(hand.documents, len(hand.ids), replace=False)
        named = {int(place): document for place, document in zip(places, hand.ids, strict=True)}
        run[query] = {named.get(place, f"unjudged-{place}"): -float(place) for place in range(hand.shown)}
    return run
