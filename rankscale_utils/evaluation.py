"""Rerank the candidates of every test with every checkpoint of a run, and measure the result.

The contract: trec_eval's numbers through ir-measures; equal scores are ordered by document id, descending; relevant
documents are present or absent as retrieved, never injected; every test query counts, so no metric can pass the
candidates' ceiling. Only the contrastive entropies score a relevant document always.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import torch

from rankscale_utils.annotated import own_end
from rankscale_utils.collections import Collection
from rankscale_utils.collections.pieces import of_like_length
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.dense_scoring import SEARCHED, DenseScorer
from rankscale_utils.depths import run_file
from rankscale_utils.ed2lm_scoring import Ed2lmScorer
from rankscale_utils.families.ed2lm import scores_of
from rankscale_utils.files import read_json, whole_file
from rankscale_utils.host import ahead
from rankscale_utils.metrics import (
    Ranked,
    Test,
    first_stage_scores,
    judged_at_10,
    ranking,
    reference_values,
    reranked,
)
from rankscale_utils.models import ladder
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.packed import packed
from rankscale_utils.models.unpadded import Inputs
from rankscale_utils.progress import Progress
from rankscale_utils.study import Run, Study

BATCH_TOKENS = (4096, 16_384)  # the fewest and the most that are scored together
CACHED_STATES = 2**20  # numbers, 4 MB of float32
OF_QUERIES = (
    "collection",
    "run",
    "objective",
    "rung",
    "seed",
    "params_non_embedding",
    "exposure",
    "excluded",
)  # columns beside each query's value


def open_test(study: Study, collection: Collection, name: str | None = None) -> Test:
    """Return the test of that name, the study's first one where none is given."""
    name = name or collection.tests[0]
    judgments = collection.test_judgments(name).rename(columns={"document_id": "doc_id"})
    relevant_from = collection.manifest["tests"][name]["relevant_from"]
    candidates, settings = collection.test_candidates(name), study.evaluation
    return Test(name, candidates, judgments, settings.metrics, settings.depth, relevant_from)


@torch.inference_mode()
def score(model: CrossEncoder, pairs: Pairs, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
    """Return the raw scores of pairs in the order given: (pairs,). Batches hold pairs of like length."""
    chosen = list(of_like_length(pairs.lengths(query_rows, document_rows), _batch_tokens(model)))

    def batch(places: np.ndarray) -> Inputs:
        return model.inputs(*pairs.batch(query_rows[places], document_rows[places]))

    with packed(model):
        batches = ahead(batch, chosen, model.head.weight.is_cuda)
        found = torch.cat([model(each).float() for each in batches])  # a GPU is asked for them once
    scores = np.empty(len(query_rows), np.float32)
    scores[np.concatenate(chosen)] = found.cpu().numpy()
    return scores


def _batch_tokens(model: CrossEncoder) -> int:
    """Return how many tokens are scored together: on the CPU as many as its cache holds a layer's states of."""
    fitting = CACHED_STATES // model.head.in_features if model.head.weight.device.type == "cpu" else BATCH_TOKENS[1]
    return int(np.clip(fitting, *BATCH_TOKENS))


def write_run(path: Path, ranked: Ranked, name: str) -> None:
    """Write a TREC run (gzip), best first."""
    table = ranking(ranked.test, ranked.scores).assign(q0="Q0", name=name)
    lines = table[["query_id", "q0", "document_id", "rank", "score", "name"]].to_csv(sep=" ", header=False, index=False)
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), 6, mtime=0))


