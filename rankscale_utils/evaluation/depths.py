"""How well a checkpoint ranks when only the first stage's best are reranked, which costs less."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .metrics import Test, metrics_per_query

DEPTHS = (10, 50, 100)


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
        values = metrics_per_query(test, reranked_to(test, scores, depth))
        found.append(values[values["metric"] == metric].assign(depth=depth))
    return pd.concat(found, ignore_index=True)
