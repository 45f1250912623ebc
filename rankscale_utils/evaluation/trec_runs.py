"""TREC run files of checkpoints, written and read."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import whole_file
from rankscale_utils.study import paths

from .metrics import Ranked, Test, ranking


def scores_of_run(test: Test, checkpoint: Path) -> np.ndarray:
    """Return scores that rank a test's candidates as a checkpoint's TREC run does; NaN where one was not retrieved."""
    columns = ["query_id", "q0", "document_id", "rank", "score", "name"]
    ranked = pd.read_csv(
        paths.run_file(checkpoint, test.name), sep=" ", names=columns, usecols=["query_id", "document_id", "rank"],
        dtype={"query_id": str, "document_id": str}, keep_default_na=False,
    )  # fmt: skip
    candidates = test.candidates[["query_id", "document_id"]].astype(str)
    return -candidates.merge(ranked, how="left", on=["query_id", "document_id"])["rank"].to_numpy(float)


def write_run(path: Path, ranked: Ranked, name: str) -> None:
    """Write a TREC run (gzip), best first."""
    table = ranking(ranked.test, ranked.scores).assign(q0="Q0", name=name)
    lines = table[["query_id", "q0", "document_id", "rank", "score", "name"]].to_csv(sep=" ", header=False, index=False)
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), 6, mtime=0))