def contract(study: Study, collection: Collection, name: str) -> dict[str, str]:
    """Return what a test's numbers mean, for people to read."""
    said, test = collection.manifest["tests"][name], open_test(study, collection, name)
    limits, k, grades = reference_values(test), study.evaluation.depth - 1, said["grades"]
    headline, filled = test.metrics[0], test.candidates.query("not retrieved and not positive")["query_id"].nunique()
    binary = len([grade for grade in grades if grade > 0]) <= 1
    lacking = said["test_queries"] - said["queries_with_candidates"]
    return {
        "collection": f"{said['collection']}: {said['test_queries']:,} queries, "
        f"{said['queries_also_trained_on']:,} of them also trained on",
        "candidates": said["candidates"] + (f"; {lacking:,} queries have none and count as 0" if lacking else ""),
        "depth": f"the {said['depth']} best are reranked",
        "positives": f"as retrieved, never injected: {said['candidates_with_positive']:.1%} of queries have one",
        "first_stage": f"{headline} {limits.loc[headline, 'first_stage']:.4f}, the order as retrieved",
        "ceiling": f"{headline} {limits.loc[headline, 'ceiling']:.4f}, a perfect reranking of these candidates",
        "judgments": f"{'binary' if binary else 'graded'} ({', '.join(map(str, grades))}), "
        f"{said['judgments_a_query']:g} a query; unjudged counts as not relevant",
        "judged@10": f"{judged_at_10(test, first_stage_scores(test)):.1%} of the first stage's first ten are judged",
        "gain": "nDCG's gain is the grade and its discount log2(rank + 1); for binary measures a grade of "
        f"{test.relevant_from} or more is relevant",
        "ties": "trec_eval's rule: equal scores are ordered by document id, descending",
        "measures": f"ir-measures {ir_measures.__version__}: {', '.join(test.metrics)}; every query counts",
        test.entropy: "−log softmax of one relevant document (of the highest grade, the best-ranked, retrieved or not) "
        f"against {k} negatives: the best-ranked candidates without a grade above 0, filled up for {filled:,} queries "
        f"with other queries' candidates; raw logits, nats; {int(test.candidates['positive'].sum()):,} queries",
        f"{test.entropy}-T": "the same after dividing the logits by one temperature a checkpoint, the best for half of "
        "the queries, chosen by the hash of their ids; the value is the other half's",
        **(_dense_contract(study, said) if "bi_encoder" in study.families else {}),
        "significance": "paired t-test over queries, neighbouring rungs at the last exposure, Holm's correction",
        "content": f"SHA-256 of the training data {collection.manifest['sha256']}",
    }


def _dense_contract(study: Study, said: dict) -> dict[str, str]:
    """Return what a bi-encoder's own numbers mean."""
    settings, dimensions = study.evaluation, study.bi_encoder.dimensions
    return {
        SEARCHED.strip(", "): f"exact search by inner product ({dimensions} dimensions) over all {said['documents']:,} "
        f"documents, the {settings.depth} best; its ceiling is the judged documents in their best order",
        settings.entropy: f"−log softmax of the relevant document against {settings.negatives} random documents, "
        f"from a pool of {min(settings.pool, said['documents']):,} or as many as are relevant to no test query, mean "
        "of 10 draws; raw inner products, nats (arXiv 2403.18684, §3.3)",
    }


class PairScorer:
    """Scores the candidates of every test with a cross-encoder, the pairs of all tests in one pass."""

    def __init__(self, collection: Collection, tests: list[Test]) -> None:
        """Know every test's pairs."""
        self.tests, self.pairs = tests, collection.pairs()
        self.limits = [reference_values(test) for test in tests]
        self.rows = [
            np.concatenate([test.candidates[f"{kind}_row"] for test in tests]) for kind in ("query", "document")
        ]
        self.ends = np.cumsum([len(test.candidates) for test in tests])[:-1]

    def rank(self, model: CrossEncoder, last: bool = True) -> Iterator[Ranked]:
        """Yield the model's order of every test's candidates."""
        scores = np.split(score(model, self.pairs, *self.rows), self.ends)
        return map(reranked, self.tests, scores, self.limits)


def scorer(study: Study, objective: str, collection: Collection) -> PairScorer | DenseScorer | Ed2lmScorer:
    """Return what scores the tests of a study with the models of an objective."""
    tests, family = [open_test(study, collection, name) for name in collection.tests], study.family_of(objective)
    if family == "ed2lm":
        return Ed2lmScorer(study, collection, tests, scores_of(objective, study.objectives[objective]))
    return DenseScorer(study, collection, tests) if family == "bi_encoder" else PairScorer(collection, tests)


