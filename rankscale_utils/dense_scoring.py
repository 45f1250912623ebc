"""What a bi-encoder's checkpoint makes of a test: exact search, contrastive entropy, and its order of the candidates.

Every document of a collection is embedded once a checkpoint, into a file that search and entropy read.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankscale_utils.collections import Collection
from rankscale_utils.collections.pieces import of_like_length
from rankscale_utils.collections.singles import Singles, singles
from rankscale_utils.contrastive_entropy import contrastive_entropy, draw_pool
from rankscale_utils.exact_search import NotFinite, search
from rankscale_utils.files import digest
from rankscale_utils.host import ahead
from rankscale_utils.metrics import Ranked, Test, measured, reference_values, reranked
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.study import Study, StudyError

BATCH_TOKENS = 16_384  # that are embedded together, padding included
SEARCHED = ", searched"  # what a collection's name ends in where a model found its own documents


class DenseScorer:
    """Scores every test with a bi-encoder: what it finds, its entropy, its order of the first stage's candidates."""

    def __init__(self, study: Study, collection: Collection, tests: list[Test]) -> None:
        """Know which rows of the collection's texts each test is about.

        Raises:
            StudyError: a corpus has fewer documents for the pool than negatives are asked for.
        """
        self.settings, self.tests, self.entropy = study.evaluation, tests, study.evaluation.entropy
        self.queries, self.documents = singles(collection.pairs(), study.text)
        self.corpora = {test.name: collection.manifest["tests"][test.name]["corpus"] for test in tests}
        self.rows, self.ids = {}, {}
        for corpus, found in collection.document_ids().groupby("corpus"):
            if corpus in self.corpora.values():
                self.rows[corpus], self.ids[corpus] = found.index.to_numpy(), found["document_id"].to_numpy()
        all_queries = collection.queries()
        self.test_queries = {test.name: all_queries[all_queries["test"] == test.name]["query_id"] for test in tests}
        self.limits = {test.name: reference_values(test) for test in tests}
        self.found_limits = {test.name: self._found_limits(test) for test in tests}
        self.pools = {test.name: self._pool(test) for test in tests}

    def _found_limits(self, test: Test) -> pd.DataFrame:
        """Return the first stage's values and, as the ceiling, those of the judged documents in their best order."""
        perfect = test.judgments.rename(columns={"relevance": "score"})
        measures = test.measures()
        best = ir_measures.calc_aggregate(measures.values(), test.judgments, perfect)
        ceiling = pd.Series({name: best[measure] for name, measure in measures.items()})
        return self.limits[test.name].assign(ceiling=ceiling)

    def _pool(self, test: Test) -> NDArray:
        """Return the places, within the corpus, of the documents that negatives are drawn from."""
        corpus = self.corpora[test.name]
        relevant = test.judgments.loc[test.judgments["relevance"] >= test.relevant_from, "doc_id"]
        places = np.arange(len(self.rows[corpus]))
        seed = int(digest(test.name, length=8), 16)
        pool = draw_pool(places, places[pd.Index(self.ids[corpus]).isin(relevant)], self.settings.pool, seed)
        if len(pool) < self.settings.negatives:
            raise StudyError(
                f"evaluation.negatives = {self.settings.negatives}: {test.name} has {len(pool)} documents that are "
                "relevant to no test query, fewer than are to be drawn: ask for fewer, or bring more documents."
            )
        return pool

    def rank(self, model: BiEncoder, last: bool = True) -> Iterator[Ranked]:
        """Yield what the model finds in each test's corpus, and then its order of the candidates."""
        with tempfile.TemporaryDirectory() as folder:
            embedded = {
                corpus: embed(model, self.documents, rows, Path(folder) / f"{place}.npy")
                for place, (corpus, rows) in enumerate(self.rows.items())
            }
            for test in self.tests:
                queries = embed(model, self.queries, self.test_queries[test.name].index.to_numpy(), of_queries=True)
                documents = embedded[self.corpora[test.name]]
                yield self._searched(test, queries, documents)
                yield self._reranked(test, queries, documents)

    def _searched(self, test: Test, queries: NDArray, documents: NDArray) -> Ranked:
        depth = min(self.settings.depth, len(documents))
        try:
            found, scores = search(queries, documents, depth)
        except NotFinite:  # a failed run, which evaluation excludes by its scores
            found, scores = np.tile(np.arange(depth), (len(queries), 1)), np.full((len(queries), depth), np.nan)
        ids, each = self.test_queries[test.name], found.shape[1]
        table = pd.DataFrame({"query_id": np.repeat(ids.to_numpy(), each), "query_row": np.repeat(ids.index, each)})
        table["document_id"] = self.ids[self.corpora[test.name]][found.ravel()]
        own = replace(test, name=test.name + SEARCHED, candidates=table.assign(retrieved=True))
        metrics, judged = measured(own, scores.ravel())
        values = pd.concat([metrics, self._entropies(test, queries, documents)])
        return Ranked(own, scores.ravel(), values, self.found_limits[test.name], judged)

    def _entropies(self, test: Test, queries: NDArray, documents: NDArray) -> pd.DataFrame:
        """Return query_id, metric, value: every query's contrastive entropy with its positive."""
        pairs = test.candidates[test.candidates["positive"]]
        asked, relevant = self._places(test, pairs)
        pool = documents[self.pools[test.name]]
        values = contrastive_entropy(queries[asked], documents[relevant], pool, self.settings.negatives)
        return pd.DataFrame({"query_id": pairs["query_id"].to_numpy(), "metric": self.entropy, "value": values})

    def _reranked(self, test: Test, queries: NDArray, documents: NDArray) -> Ranked:
        asked, scored = self._places(test, test.candidates)
        scores = np.einsum("pd,pd->p", queries[asked], documents[scored])
        return reranked(test, scores, self.limits[test.name])

    def _places(self, test: Test, pairs: pd.DataFrame) -> tuple[NDArray, NDArray]:
        """Return where a table's queries and documents stand among those that were embedded."""
        queries, documents = self.test_queries[test.name].index.to_numpy(), self.rows[self.corpora[test.name]]
        return np.searchsorted(queries, pairs["query_row"]), np.searchsorted(documents, pairs["document_row"])


