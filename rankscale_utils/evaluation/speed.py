"""Latency and throughput of scoring: what each system costs to serve, and how well it ranks."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.machine.files import result_file, write_parquet
from rankscale_utils.measurements.per_query import over_queries
from rankscale_utils.measurements.table import AS_IT_IS, DEFAULTS
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checkpoint import open_checkpoint
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.export import Model
from rankscale_utils.models.published import read_system
from rankscale_utils.scoring.published import own_pairs, published_system
from rankscale_utils.scoring.systems import System, bm25_system, systems_of
from rankscale_utils.study import paths
from rankscale_utils.study.objectives import score_of_objective
from rankscale_utils.study.study import Run, Study

from .clock import KEYS, Query, benchmark_calls, documents_of, seconds_of
from .depths import DEPTHS, depths_of, metric_of_depths, quality_by_depth
from .metrics import Test, first_stage_scores, open_test
from .systems import checkpoint_of_system
from .trec_runs import scores_of_run


def natural_groups(test: Test, queries: int = 50, depths: Sequence[int] = DEPTHS) -> dict[int, list[Query]]:
    """Return a test's first queries with their best-ranked candidates, by depth; none is deeper than the test."""
    retrieved = test.candidates[test.candidates["retrieved"]].sort_values("rank", kind="stable")
    grouped = [(row, rows["document_row"].to_numpy()) for row, rows in retrieved.groupby("query_row")][:queries]
    return {depth: [(row, rows[:depth]) for row, rows in grouped] for depth in depths_of(test, depths)}


def tokenisation_ms(study: Study, collection: Collection, queries: int = 50) -> float:
    """Return the median milliseconds that one query and its candidates take to tokenise, which `measure` leaves out."""
    tokenizer, test = collection.tokenizer(), open_test(study, collection)
    query_texts, document_texts = collection.queries()["text"], collection.documents()["text"]
    spent = []
    for query_row, document_rows in natural_groups(test, queries, [test.depth])[test.depth]:
        texts = [query_texts[query_row], *document_texts[document_rows]]
        spent.append(seconds_of(partial(tokenizer.encode_batch, texts, add_special_tokens=False)))
    return float(np.median(spent) * 1000)


