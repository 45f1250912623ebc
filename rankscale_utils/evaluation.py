"""Rerank the test candidates with every checkpoint of a run, and measure the result.

The contract: trec_eval's numbers through ir-measures; equal scores are ordered by document id, descending; judgments
are binary; the relevant document is present or absent as BM25 retrieved it, never injected; every test query counts,
so no metric can pass the candidates' ceiling. Only the contrastive entropy scores the relevant document always.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.files import read_json, whole_file
from rankscale_utils.models import ladder
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.progress import Progress
from rankscale_utils.study import Run, Study

BATCH_PAIRS = 256


@dataclass(frozen=True)
class Test:
    """The test as arrays and tables.

    candidates: query_id, document_id, rank, query_row, document_row, retrieved, relevance; one row a scored pair, the
    relevant document of every query among them, `retrieved` or not. judgments: ir-measures' columns.
    """

    candidates: pd.DataFrame
    judgments: pd.DataFrame
    metrics: tuple[str, ...]
    depth: int

    @property
    def entropy(self) -> str:
        """The contrastive entropy's name: CEk with k negatives, the best-ranked candidates that are not relevant."""
        return f"CE{self.depth - 1}"


def open_test(study: Study, collection: Collection) -> Test:
    """Return the study's test."""
    candidates, judgments = collection.test_candidates(), collection.judgments()
    judgments = judgments[judgments["query_id"].isin(candidates["query_id"].unique())]
    scored = candidates.drop(columns="score").merge(judgments, on=["query_id", "document_id"], how="outer")
    scored["retrieved"] = scored["rank"].notna()
    scored["relevance"] = scored["relevance"].fillna(0).astype(int)
    for kind, table in (("query", collection.queries()), ("document", collection.documents())):
        rows = pd.Series(table.index, index=table[f"{kind}_id"])
        scored[f"{kind}_row"] = rows.loc[scored[f"{kind}_id"]].to_numpy()
    scored = scored.sort_values(["query_row", "rank"], na_position="last", ignore_index=True)
    qrels = judgments.rename(columns={"document_id": "doc_id"})[["query_id", "doc_id", "relevance"]]
    return Test(scored, qrels, study.evaluation.metrics, study.evaluation.depth)