def evaluate(study: Study, run: Run, collection: Collection, device: torch.device) -> pd.DataFrame:
    """Measure every checkpoint of a run; write its TREC runs, per-query values and, last, its measurements.

    A run on annotated pairs is measured at its own end alone. A checkpoint whose scores do not tell documents apart,
    and every checkpoint of a run that failed, is kept in the table with the reason in `excluded`; a run that failed
    before its first checkpoint has a table without rows.
    """
    folder = study.run_folder(run)
    ledger = read_json(folder / "ledger.json")
    model = ladder.build(study, run, collection.tokenizer().get_vocab_size()).to(device).eval()
    scoring = scorer(study, run.objective, collection)
    progress = Progress(f"{run.name} scoring", len(ledger["checkpoints"]), "checkpoints")
    measured, per_query = [], []
    ends = [own_end(ledger["checkpoints"])] if run.source and ledger["checkpoints"] else ledger["checkpoints"]
    for checkpoint in ends:
        path = ladder.checkpoint_file(folder, checkpoint["exposure"])
        ladder.load(model, path)
        for ranked in scoring.rank(model, last=checkpoint is ends[-1]):
            write_run(run_file(path, ranked.test.name), ranked, run.name)
            columns = _columns(study, ledger, checkpoint, ranked.test, _reason(ledger["status"], ranked))
            per_query.append(ranked.values.assign(**{name: columns[name] for name in OF_QUERIES}))
            means = ranked.values.groupby("metric", sort=False)["value"].mean().rename("value").reset_index()
            judged = {"judged@10": ranked.judged}
            measured.append(means.assign(**columns).join(ranked.limits, on="metric").assign(**judged))
        progress.advance(1)
    if not measured:
        return _write_nothing(folder, study, ledger, scoring.tests[0])
    table = pd.concat(measured, ignore_index=True)
    _write(folder / "per_query.parquet", pd.concat(per_query, ignore_index=True))
    _write(folder / "measurements.parquet", table)
    return table


def _write_nothing(folder: Path, study: Study, ledger: dict, test: Test) -> pd.DataFrame:
    """Write tables that have their columns and no rows."""
    seen = dict.fromkeys(("exposure", "queries", "tokens", "flops"), 0)
    columns = _columns(study, ledger, seen, test, "")
    limits = {"ceiling": 0.0, "first_stage": 0.0, "judged@10": 0.0}
    nothing = pd.DataFrame([{"metric": "", "value": 0.0, **columns, **limits}]).iloc[:0]
    _write(folder / "per_query.parquet", nothing[["metric", "value", *OF_QUERIES]].assign(query_id=""))
    _write(folder / "measurements.parquet", nothing)
    return nothing


def _columns(study: Study, ledger: dict, checkpoint: dict, test: Test, excluded: str) -> dict:
    named = ("run", "family", "objective", "rung", "seed", "source", "annotations", "params", "params_non_embedding")
    seen = ("exposure", "queries", "tokens", "flops")
    columns = {"study": study.name, "collection": test.name} | {name: ledger[name] for name in named}
    columns["flops_per_pair"] = ledger["flops_per_pair"]
    return columns | {name: checkpoint[name] for name in seen} | {"excluded": excluded}


def _reason(status: str, ranked: Ranked) -> str:
    """Return why a checkpoint is no measurement, or nothing."""
    scores = ranked.scores
    if status != "complete":
        return status
    if not np.isfinite(scores).all():
        return "scores that are not numbers"
    of_queries = pd.Series(scores).groupby(ranked.test.candidates["query_row"].to_numpy())
    spread = (of_queries.max() - of_queries.min()).max()
    return "constant scores" if spread <= 1e-5 * max(1.0, np.abs(scores).max()) else ""


def _write(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as temporary:
        table.to_parquet(temporary)
