"""Rerank the candidates of every test with every checkpoint of a run, and measure the result."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.machine.files import read_json, write_parquet
from rankscale_utils.machine.progress import Progress
from rankscale_utils.measurements.table import (
    OVER_RANDOM,
    REFERENCES,
    RERANK,
    SEARCH,
    write_measurements,
)
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import open_checkpoint
from rankscale_utils.study import paths
from rankscale_utils.study.ledger import own_end
from rankscale_utils.study.study import Run, Study

from .depths import measure_depths
from .metrics import Ranked, Test
from .scorers import scorer
from .trec_runs import write_run
from .with_first_stage import together

OF_QUERIES = (
    "collection",
    "task",
    "run",
    "objective",
    "rung",
    "seed",
    "params_non_embedding",
    "exposure",
    "excluded",
)  # columns beside each query's value


def evaluate_run(study: Study, run: Run, collection: Collection, device: torch.device) -> pd.DataFrame:
    """Measure every checkpoint of a run; write its TREC runs, values by query and depth and, last, its measurements.

    A run on annotated pairs is measured at its own end alone. A checkpoint whose scores do not tell documents apart,
    and every checkpoint of a run that failed, is kept in the table with the reason in `excluded`; a run that failed
    before its first checkpoint has a table without rows.
    """
    folder = study.run_folder(run)
    ledger = read_json(paths.ledger_file(folder))
    model = build_model(study, run, collection.tokenizer().get_vocab_size()).to(device).eval()
    scoring = scorer(study, run.objective, collection)
    progress = Progress(f"{run.name} scoring", len(ledger["checkpoints"]), "checkpoints")
    measured, per_query, by_depth = [], [], []
    ends = [own_end(ledger["checkpoints"])] if run.source and ledger["checkpoints"] else ledger["checkpoints"]
    for checkpoint in ends:
        path = paths.checkpoint_file(folder, checkpoint["exposure"])
        open_checkpoint(model, path)
        for ranked in together(scoring.rank(model, last=checkpoint is ends[-1]), bool(study.with_first_stage)):
            write_run(paths.run_file(path, ranked.test.name, ranked.task == SEARCH), ranked, run.name)
            excluded = reason_against(ledger["status"], ranked)
            columns = _columns(study, ledger, checkpoint, ranked.test, ranked.task, excluded)
            per_query.append(ranked.per_query().assign(**{name: columns[name] for name in OF_QUERIES}))
            measured.append(ranked.means().assign(**columns))
            if checkpoint is ends[-1] and ranked.task == RERANK and np.isfinite(ranked.scores).all():
                of_depths = measure_depths(study, ranked.test, ranked.scores)
                by_depth.append(of_depths.assign(**{name: columns[name] for name in OF_QUERIES}))
        progress.advance(1)
    if not measured:
        return _write_nothing(folder, study, ledger, scoring.tests[-1])
    table = pd.concat(measured, ignore_index=True)
    write_parquet(paths.per_query_file(folder), pd.concat(per_query, ignore_index=True))
    write_parquet(paths.run_depths_file(folder), pd.concat([_no_depths(), *by_depth], ignore_index=True))
    write_measurements(paths.measurements_file(folder), table)
    return table


def _write_nothing(folder: Path, study: Study, ledger: dict, test: Test) -> pd.DataFrame:
    """Write tables that have their columns and no rows."""
    seen = dict.fromkeys(("exposure", "queries", "tokens", "flops"), 0)
    columns = _columns(study, ledger, seen, test, RERANK, "")
    limits = dict.fromkeys((*REFERENCES, *OVER_RANDOM, "judged@10"), 0.0)
    nothing = pd.DataFrame([{"metric": "", "score": "", "value": 0.0, **columns, **limits}]).iloc[:0]
    of_queries = ["metric", "score", "value", "first_stage", "random_order", *OF_QUERIES]
    write_parquet(paths.per_query_file(folder), nothing[of_queries].assign(query_id=""))
    write_parquet(paths.run_depths_file(folder), _no_depths())
    write_measurements(paths.measurements_file(folder), nothing)
    return nothing


def _no_depths() -> pd.DataFrame:
    """Return a table of values by depth that has its columns and no rows."""
    return pd.DataFrame(columns=["query_id", "metric", "value", "depth", *OF_QUERIES])


def _columns(study: Study, ledger: dict, checkpoint: dict, test: Test, task: str, excluded: str) -> dict:
    named = ("run", "family", "objective", "rung", "seed", "source", "annotations", "params", "params_non_embedding")
    seen = ("exposure", "queries", "tokens", "flops")
    columns = {"study": study.name, "collection": test.name, "task": task} | {name: ledger[name] for name in named}
    columns["flops_per_pair"] = ledger["flops_per_pair"]
    return columns | {name: checkpoint[name] for name in seen} | {"excluded": excluded}


def reason_against(status: str, ranked: Ranked) -> str:
    """Return why a checkpoint is no measurement, or nothing."""
    scores = ranked.scores
    if status != "complete":
        return status
    if not np.isfinite(scores).all():
        return "scores that are not numbers"
    of_queries = pd.Series(scores).groupby(ranked.test.candidates["query_row"].to_numpy())
    spread = (of_queries.max() - of_queries.min()).max()
    return "constant scores" if spread <= 1e-5 * max(1.0, np.abs(scores).max()) else ""
