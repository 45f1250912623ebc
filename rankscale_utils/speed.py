"""Latency and throughput of scoring: what each system costs to serve, and how well it ranks."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.depths import DEPTHS, depths_of, over_queries, quality, scores_of_run
from rankscale_utils.device import hardware
from rankscale_utils.evaluation import open_test
from rankscale_utils.families.ed2lm import score_of
from rankscale_utils.files import whole_file
from rankscale_utils.measurements import rising
from rankscale_utils.metrics import Test, first_stage_scores
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.layout import Model
from rankscale_utils.study import Run, Study
from rankscale_utils.systems import System, as_evaluated, bm25, of_model, scores_of

LENGTHS = (64, 128, 256, 512)  # tokens of a document
BATCHES = (10, 50, 100, 200, 500)  # documents a call, of which the best counts as throughput
KEYS = ["name", "rung"]  # what tells systems apart

Query = tuple[int, np.ndarray]  # a query's row and its documents' rows


def measure(systems: Sequence[System], groups: Mapping[int, Sequence[Query]], repeats: int = 5) -> pd.DataFrame:
    """Time every system at every depth: name, rung, depth, p50_ms, p95_ms, p50_low, p50_high, repeats.

    groups: queries with their documents, by depth. A query's documents are scored as one batch, and latency is per
    query, from rows of token ids to scores in the host's memory, reading what is stored included and tokenisation not.
    Systems take turns within each repeat, so that a drift of the machine's speed hits all; a first round warms up and
    is discarded. The figures are medians over repeats, with the lowest and the highest repeat beside p50.
    """
    timed = []
    for repeat in range(repeats + 1):
        for depth, queries in groups.items():
            for system in systems:
                latency = [_seconds(partial(system.score, *query)) for query in queries]
                if repeat:
                    p50, p95 = np.percentile(latency, [50, 95]) * 1000
                    timed.append({"name": system.name, "rung": system.rung, "depth": depth, "p50": p50, "p95": p95})
    table = pd.DataFrame(timed).groupby([*KEYS, "depth"], sort=False)
    return table.agg(
        p50_ms=("p50", "median"),
        p95_ms=("p95", "median"),
        p50_low=("p50", "min"),
        p50_high=("p50", "max"),
        repeats=("p50", "size"),
    ).reset_index()


def throughput(
    systems: Sequence[System],
    query_rows: Sequence[int],
    document_rows: np.ndarray,
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return every system's throughput at its best batch: name, rung, batch, pairs_per_second, pairs_low, pairs_high.

    A batch is one query's documents; with every size the same documents are scored, repeated where they are fewer than
    the largest batch. Turns, warm-up, medians and ranges are those of `measure`.
    """
    timed = []
    for repeat in range(repeats + 1):
        for batch in batches:
            calls = np.resize(document_rows, (max(batches) // batch, batch))
            for system in systems:
                work = partial(_score_all, system, query_rows, calls)
                rate = calls.size / _seconds(work)
                if repeat:
                    timed.append({"name": system.name, "rung": system.rung, "batch": batch, "rate": rate})
    rates = pd.DataFrame(timed).groupby([*KEYS, "batch"], sort=False)["rate"]
    table = rates.agg(pairs_per_second="median", pairs_low="min", pairs_high="max").reset_index()
    best = table.groupby(KEYS, sort=False)["pairs_per_second"].idxmax()
    return table.loc[best].reset_index(drop=True)


def _score_all(system: System, query_rows: Sequence[int], calls: np.ndarray) -> None:
    for number, document_rows in enumerate(calls):
        system.score(query_rows[number % len(query_rows)], document_rows)


def benchmark(
    systems: Sequence[System],
    queries: Texts,
    documents: Texts,
    groups: Mapping[int, Sequence[Query]],
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return `measure` and `throughput` beside what each system is, a row for every system and depth.

    Further columns: family, dtype, params_non_embedding, bytes_per_document, flops_per_pair (forward, mean over the
    pairs), and `hardware`'s device, threads and torch. Throughput is over the groups' documents, in batches of like
    length.
    """
    rows = documents_of(groups)
    rows = rows[np.argsort(documents.lengths(rows), kind="stable")]
    rows = rows[np.linspace(0, len(rows) - 1, max(batches)).astype(int)]  # of every length
    facts = ("name", "rung", "family", "params_non_embedding", "bytes_per_document")
    named = [{name: getattr(s, name) for name in facts} | {"dtype": str(s.dtype).split(".")[-1]} for s in systems]
    table = pd.DataFrame(named).merge(measure(systems, groups, repeats), on=KEYS)
    query_rows = [row for row, _ in groups[max(groups)]]
    table = table.merge(throughput(systems, query_rows, rows, batches, repeats), on=KEYS)
    cost = [_flops(system, queries, documents, groups[depth]) for system in systems for depth in groups]
    return table.assign(flops_per_pair=cost, **hardware())


def _flops(system: System, queries: Texts, documents: Texts, group: Sequence[Query]) -> float:
    """Return the forward FLOPs of a pair, mean over all pairs of a group."""
    counted = [
        system.flops_per_pair(int(queries.lengths(query_row)), int(tokens), len(document_rows))
        for query_row, document_rows in group
        for tokens in documents.lengths(document_rows)
    ]
    return float(np.mean(counted))


def fixed_lengths(
    build: Callable[[Pairs], Sequence[System]],
    tokenizer: StudyTokenizer,
    lengths: Sequence[int] = LENGTHS,
    depths: Sequence[int] = DEPTHS,
    queries: int = 10,
    query_tokens: int = 12,
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return `benchmark` on random texts, with a further column document_tokens: all documents have that many tokens.

    Special tokens come on top. build: the systems for such texts; its pairs' tokenizer says how many positions models
    need. Time does not feel whether weights are random.
    """
    tables = []
    for length in lengths:
        pairs = random_pairs(tokenizer, queries, query_tokens, max(depths), length)
        groups = {depth: [(row, np.arange(depth)) for row in range(queries)] for depth in depths}
        timed = benchmark(build(pairs), pairs.queries, pairs.documents, groups, batches, repeats)
        tables.append(timed.assign(document_tokens=length))
    return pd.concat(tables, ignore_index=True)


def random_pairs(
    tokenizer: StudyTokenizer, queries: int, query_tokens: int, documents: int, document_tokens: int
) -> Pairs:
    """Return queries and documents of random token ids, all of one length, which no pair cuts."""
    rng, vocabulary = np.random.default_rng(0), tokenizer.tokenizer.get_vocab_size()

    def texts(count: int, tokens: int) -> Texts:
        return Texts(rng.integers(vocabulary, size=count * tokens, dtype=np.int32), np.arange(count + 1) * tokens)

    longest = replace(tokenizer, pair_tokens=query_tokens + document_tokens + 3)
    return Pairs(texts(queries, query_tokens), texts(documents, document_tokens), longest)


def natural_groups(test: Test, queries: int = 50, depths: Sequence[int] = DEPTHS) -> dict[int, list[Query]]:
    """Return a test's first queries with their best-ranked candidates, by depth; none is deeper than the test."""
    retrieved = test.candidates[test.candidates["retrieved"]].sort_values("rank", kind="stable")
    grouped = [(row, rows["document_row"].to_numpy()) for row, rows in retrieved.groupby("query_row")][:queries]
    return {depth: [(row, rows[:depth]) for row, rows in grouped] for depth in depths_of(test, depths)}


def documents_of(groups: Mapping[int, Sequence[Query]]) -> np.ndarray:
    """Return the rows of all documents in the groups, ascending: what a system must hold to be timed on them."""
    return np.unique(np.concatenate([rows for queries in groups.values() for _, rows in queries]))


def tokenisation_ms(study: Study, collection: Collection, queries: int = 50) -> float:
    """Return the median milliseconds that one query and its candidates take to tokenise, which `measure` leaves out."""
    tokenizer, test = collection.tokenizer(), open_test(study, collection)
    query_texts, document_texts = collection.queries()["text"], collection.documents()["text"]
    spent = []
    for query_row, document_rows in natural_groups(test, queries, [test.depth])[test.depth]:
        texts = [query_texts[query_row], *document_texts[document_rows]]
        spent.append(_seconds(partial(tokenizer.encode_batch, texts, add_special_tokens=False)))
    return float(np.median(spent) * 1000)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def served(study: Study, objective: str) -> dict[str, tuple[Run, Path]]:
    """Return each rung's run of an objective's first seed, and its most trained checkpoint's folder."""
    exposure, per_step = study.training.exposures[-1], study.training.groups.pairs_per_step
    found = {}
    for run in study.runs:
        path = ladder.checkpoint_file(study.run_folder(run), exposure // per_step * per_step)
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
        rung: ladder.load(ladder.build(study, run, vocabulary).to(device).eval(), path)
        for rung, (run, path) in served(study, objective).items()
    }
    return dict(sorted(models.items(), key=lambda item: parameters(item[1]).non_embedding))


def load_systems(
    study: Study, objective: str, collection: Collection, device: torch.device, held: np.ndarray, folder: Path
) -> list[System]:
    """Return every way to score with the `served` models of an objective.

    held: the document rows that systems store, ascending; folder: where document states are stored.
    """
    pairs, kind, found = collection.pairs(), score_of(objective, study.objectives[objective]), []
    for rung, model in load_models(study, objective, collection, device).items():
        found += of_model(model, pairs, study.text, held, folder, rung, kind)
    return found


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
    Timed are the first objective of each family and, beside ED2LM's or a bi-encoder's, BM25, whose order is the first
    stage's, at these depths and at the test's own, which laws are of.
    """
    pairs, test = collection.pairs(), open_test(study, collection)
    chosen, held = study.forecasting.headline, np.unique(test.candidates["document_row"])
    metric = chosen if chosen in test.metrics else next(filter(rising, test.metrics))
    depths, found, reached = [*depths, test.depth], [], []
    with tempfile.TemporaryDirectory() as folder:
        for objective in first_objectives(study).values():
            for system in load_systems(study, objective, collection, device, held, Path(folder)):
                scores = _scores(study, objective, system, test)
                found.append(system)
                reached.append(_named(system, quality(test, scores, metric, depths)).assign(objective=objective))
        if study.families != ["cross_encoder"]:
            found.append(bm25(collection.documents()["text"], collection.queries()["text"].tolist(), study.first_stage))
            as_retrieved = quality(test, first_stage_scores(test), metric, depths)
            reached.append(_named(found[-1], as_retrieved).assign(objective="BM25"))
        groups = natural_groups(test, queries, depths)
        timed = benchmark(found, pairs.queries, pairs.documents, groups, repeats=repeats)
    values = pd.concat(reached, ignore_index=True)
    of_each = over_queries(values, [*KEYS, "depth", "metric", "objective"])
    table = timed.merge(of_each, on=[*KEYS, "depth"]).assign(collection=test.name)
    with whole_file(study.folder / "speed_per_query.parquet") as temporary:
        values.to_parquet(temporary)
    with whole_file(study.folder / "speed.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def _named(system: System, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(name=system.name, rung=system.rung)


def _scores(study: Study, objective: str, system: System, test: Test) -> np.ndarray:
    """Return scores of a test's candidates: those that evaluation wrote, but for states that it did not pool."""
    if as_evaluated(system.name):
        return scores_of_run(test, served(study, objective)[system.rung][1])
    return scores_of(system, test)
