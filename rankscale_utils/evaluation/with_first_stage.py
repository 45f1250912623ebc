"""What a model reaches together with the first stage: their scores interpolated, and their ranks fused.

Scores are standardised within a query's candidates, and one weight between them is learnt: on queries that are neither
trained nor tested or, where there are none, on each half of a test's queries for the other half. Reciprocal rank fusion
has nothing to learn (Cormack et al., SIGIR 2009). Both are metrics of their own beside the model's.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankscale_utils.collections.collection import DEV
from rankscale_utils.machine.files import digest
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.table import INTERPOLATED, OWN, RANK_FUSED, RERANK

from .metrics import Ranked, Test, metrics_per_query, ranking
from .rankings import ranks_as_scores, values_per_query

WEIGHTS = np.arange(0, 101, 5) / 100  # of the first stage, among which one is chosen
RANKS = 60  # reciprocal rank fusion's only number, as published


def together(found: Iterable[Ranked], wanted: bool) -> Iterator[Ranked]:
    """Yield what a model ranked of the tests, where wanted with what it reaches together with the first stage.

    found: the queries `DEV`, where there are any, come before the tests, and are not yielded.
    """
    dev = None
    for ranked in found:
        if ranked.test.name == DEV:
            dev = ranked if ranked.task == RERANK else dev
        else:
            yield with_first_stage(ranked, dev) if wanted and ranked.task == RERANK else ranked


def with_first_stage(ranked: Ranked, dev: Ranked | None) -> Ranked:
    """Return a test's metrics with those of the interpolated scores and of the fused ranks beside them.

    dev: the queries that the weight is learnt on, as the same model ranked them.
    """
    test, scores = ranked.test, ranked.scores
    weight = _of_other_halves(test, scores) if dev is None else best_weight(dev.test, dev.scores)
    orders = {INTERPOLATED: interpolated(test, scores, weight), RANK_FUSED: rank_fused(test, scores)}
    values = [metrics_per_query(test, order).assign(score=OWN) for order in orders.values()]
    named = [table.assign(metric=table["metric"] + ending) for table, ending in zip(values, orders, strict=True)]
    return ranked._replace(
        values=pd.concat([ranked.values, *named], ignore_index=True),
        limits=limits_together(ranked.limits, test),
        random_order=_repeated(ranked.random_order, test),
        first_stage=_repeated(ranked.first_stage, test),
        first_stage_weight=float(np.mean(weight)),
    )


def limits_together(limits: pd.DataFrame, test: Test) -> pd.DataFrame:
    """Return `metrics.reference_values` with those of the metrics that are reached together, which are the same."""
    own = limits.loc[list(test.metrics)]
    return pd.concat([limits, *(own.set_axis(own.index + ending) for ending in (INTERPOLATED, RANK_FUSED))])


def interpolated(test: Test, scores: NDArray, weight: float | NDArray) -> NDArray[np.float64]:
    """Return a model's scores and the first stage's, which counts `weight`, both standardised within every query.

    weight: one, or one for each candidate. NaN of what was not retrieved.
    """
    own, first = (_standardised(test, some) for some in (scores, test.candidates["score"].to_numpy()))
    return (1 - weight) * own + weight * first


def _standardised(test: Test, scores: NDArray) -> NDArray[np.float64]:
    """Return scores with mean 0 and standard deviation 1 over a query's candidates; all 0 where they are equal."""
    retrieved = pd.Series(scores.astype(float)).where(test.candidates["retrieved"].to_numpy())
    groups = retrieved.groupby(test.candidates["query_row"].to_numpy())
    centred, spread = retrieved - groups.transform("mean"), groups.transform("std", ddof=0)
    return (centred / spread.where(spread > 0, 1.0)).to_numpy()


def rank_fused(test: Test, scores: NDArray) -> NDArray[np.float64]:
    """Return the reciprocal ranks of a model and of the first stage, added; NaN of what was not retrieved."""
    own = ranking(test, scores)["rank"].reindex(test.candidates.index)
    return (1 / (RANKS + own) + 1 / (RANKS + test.candidates["rank"])).to_numpy(float)


def best_weight(test: Test, scores: NDArray) -> float:
    """Return the first stage's weight with the highest mean of the first metric over all queries."""
    return _best(_by_weight(test, scores))


def _of_other_halves(test: Test, scores: NDArray) -> NDArray[np.float64]:
    """Return each candidate's weight: the best one for the other half of the queries, by the hash of their ids."""
    by_weight = _by_weight(test, scores)
    second = by_weight.index.map(_in_second_half).to_numpy(bool)
    halves = by_weight[~second], by_weight[second]
    first, other = (_best(half) if len(half) else _best(by_weight) for half in halves)
    return np.where(test.candidates["query_id"].map(_in_second_half).to_numpy(bool), first, other)


def _in_second_half(query: str) -> bool:
    return int(digest(query, length=8), 16) % 2 == 1


def _by_weight(test: Test, scores: NDArray) -> pd.DataFrame:
    """Return the first metric of every query (index) with every weight of the first stage (columns)."""
    name = next(filter(rising, test.metrics))
    evaluator, found = {name: test.evaluators[name]}, {}
    for weight in WEIGHTS:
        run = ranks_as_scores(ranking(test, interpolated(test, scores, weight)))
        found[weight] = values_per_query(evaluator, run).set_index("query_id")["value"]
    return pd.DataFrame(found)


def _best(by_weight: pd.DataFrame) -> float:
    """Return the weight of the highest mean, the middle one of equals."""
    means = by_weight.mean().round(12)
    equals = means.index[means == means.max()]
    return float(equals[len(equals) // 2])


def _repeated(values: pd.DataFrame, test: Test) -> pd.DataFrame:
    """Return values of every query with those of the metrics that are reached together, which are the same."""
    own = values[values["metric"].isin(test.metrics)]
    more = [own.assign(metric=own["metric"] + ending) for ending in (INTERPOLATED, RANK_FUSED)]
    return pd.concat([values, *more], ignore_index=True)
