"""TREC run files of checkpoints, written and read."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import result_file
from rankscale_utils.study import paths

from .metrics import Ranked, Test, ranking

LARGEST_SCORE = np.float32(3e38)  # which leaves room for the ranks below the lowest
SUBNORMAL = 0x7FFFFF  # the last of the numbers that stand for zero where a process flushes them, as scoring does


def scores_of_run(test: Test, checkpoint: Path) -> np.ndarray:
    """Return scores that rank a test's candidates as a checkpoint's TREC run does; NaN where one was not retrieved."""
    columns = ["query_id", "q0", "document_id", "rank", "score", "name"]
    ranked = pd.read_csv(
        paths.run_file(checkpoint, test.name), sep=" ", names=columns, usecols=["query_id", "document_id", "rank"],
        dtype={"query_id": str, "document_id": str}, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8",
    )  # fmt: skip
    candidates = test.candidates[["query_id", "document_id"]].astype(str)
    return -candidates.merge(ranked, how="left", on=["query_id", "document_id"])["rank"].to_numpy(float)


def write_run(path: Path, ranked: Ranked, name: str) -> None:
    """Write a TREC run (gzip), best first, whose scores alone give that order, see `distinct_scores`."""
    table = ranking(ranked.test, ranked.scores)
    scores = distinct_scores(table["score"].to_numpy(), table["rank"].to_numpy())
    columns = zip(table["query_id"], table["document_id"], table["rank"], scores, strict=True)
    lines = "".join(f"{query} Q0 {document} {rank} {score!s} {name}\n" for query, document, rank, score in columns)
    with result_file(path) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), 6, mtime=0))


def distinct_scores(scores: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return scores in single precision that fall from rank to rank, each as near to its own as that allows: (rows,).

    Rows are ordered by rank within each query, whose first rank is 1. trec_eval compares single-precision numbers, and
    tools differ in how they order equal ones.
    """
    single = np.nan_to_num(scores.astype(np.float32), nan=-LARGEST_SCORE, posinf=LARGEST_SCORE, neginf=-LARGEST_SCORE)
    bits = np.abs(single).view(np.int32).astype(np.int64)  # neighbouring numbers are neighbouring integers
    size = np.maximum(bits - SUBNORMAL, 0)
    places = pd.Series(np.where(single < 0, -size, size) + ranks)
    places = places.groupby(np.cumsum(ranks == 1)).cummin().to_numpy() - ranks
    bits = np.where(places == 0, 0, np.abs(places) + SUBNORMAL).astype(np.int32)
    return np.copysign(bits.view(np.float32), places).astype(np.float32)
