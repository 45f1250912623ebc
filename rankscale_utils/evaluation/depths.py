"""How well a checkpoint ranks when only the first stage's best are reranked, which costs less."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils.measurements.directions import rising
from rankscale_utils.study.study import Study

from .metrics import Test, ranking
from .rankings import ranks_as_scores, values_per_query

DEPTHS = (10, 50, 100)
EVERY_DEPTH = (1, 2, 3, 5, 10, 20, 50, 100)  # that evaluation measures; 1 leaves the order as retrieved


def depths_of(test: Test, depths: Sequence[int]) -> list[int]:
    """Return the depths, none deeper than the test's own."""
    return sorted({min(depth, test.depth) for depth in depths})


def reranked_to(test: Test, scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the scores with the candidates beyond `depth` below all others, in the first stage's order."""
    rank = test.candidates["rank"].to_numpy(float)
    return np.where(rank <= depth, scores, np.nanmin(scores) - rank)


def quality_by_depth(test: Test, scores: np.ndarray, metric: str, depths: Sequence[int] = DEPTHS) -> pd.DataFrame:
    """Return a metric on every query when only the best `depth` are reranked: depth, metric, query_id, value."""
    found = []
    for depth in depths_of(test, depths):
        order = ranks_as_scores(ranking(test, reranked_to(test, scores, depth)))
        found.append(values_per_query({metric: test.evaluators[metric]}, order).assign(depth=depth))
    return pd.concat(found, ignore_index=True)


def metric_of_depths(study: Study, test: Test) -> str:
    """Return the metric that is measured by depth: the study's headline, or the first of the test's that rises."""
    chosen = study.forecasting.headline
    return chosen if chosen in test.metrics else next(filter(rising, test.metrics))


def measure_depths(study: Study, test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return `quality_by_depth` at every depth that a study measures, its own among them."""
    return quality_by_depth(test, scores, metric_of_depths(study, test), (*EVERY_DEPTH, test.depth))