def served_runs(study: Study, objective: str) -> dict[str, tuple[Run, Path]]:
    """Return each rung's run of an objective's first seed, and its most trained checkpoint's folder."""
    exposure, per_step = study.training.exposures[-1], study.training.groups.pairs_per_step
    found = {}
    for run in study.runs:
        path = paths.checkpoint_file(study.run_folder(run), exposure // per_step * per_step)
        if run.objective == objective and run.rung not in found and path.exists():  # else the run failed before it
            found[run.rung] = run, path
    return found


def first_objectives(study: Study) -> dict[str, str]:
    """Return the first objective of each family, whose models are timed."""
    objectives = reversed(list(study.objectives))
    return {study.family_of(objective): objective for objective in objectives}


def load_models(study: Study, objective: str, collection: Collection, device: torch.device) -> dict[str, Model]:
    """Return the `served` models of an objective by rung, the smallest first."""
    vocabulary = collection.tokenizer().get_vocab_size()
    models = {
        rung: open_checkpoint(build_model(study, run, vocabulary).to(device).eval(), path)
        for rung, (run, path) in served_runs(study, objective).items()
    }
    return dict(sorted(models.items(), key=lambda item: parameters(item[1]).non_embedding))


def load_systems(
    study: Study, objective: str, collection: Collection, device: torch.device, held: np.ndarray, folder: Path
) -> list[System]:
    """Return every way to score with the `served` models of an objective.

    held: the document rows that systems store, ascending; folder: where document states are stored.
    """
    pairs, kind, found = collection.pairs(), score_of_objective(objective, study.objectives[objective]), []
    for rung, model in load_models(study, objective, collection, device).items():
        found += systems_of(model, pairs, study.text, held, folder, rung, kind)
    return found


def load_system(
    study: Study, name: str, collection: Collection, device: torch.device, queries: np.ndarray, held: np.ndarray
) -> System:
    """Return a model that exists as a system that scores these rows, which it reads with its own tokenizer."""
    published = read_system(study, name)
    published.model.to(device)
    return published_system(published, name, own_pairs(published, collection, queries, held), held)


def measure_study(
    study: Study,
    collection: Collection,
    device: torch.device,
    queries: int = 50,
    depths: Sequence[int] = DEPTHS,
    repeats: int = 5,
) -> pd.DataFrame:
    """Write `speed.csv` and return it: `benchmark` on the first test, and the `quality` of the models timed.

    Its values on every query go to `speed_per_query.parquet`: name, rung, depth, objective, metric, query_id, value.
    Timed are the first objective of each family, the models that exist and, beside ED2LM's or a bi-encoder's, BM25,
    whose order is the first stage's, at these depths and at the test's own, which laws are of. All candidates are
    stored for ED2LM's pooled states alone, which evaluation has no scores of.
    """
    pairs, test = collection.pairs(), open_test(study, collection)
    metric, depths, found, reached = metric_of_depths(study, test), [*depths, test.depth], [], []
    groups = natural_groups(test, queries, depths)
    asked, shown = np.unique([row for group in groups.values() for row, _ in group]), documents_of(groups)
    with tempfile.TemporaryDirectory() as folder:
        for family, objective in first_objectives(study).items():
            held = np.unique(test.candidates["document_row"]) if family == "ed2lm" else shown
            for system in load_systems(study, objective, collection, device, held, Path(folder)):
                scores = _scores(study, objective, system, test)
                found.append(system)
                reached.append(
                    _named(system, quality_by_depth(test, scores, metric, depths)).assign(objective=objective)
                )
        for name in study.systems:
            found.append(load_system(study, name, collection, device, asked, shown))
            scores = scores_of_run(test, checkpoint_of_system(study, name))
            reached.append(_named(found[-1], quality_by_depth(test, scores, metric, depths)).assign(objective=AS_IT_IS))
        if study.families != ["cross_encoder"]:
            found.append(
                bm25_system(collection.documents()["text"], collection.queries()["text"].tolist(), study.first_stage)
            )
            as_retrieved = quality_by_depth(test, first_stage_scores(test), metric, depths)
            reached.append(_named(found[-1], as_retrieved).assign(objective="BM25"))
        timed = benchmark_calls(found, pairs.queries, pairs.documents, groups, repeats=repeats)
    values = pd.concat(reached, ignore_index=True)
    by = [*KEYS, "depth", "metric", "objective"]
    of_each = over_queries(values, by).merge(_over_first_stage(values, test, metric, by), on=by)
    table = timed.merge(of_each, on=[*KEYS, "depth"]).assign(collection=test.name, **DEFAULTS)
    write_parquet(paths.speed_per_query_file(study.folder), values)
    with result_file(paths.speed_file(study.folder)) as temporary:
        table.to_csv(temporary, index=False)
    return table


def _over_first_stage(values: pd.DataFrame, test: Test, metric: str, by: list[str]) -> pd.DataFrame:
    """Return what the order as retrieved scores and, with its paired interval, what each system scores more."""
    first = test.first_stage[test.first_stage["metric"] == metric].set_index("query_id")["value"]
    more = over_queries(values.assign(value=values["value"] - values["query_id"].map(first)), by)
    names = {"value": "over_first_stage", "lo": "over_first_stage_lo", "hi": "over_first_stage_hi"}
    return more.rename(columns=names).assign(first_stage=first.mean())


def _named(system: System, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(name=system.name, rung=system.rung)


def _scores(study: Study, objective: str, system: System, test: Test) -> np.ndarray:
    """Return scores of a test's candidates: those that evaluation wrote, but for states that it did not pool."""
    if system.as_evaluated:
        return scores_of_run(test, served_runs(study, objective)[system.rung][1])
    return system_scores(system, test)


def system_scores(system: System, test: Test) -> np.ndarray:
    """Return the system's scores of a test's candidates, in their order: (candidates,)."""
    scores = np.empty(len(test.candidates), np.float32)
    documents = test.candidates["document_row"].to_numpy()
    for query_row, places in test.candidates.groupby("query_row").indices.items():
        scores[places] = system.score(query_row, documents[places])
    return scores