@torch.inference_mode()
def score(model: CrossEncoder, pairs: Pairs, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
    """Return the raw scores of pairs in the order given: (pairs,). Batches hold pairs of like length."""
    device = next(model.parameters()).device
    order = np.argsort(pairs.lengths(query_rows, document_rows), kind="stable")
    scores = np.empty(len(order), np.float32)
    for chosen in np.array_split(order, max(1, len(order) // BATCH_PAIRS)):
        batch = pairs.batch(query_rows[chosen], document_rows[chosen])
        scores[chosen] = model(*(part.to(device) for part in batch)).float().cpu().numpy()
    return scores


def metrics_per_query(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return query_id, metric, value for every test query; scores stand for the rows of `test.candidates`."""
    measures = [ir_measures.parse_measure(name) for name in test.metrics]
    # Ranks instead of scores: ir-measures' providers differ in how they order equal scores.
    ranks = ranking(test, scores)
    run = pd.DataFrame({"query_id": ranks["query_id"], "doc_id": ranks["document_id"], "score": -ranks["rank"] + 0.0})
    values = [(v.query_id, str(v.measure), v.value) for v in ir_measures.iter_calc(measures, test.judgments, run)]
    order = [str(measure) for measure in measures]
    table = pd.DataFrame(values, columns=["query_id", "metric", "value"])
    return table.sort_values("metric", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def ranking(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return the retrieved candidates of every query, best first, with their score and rank (from 1).

    Equal scores are ordered by document id, descending, which is trec_eval's rule.
    """
    table = test.candidates.assign(score=scores)[test.candidates["retrieved"]]
    table = table.sort_values(["query_row", "score", "document_id"], ascending=[True, False, False])
    return table.assign(rank=table.groupby("query_row").cumcount() + 1)


def entropy_per_query(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return the contrastive entropy of every query in nats, on raw logits (arXiv 2603.04816, §3).

    −log softmax of the relevant document's score among itself and the depth − 1 best-ranked candidates that are not
    relevant; the relevant document is scored whether it was retrieved or not.
    """
    table = test.candidates.assign(score=scores.astype(float))
    negatives = table[table["relevance"] == 0].copy()
    negatives = negatives[negatives.groupby("query_id").cumcount() < test.depth - 1]
    kept = pd.concat([table[table["relevance"] > 0].drop_duplicates("query_id"), negatives])
    highest = kept.groupby("query_id")["score"].transform("max")
    total = np.exp(kept["score"] - highest).groupby(kept["query_id"]).sum()
    positive = (kept["score"] - highest)[kept["relevance"] > 0].set_axis(kept.loc[kept["relevance"] > 0, "query_id"])
    values = np.log(total.loc[positive.index]) - positive
    return pd.DataFrame({"query_id": values.index, "metric": test.entropy, "value": values.to_numpy()})


def reference_values(test: Test) -> pd.DataFrame:
    """Return `ceiling` (relevant documents first) and `first_stage` (as retrieved) for every metric, as the index."""
    order = -test.candidates["rank"].fillna(np.inf).to_numpy()
    order[np.isinf(order)] = -1e6
    perfect = test.candidates["relevance"].to_numpy() * 1e6 + order
    means = [metrics_per_query(test, scores).groupby("metric")["value"].mean() for scores in (perfect, order)]
    return pd.DataFrame({"ceiling": means[0], "first_stage": means[1]})


def write_run(path: Path, test: Test, scores: np.ndarray, name: str) -> None:
    """Write a TREC run (gzip), best first."""
    table = ranking(test, scores).assign(q0="Q0", name=name)
    lines = table[["query_id", "q0", "document_id", "rank", "score", "name"]].to_csv(sep=" ", header=False, index=False)
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), mtime=0))


def contract(study: Study, collection: Collection) -> dict[str, str]:
    """Return what these numbers mean, for people to read."""
    manifest, k = collection.manifest, study.evaluation.depth - 1
    first = study.first_stage
    return {
        "collection": f"{study.collection}, test split: {manifest['test_queries']:,} queries",
        "candidates": f"BM25 (bm25s lucene, k1 {first.k1}, b {first.b}) over all {manifest['pairs']:,} documents",
        "depth": f"the {study.evaluation.depth} best are reranked",
        "relevant_document": f"as retrieved: {manifest['candidates_with_positive']:.1%} of queries have it",
        "judgments": "binary, one relevant document a query; unjudged counts as not relevant",
        "ties": "trec_eval's rule: equal scores are ordered by document id, descending",
        "measures": f"ir-measures {ir_measures.__version__}: {', '.join(study.evaluation.metrics)}; every query counts",
        f"CE{k}": f"−log softmax of the relevant document against the {k} best-ranked others, raw logits, nats",
        "content": f"SHA-256 {manifest['sha256']}",
        "source": f"docstrings of {len(manifest['packages'])} pinned packages, the standard library among them",
    }


def evaluate(study: Study, run: Run, collection: Collection, device: torch.device) -> pd.DataFrame:
    """Measure every checkpoint of a run; write its TREC runs, per-query values and, last, its measurements.

    A checkpoint whose scores do not tell documents apart, and every checkpoint of a run that failed, is kept in the
    table with the reason in `excluded`; a run that failed before its first checkpoint has a table without rows.
    """
    folder = study.run_folder(run)
    ledger = read_json(folder / "ledger.json")
    test, pairs = open_test(study, collection), collection.pairs()
    limits = reference_values(test)
    model = ladder.build(study, run, collection.tokenizer().get_vocab_size()).to(device).eval()
    rows = test.candidates["query_row"].to_numpy(), test.candidates["document_row"].to_numpy()
    progress = Progress(f"{run.name} scoring", len(ledger["checkpoints"]) * len(rows[0]), "pairs")
    measured, per_query = [], []
    for checkpoint in ledger["checkpoints"]:
        exposure = checkpoint["exposure"]
        ladder.load(model, ladder.checkpoint_file(folder, exposure))
        scores = score(model, pairs, *rows)
        write_run(folder / f"exposure-{exposure:09d}.run.gz", test, scores, run.name)
        values = pd.concat([metrics_per_query(test, scores), entropy_per_query(test, scores)])
        per_query.append(values.assign(run=run.name, exposure=exposure))
        means = values.groupby("metric", sort=False)["value"].mean().rename("value").reset_index()
        excluded = _reason(ledger["status"], test, scores)
        measured.append(means.assign(**_columns(study, ledger, checkpoint), excluded=excluded))
        progress.advance(len(scores))
    if not measured:
        return _write_nothing(folder, study, ledger)
    table = pd.concat(measured, ignore_index=True).join(limits, on="metric")
    _write(folder / "per_query.parquet", pd.concat(per_query, ignore_index=True))
    _write(folder / "measurements.parquet", table)
    return table


def _write_nothing(folder: Path, study: Study, ledger: dict) -> pd.DataFrame:
    """Write tables that have their columns and no rows."""
    seen = dict.fromkeys(("exposure", "queries", "tokens", "flops"), 0)
    row = {
        "metric": "",
        "value": 0.0,
        **_columns(study, ledger, seen),
        "excluded": "",
        "ceiling": 0.0,
        "first_stage": 0.0,
    }
    nothing = pd.DataFrame([row]).iloc[:0]
    _write(folder / "per_query.parquet", nothing[["run", "exposure", "metric", "value"]].assign(query_id=""))
    _write(folder / "measurements.parquet", nothing)
    return nothing


def _columns(study: Study, ledger: dict, checkpoint: dict) -> dict:
    named = ("run", "family", "objective", "rung", "seed", "params", "params_non_embedding", "flops_per_pair")
    seen = ("exposure", "queries", "tokens", "flops")
    identity = {"study": study.name, "collection": f"{study.collection}/test"}
    return identity | {name: ledger[name] for name in named} | {name: checkpoint[name] for name in seen}


def _reason(status: str, test: Test, scores: np.ndarray) -> str:
    """Return why a checkpoint is no measurement, or nothing."""
    if status != "complete":
        return status
    if not np.isfinite(scores).all():
        return "scores that are not numbers"
    spread = pd.Series(scores).groupby(test.candidates["query_row"].to_numpy()).agg(np.ptp)
    return "constant scores" if spread.max() <= 1e-5 * max(1.0, np.abs(scores).max()) else ""


def _write(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        table.to_parquet(temporary)
