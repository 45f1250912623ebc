"""What an ED2LM's checkpoint makes of a test's candidates: documents are encoded once, then the decoder alone reads.

Evaluation takes the way that serving takes: document states from a store, one query against all its candidates.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.collections import Collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.document_states import encode_collection
from rankscale_utils.metrics import Ranked, Test, metrics_per_query, reference_values, reranked
from rankscale_utils.models.decoder_scorer import DecoderScorer
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.study import Study

BY = " by "  # between a metric and the score that is not the objective's own


class Ed2lmScorer:
    """Scores every test's candidates with an ED2LM, by its objective's own score and, beside it, by the others."""

    def __init__(self, study: Study, collection: Collection, tests: list[Test], kinds: tuple[str, ...]) -> None:
        """Know every test's queries and documents. kinds: the scores, of `ed2lm.SCORES`; the first one ranks."""
        self.tests, self.kinds = tests, kinds
        self.limits = [reference_values(test) for test in tests]
        self.queries, documents = singles(collection.pairs(), study.text, "ed2lm")
        self.rows = np.unique(np.concatenate([test.candidates["document_row"] for test in tests]))
        self.texts = documents.written(self.rows)

    def rank(self, model: Ed2lm, last: bool = True) -> Iterator[Ranked]:
        """Yield the model's order of every test's candidates; for the last checkpoint by every score.

        Metrics of scores that do not rank are called `nDCG@10 by …`.
        """
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
        ranked = reranked(test, scores[self.kinds[0]], limits)
        values, known = [ranked.values], [limits]
        for kind in [kind for kind in scores if kind != self.kinds[0]]:
            named = metrics_per_query(test, scores[kind])
            values.append(named.assign(metric=named["metric"] + BY + kind))
            known.append(limits.rename(index=lambda metric, kind=kind: metric + BY + kind))
        return ranked._replace(values=pd.concat(values, ignore_index=True), limits=pd.concat(known))
