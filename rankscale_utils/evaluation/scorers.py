"""How a checkpoint of each family scores a test's candidates."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.collections import Collection
from rankscale_utils.collections.collection import DEV
from rankscale_utils.collections.singles import singles
from rankscale_utils.measurements.table import REFERENCES, RERANK
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.scoring.decoder import DecoderScorer
from rankscale_utils.scoring.document_states import encode_collection
from rankscale_utils.scoring.pairs import score_pairs
from rankscale_utils.study.objectives import scores_of_objective
from rankscale_utils.study.study import Study

from .dense_scorer import DenseScorer
from .metrics import Ranked, Test, metrics_per_query, open_test, ranked_test, reference_values
from .with_first_stage import limits_together


class PairScorer:
    """Scores the candidates of every test with a cross-encoder, the pairs of all tests in one pass."""

    def __init__(self, collection: Collection, tests: list[Test]) -> None:
        """Know every test's pairs."""
        self.tests, self.pairs = tests, collection.pairs()
        self.limits = [reference_values(test) for test in tests]
        self.tasks = [(test.name, RERANK, limits) for test, limits in zip(tests, self.limits, strict=True)]
        self.rows = [
            np.concatenate([test.candidates[f"{kind}_row"] for test in tests]) for kind in ("query", "document")
        ]
        self.ends = np.cumsum([len(test.candidates) for test in tests])[:-1]

    def rank(self, model: CrossEncoder, last: bool = True) -> Iterator[Ranked]:
        """Yield the model's order of every test's candidates."""
        scores = np.split(score_pairs(model, self.pairs, *self.rows), self.ends)
        return map(ranked_test, self.tests, scores, self.limits)


class Ed2lmScorer:
    """Scores every test's candidates with an ED2LM, by its objective's own score and, beside it, by the others."""

    def __init__(self, study: Study, collection: Collection, tests: list[Test], kinds: tuple[str, ...]) -> None:
        """Know every test's queries and documents. kinds: the scores, of `ed2lm.SCORES`; the first one ranks."""
        self.tests, self.kinds = tests, kinds
        self.limits = [reference_values(test) for test in tests]
        self.tasks = [(test.name, RERANK, limits) for test, limits in zip(tests, self.limits, strict=True)]
        self.queries, documents = singles(collection.pairs(), study.text, "ed2lm")
        self.rows = np.unique(np.concatenate([test.candidates["document_row"] for test in tests]))
        self.texts = documents.written(self.rows)

    def rank(self, model: Ed2lm, last: bool = True) -> Iterator[Ranked]:
        """Yield the model's order of every test's candidates; of the last checkpoint the metrics by every score."""
        kinds = self.kinds if last else self.kinds[:1]
        with tempfile.TemporaryDirectory() as folder:
            store = encode_collection(model, self.texts, Path(folder), "float32")
            decoder, device = DecoderScorer(model), model.t5.shared.weight.device
            for test, limits in zip(self.tests, self.limits, strict=True):
                scores = {kind: np.empty(len(test.candidates), np.float32) for kind in kinds}
                for query, places in test.candidates.groupby("query_row").indices.items():
                    ids = self.queries.batch(np.array([query])).input_ids[0].to(device)
                    documents = np.searchsorted(self.rows, test.candidates["document_row"].to_numpy()[places])
                    for kind, found in decoder.scores(ids, store.read(documents).to(device), kinds).items():
                        scores[kind][places] = found.cpu().numpy()
                yield self._ranked(test, scores, limits)

    def _ranked(self, test: Test, scores: dict[str, np.ndarray], limits: pd.DataFrame) -> Ranked:
        ranked = ranked_test(test, scores[self.kinds[0]], limits)
        others = [metrics_per_query(test, scores[kind]).assign(score=kind) for kind in scores if kind != self.kinds[0]]
        return ranked._replace(values=pd.concat([ranked.values, *others], ignore_index=True))


def open_tests(study: Study, collection: Collection, *, dev: bool = True) -> list[Test]:
    """Return a study's tests, behind the queries `DEV` where there are any and they are wanted."""
    names = [DEV] * (dev and collection.has_dev) + collection.tests
    return [open_test(study, collection, name) for name in names]


def scorer(
    study: Study, objective: str, collection: Collection, *, dev: bool = True
) -> PairScorer | DenseScorer | Ed2lmScorer:
    """Return what scores `open_tests` a study with the models of an objective."""
    tests, family = open_tests(study, collection, dev=dev), study.family_of(objective)
    if family == "ed2lm":
        return Ed2lmScorer(study, collection, tests, scores_of_objective(objective, study.objectives[objective]))
    return DenseScorer(study, collection, tests) if family == "bi_encoder" else PairScorer(collection, tests)


def references(study: Study, collection: Collection) -> pd.DataFrame:
    """Return what else every metric of every test could be, a row a family, collection, task and metric.

    Columns as in `references.csv`; whatever the tests lack is said here, before any run.
    """
    rows, tests = [], {test.name: test for test in open_tests(study, collection, dev=False)}
    for family, objective in {study.family_of(name): name for name in study.objectives}.items():
        for test, task, limits in scorer(study, objective, collection, dev=False).tasks:
            if study.with_first_stage and task == RERANK:
                limits = limits_together(limits, tests[test])
            rows.append(limits.rename_axis("metric").reset_index().assign(family=family, collection=test, task=task))
    return pd.concat(rows, ignore_index=True)[["family", "collection", "task", "metric", *REFERENCES, "standard_error"]]
