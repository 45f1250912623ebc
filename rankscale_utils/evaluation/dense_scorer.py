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
from numpy.typing import NDArray

from rankscale_utils.collections import Collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest
from rankscale_utils.measurements.table import OWN, RERANK, SEARCH
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.scoring.exact_search import NotFinite, search_exactly
from rankscale_utils.study.study import Study

from .contrastive_entropy import contrastive_entropy, draw_pool
from .metrics import Ranked, Test, beside_random_order, measure_ranking, ranked_test, reference_values
from .random_order import hands_of_corpus, random_order


class DenseScorer:
    """Scores every test with a bi-encoder: what it finds, its entropy, its order of the first stage's candidates."""

    def __init__(self, study: Study, collection: Collection, tests: list[Test]) -> None:
        """Know which rows of the collection's texts each test is about.

        Raises:
            StudyError: a corpus has fewer documents for the pool than negatives are asked for.
        """
        self.settings, self.tests, self.entropy = study.evaluation, tests, study.evaluation.entropy
        self.temperature = study.objectives["contrastive"].temperature or 1.0
        self.queries, self.documents = singles(collection.pairs(), study.text)
        self.corpora = {test.name: collection.facts(test.name)["corpus"] for test in tests}
        self.own = {test.name: collection.own_documents(test.name) for test in tests}
        self.rows, self.ids = {}, {}
        for corpus, found in collection.document_ids().groupby("corpus"):
            if corpus in self.corpora.values():
                self.rows[corpus], self.ids[corpus] = found.index.to_numpy(), found["document_id"].to_numpy()
        all_queries = collection.queries()
        self.test_queries = {test.name: all_queries[all_queries["test"] == test.name]["query_id"] for test in tests}
        self.limits = {test.name: reference_values(test) for test in tests}
        self.of_chance = {test.name: self._of_chance(test) for test in tests}
        self.found_limits = {test.name: self._found_limits(test) for test in tests}
        self.tasks = [(name, SEARCH, limits) for name, limits in self.found_limits.items()]
        self.tasks += [(name, RERANK, limits) for name, limits in self.limits.items()]
        self.pools = {test.name: self._pool(test) for test in tests}

    def _found_limits(self, test: Test) -> pd.DataFrame:
        """Return the first stage's values and, as the ceiling, those of the judged documents in their best order."""
        perfect = test.judgments.rename(columns={"relevance": "score"})
        measures = test.measures()
        best = ir_measures.calc_aggregate(measures.values(), test.judgments, perfect)
        ceiling = pd.Series({name: best[measure] for name, measure in measures.items()})
        limits = self.limits[test.name].loc[list(measures), ["first_stage"]].assign(ceiling=ceiling)
        return beside_random_order(limits, self.of_chance[test.name])

    def _of_chance(self, test: Test) -> pd.DataFrame:
        """Return what every query scores by a random order of the corpus, as `Test.random_order` of the candidates."""
        documents = len(self.rows[self.corpora[test.name]])
        hands = hands_of_corpus(documents, self.settings.depth, test.judgments)
        metrics = random_order(hands, test.measures(), test.evaluators)
        queries = test.candidates.loc[test.candidates["positive"], "query_id"]
        equal = {"metric": self.entropy, "value": np.log(self.settings.negatives + 1), "standard_error": 0.0}
        return pd.concat([metrics, pd.DataFrame({"query_id": queries}).assign(**equal)], ignore_index=True)

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
        """Yield what the model finds in each test's corpus, and then its order of the candidates.

        Scores are inner products divided by the temperature that the model is trained with.
        """
        with tempfile.TemporaryDirectory() as folder:
            embedded = {
                corpus: embed(model, self.documents, rows, Path(folder) / f"{place}.npy")
                for place, (corpus, rows) in enumerate(self.rows.items())
            }
            for test in self.tests:
                rows = self.test_queries[test.name].index.to_numpy()
                queries = embed(model, self.queries, rows, of_queries=True) / self.temperature
                documents = embedded[self.corpora[test.name]]
                yield self._searched(test, queries, documents)
                yield self._reranked(test, queries, documents)

    def _searched(self, test: Test, queries: NDArray, documents: NDArray) -> Ranked:
        depth = min(self.settings.depth, len(documents))
        try:
            found, scores = self._search(test, queries, documents, depth)
        except NotFinite:  # a failed run, which evaluation excludes by its scores
            found, scores = np.tile(np.arange(depth), (len(queries), 1)), np.full((len(queries), depth), np.nan)
        ids, each = self.test_queries[test.name], found.shape[1]
        table = pd.DataFrame({"query_id": np.repeat(ids.to_numpy(), each), "query_row": np.repeat(ids.index, each)})
        table["document_id"] = self.ids[self.corpora[test.name]][found.ravel()]
        own = replace(test, candidates=table.assign(retrieved=True))
        metrics, judged = measure_ranking(own, scores.ravel())
        values = pd.concat([metrics, self._entropies(test, queries, documents)]).assign(score=OWN)
        chance, limits = self.of_chance[test.name], self.found_limits[test.name]
        return Ranked(own, scores.ravel(), values, limits, chance, test.first_stage, judged, SEARCH)

    def _search(self, test: Test, queries: NDArray, documents: NDArray, depth: int) -> tuple[NDArray, NDArray]:
        """Return the rows and scores of every query's best documents, but of the query itself where it is one."""
        own = np.isin(self.test_queries[test.name], self.own[test.name])
        found, scores = search_exactly(queries, documents, depth + own.any())
        ids = self.ids[self.corpora[test.name]][found]
        last = np.argsort(
            own[:, None] & (ids == self.test_queries[test.name].to_numpy()[:, None]), axis=1, kind="stable"
        )
        return (np.take_along_axis(array, last, axis=1)[:, :depth] for array in (found, scores))

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
        return ranked_test(test, scores, self.limits[test.name])

    def _places(self, test: Test, pairs: pd.DataFrame) -> tuple[NDArray, NDArray]:
        """Return where a table's queries and documents stand among those that were embedded."""
        queries, documents = self.test_queries[test.name].index.to_numpy(), self.rows[self.corpora[test.name]]
        return np.searchsorted(queries, pairs["query_row"]), np.searchsorted(documents, pairs["document_row"])
