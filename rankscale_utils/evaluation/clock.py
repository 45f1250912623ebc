"""The clock: latency and throughput of a call, measured until it is steady."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from rankscale_utils.collections.tokens import Texts
from rankscale_utils.machine.device import hardware
from rankscale_utils.scoring.systems import System

BATCHES = (10, 50, 100, 200, 500)  # documents a call, of which the best counts as throughput
LEAST, ENOUGH = 2, 60.0  # rounds at least, and seconds after which no further one begins
KEYS = ["name", "rung"]  # what tells systems apart
Query = tuple[int, np.ndarray]  # a query's row and its documents' rows


def time_calls(systems: Sequence[System], groups: Mapping[int, Sequence[Query]], repeats: int = 5) -> pd.DataFrame:
    """Time every system at every depth: name, rung, depth, p50_ms, p95_ms, p50_low, p50_high, repeats.

    groups: queries with their documents, by depth. A query's documents are scored as one batch, and latency is per
    query, from rows of token ids to scores in the host's memory, reading what is stored included and tokenisation not.
    Systems take turns within each repeat, so that a drift of the machine's speed hits all; a first round warms up and
    is discarded, and slow systems have fewer repeats (`_rounds`). The figures are medians over repeats, with the lowest
    and the highest repeat beside p50.
    """
    timed = []
    for repeat in _rounds(repeats):
        for depth, queries in groups.items():
            for system in systems:
                latency = [seconds_of(partial(system.score, *query)) for query in queries]
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
    the largest batch. Turns, warm-up, medians and ranges are those of `time_calls`.
    """
    timed = []
    for repeat in _rounds(repeats):
        for batch in batches:
            calls = np.resize(document_rows, (max(batches) // batch, batch))
            for system in systems:
                work = partial(_score_all, system, query_rows, calls)
                rate = calls.size / seconds_of(work)
                if repeat:
                    timed.append({"name": system.name, "rung": system.rung, "batch": batch, "rate": rate})
    rates = pd.DataFrame(timed).groupby([*KEYS, "batch"], sort=False)["rate"]
    table = rates.agg(pairs_per_second="median", pairs_low="min", pairs_high="max").reset_index()
    best = table.groupby(KEYS, sort=False)["pairs_per_second"].idxmax()
    return table.loc[best].reset_index(drop=True)


def _rounds(most: int) -> Iterator[int]:
    """Yield 0, for the round that warms up, then 1, 2, … up to `most`, or `LEAST` once `ENOUGH` seconds have passed."""
    began = time.perf_counter()
    for number in range(most + 1):
        if number > LEAST and time.perf_counter() - began > ENOUGH:
            return
        yield number


def _score_all(system: System, query_rows: Sequence[int], calls: np.ndarray) -> None:
    for number, document_rows in enumerate(calls):
        system.score(query_rows[number % len(query_rows)], document_rows)


def benchmark_calls(
    systems: Sequence[System],
    queries: Texts,
    documents: Texts,
    groups: Mapping[int, Sequence[Query]],
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return `time_calls` and `throughput` beside what each system is, a row for every system and depth.

    Further columns: family, dtype, params_non_embedding, bytes_per_document, as_evaluated, flops_per_pair (forward,
    mean over the pairs), and `hardware`'s device, threads and torch. Throughput is over the groups' documents, in
    batches of like length.
    """
    rows = documents_of(groups)
    rows = rows[np.argsort(documents.lengths(rows), kind="stable")]
    rows = rows[np.linspace(0, len(rows) - 1, max(batches)).astype(int)]  # of every length
    facts = ("name", "rung", "family", "params_non_embedding", "bytes_per_document", "as_evaluated")
    named = [{name: getattr(s, name) for name in facts} | {"dtype": str(s.dtype).split(".")[-1]} for s in systems]
    table = pd.DataFrame(named).merge(time_calls(systems, groups, repeats), on=KEYS)
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


def documents_of(groups: Mapping[int, Sequence[Query]]) -> np.ndarray:
    """Return the rows of all documents in the groups, ascending: what a system must hold to be timed on them."""
    return np.unique(np.concatenate([rows for queries in groups.values() for _, rows in queries]))


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long the work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