@torch.inference_mode()
def embed(
    model: BiEncoder, texts: Singles, rows: NDArray, file: Path | None = None, of_queries: bool = False
) -> NDArray[np.float32]:
    """Return embeddings (rows, width) of the texts at `rows`, memory-mapped where a file is given.

    Products of queries' and documents' rows are those of the model's embeddings. Where the model is narrower than the
    common dimensions, the projections P x + b of both sides are multiplied out: a document keeps (x, 1), and a query
    (P x + b)ᵀ (P | b), so that search and memory cost the model's own width.
    """
    fold = None
    width = model.projection.out_features
    if model.projection.in_features + 1 < width:
        fold = torch.cat([model.projection.weight, model.projection.bias[:, None]], 1)  # (dimensions, hidden + 1)
        width = fold.shape[1]
    shape = (len(rows), width)
    made = np.empty(shape, np.float32) if file is None else np.lib.format.open_memmap(file, "w+", np.float32, shape)
    chosen = list(of_like_length(texts.lengths(rows), BATCH_TOKENS))
    batches = ahead(lambda places: model.inputs(*texts.batch(rows[places])), chosen, model.projection.weight.is_cuda)
    for places, batch in zip(chosen, batches, strict=True):
        pooled = model.pooled(batch)
        made[places] = _embedded(model, pooled, fold, of_queries).float().cpu().numpy()
    return made


def _embedded(model: BiEncoder, pooled: Tensor, fold: Tensor | None, of_query: bool) -> Tensor:
    if fold is None:
        return model.projection(pooled)
    return model.projection(pooled) @ fold if of_query else torch.cat([pooled, torch.ones_like(pooled[:, :1])], 1)
