"""How well a checkpoint ranks when only the first stage's best are reranked, which costs less."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.metrics import Test, metrics_per_query
from rankscale_utils.pareto import mean_with_interval

DEPTHS = (10, 50, 100)
NO_NAME = re.compile(r"[^\w.]+")  # what a test's name may hold and a file's should not


def depths_of(test: Test, depths: Sequence[int]) -> list[int]:
    """Return the depths, none deeper than the test's own."""
    return sorted({min(depth, test.depth) for depth in depths})


def run_file(checkpoint: Path, test: str) -> Path:
    """Return where the TREC run of a checkpoint on a test lies."""
    return checkpoint.with_name(f"{checkpoint.name}.{NO_NAME.sub('-', test)}.run.gz")


def scores_of_run(test: Test, checkpoint: Path) -> np.ndarray:
    """Return scores that rank a test's candidates as a checkpoint's TREC run does; NaN where one was not retrieved."""
    columns = ["query_id", "q0", "document_id", "rank", "score", "name"]
    ranked = pd.read_csv(
        run_file(checkpoint, test.name), sep=" ", names=columns, usecols=["query_id", "document_id", "rank"],
        dtype={"query_id": str, "document_id": str}, keep_default_na=False,
    )  # fmt: skip
    candidates = test.candidates[["query_id", "document_id"]].astype(str)
    return -candidates.merge(ranked, how="left", on=["query_id", "document_id"])["rank"].to_numpy(float)


def reranked_to(test: Test, scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the scores with the candidates beyond `depth` below all others, in the first stage's order."""
    rank = test.candidates["rank"].to_numpy(float)
    return np.where(rank <= depth, scores, np.nanmin(scores) - rank)


def quality(test: Test, scores: np.ndarray, metric: str, depths: Sequence[int] = DEPTHS) -> pd.DataFrame:
    """Return a metric on every query when only the best `depth` are reranked: depth, metric, query_id, value."""
    found = []
    for depth in depths_of(test, depths):
        values = metrics_per_query(test, reranked_to(test, scores, depth))
        found.append(values[values["metric"] == metric].assign(depth=depth))
    return pd.concat(found, ignore_index=True)


def over_queries(values: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the mean over queries of every group, with its 95 % interval: the columns of `by`, value, lo, hi."""
    means = values.groupby(by, sort=False)["value"].agg(mean_with_interval)
    return pd.DataFrame(means.tolist(), means.index, ["value", "lo", "hi"]).reset_index()
