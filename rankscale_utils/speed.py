"""Latency and throughput of scoring: what each rung costs to serve."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.evaluation import Test, open_test, score
from rankscale_utils.files import whole_file
from rankscale_utils.measurements import front, headline
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import flops, parameters
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.study import Study

THROUGHPUT_PAIRS = 4000


def load_ladder(study: Study, collection: Collection, device: torch.device) -> dict[str, CrossEncoder]:
    """Return the most trained model of every rung, of the study's first objective and seed, smallest rung first."""
    vocabulary = collection.tokenizer().get_vocab_size()
    objective, exposure = next(iter(study.objectives)), study.training.exposures[-1]
    per_step = study.training.groups.pairs_per_step
    models = {}
    for run in study.runs:
        if run.objective == objective and run.rung not in models:
            path = ladder.checkpoint_file(study.run_folder(run), exposure // per_step * per_step)
            if path.exists():  # else the run failed before it
                models[run.rung] = ladder.load(ladder.build(study, run, vocabulary).to(device).eval(), path)
    return dict(sorted(models.items(), key=lambda item: parameters(item[1]).non_embedding))


def measure(
    study: Study, collection: Collection, device: torch.device, queries: int = 50, repeats: int = 5
) -> pd.DataFrame:
    """Time every rung: rung, flops_per_pair, depth, p50_ms, p95_ms, p50_low, p50_high, pairs_per_second.

    A query's candidates are scored as one batch, and latency is per query, tokenisation not included. Rungs take turns
    within each repeat, so that a drift of the machine's speed hits all; a first round warms up and is discarded. The
    figures are medians over repeats, with the lowest and highest repeat beside p50. Throughput is over many pairs of
    natural length in batches of like length.
    """
    models, pairs, test = load_ladder(study, collection, device), collection.pairs(), open_test(study, collection)
    groups = _groups(test, queries)
    rows = [test.candidates[column].to_numpy()[:THROUGHPUT_PAIRS] for column in ("query_row", "document_row")]
    lengths = pairs.lengths(*rows)
    timed = []
    for repeat in range(repeats + 1):
        for rung, model in models.items():
            latency = [_seconds(lambda m=model, g=group: score(m, pairs, *g), device) for group in groups]
            whole = _seconds(lambda m=model: score(m, pairs, *rows), device)
            if repeat:
                p50, p95 = np.percentile(latency, [50, 95]) * 1000
                timed.append({"rung": rung, "p50": p50, "p95": p95, "pairs_per_second": len(rows[0]) / whole})
    by_rung = pd.DataFrame(timed).groupby("rung", sort=False)
    table = by_rung.agg(
        p50_ms=("p50", "median"),
        p95_ms=("p95", "median"),
        p50_low=("p50", "min"),
        p50_high=("p50", "max"),
        pairs_per_second=("pairs_per_second", "median"),
    ).reset_index()
    cost = [float(flops(models[rung]).forward(lengths).mean()) for rung in table["rung"]]
    return table.assign(depth=test.depth, flops_per_pair=cost, repeats=repeats)


def tokenisation_ms(study: Study, collection: Collection, queries: int = 50) -> float:
    """Return the median milliseconds that one query and its candidates take to tokenise, which `measure` leaves out."""
    tokenizer, test = collection.tokenizer(), open_test(study, collection)
    query_texts, document_texts = collection.queries()["text"], collection.documents()["text"]
    spent = []
    for query_rows, document_rows in _groups(test, queries):
        texts = [query_texts[query_rows[0]], *document_texts[document_rows]]
        spent.append(_seconds(lambda t=texts: tokenizer.encode_batch(t, add_special_tokens=False)))
    return float(np.median(spent) * 1000)


def _groups(test: Test, queries: int) -> list[tuple[np.ndarray, np.ndarray]]:
    retrieved = test.candidates[test.candidates["retrieved"]]
    grouped = [group for _, group in retrieved.groupby("query_row")][:queries]
    return [(group["query_row"].to_numpy(), group["document_row"].to_numpy()) for group in grouped]


def _seconds(work: Callable[[], object], device: torch.device | None = None) -> float:
    began = time.perf_counter()
    work()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure_study(study: Study, collection: Collection, device: torch.device) -> pd.DataFrame:
    """Write `speed.csv` and return it: every rung's `measure`, its headline metric on the first test, mean of seeds."""
    table = pd.concat([pd.read_parquet(study.run_folder(run) / "measurements.parquet") for run in study.runs])
    metric, objective = headline(study, table), next(iter(study.objectives))
    mine = front(table[(table["objective"] == objective) & (table["metric"] == metric)])
    values = mine[mine["exposure"] == mine["exposure"].max()].groupby("rung")["value"].mean().rename("value")
    timed = measure(study, collection, device).join(values, on="rung").assign(objective=objective, metric=metric)
    with whole_file(study.folder / "speed.csv") as temporary:
        timed.to_csv(temporary, index=False)
    return timed
