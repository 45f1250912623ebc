"""A query's candidates: BM25's, or those of a run that comes with the collection."""

import heapq
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.study.collection import CollectionForm
from rankscale_utils.study.study import Study

from .bm25 import bm25_settings, index_folder, search_bm25
from .normal_text import normal_text
from .readers import RunReader
from .source import Scored, Source


class Candidates(NamedTuple):
    """Candidates: query_id, document_id, rank (from 1), score; and what is to be told of the run that they are from.

    unasked: its other queries; contrary: queries whose ranks are not the order of their scores; tied: those whose
    documents have one score.
    """

    table: pd.DataFrame
    unasked: int = 0
    contrary: int = 0
    tied: int = 0


def candidates_of(study: Study, source: Source, queries: pd.DataFrame, depth: int, own: list[str]) -> Candidates:
    """Return the `depth` best candidates of each query.

    own: queries that are documents themselves, and not among their own candidates.
    """
    given = source.scored()
    if given is not None:
        found = best_of_run(given, queries, depth + 1, f"{source.label}, candidates")
    else:
        index = index_folder(study.first_stage, source.indexed)
        found = Candidates(search_bm25(study.first_stage, source.documents(), queries, depth + 1, index))
    table = found.table
    kept = table[~table["query_id"].isin(own) | (table["query_id"] != table["document_id"])]
    kept = kept.assign(rank=kept.groupby("query_id", sort=False).cumcount() + 1)
    return found._replace(table=kept[kept["rank"] <= depth].reset_index(drop=True))


def without_a_match(found: pd.DataFrame) -> int:
    """Return how many queries share no word with any document, so that BM25 scores every document 0."""
    return int((found.groupby("query_id")["score"].max() <= 0).sum())


def origin_of(study: Study, source: Source, form: CollectionForm) -> str:
    """Say where the candidates come from."""
    given = getattr(form, "candidates", "bm25")
    if given == "bm25":
        return f"BM25 ({bm25_settings(study.first_stage)}) over all documents"
    return f"the scored documents of {source.label}" if given == "scoreddocs" else f"the TREC run {Path(given).name}"


def own_documents(source: Source, queries: pd.DataFrame) -> list[str]:
    """Return the queries that are documents themselves, under the same id and with the same text, as in ArguAna."""
    texts = source.texts_of(queries["query_id"].tolist())
    asked = zip(queries["query_id"], queries["text"], texts, strict=True)
    return [name for name, query, text in asked if text is not None and _is_text_of(query, text)]


def _is_text_of(query: str, document: str) -> bool:
    """Return whether a document is a query's text, perhaps after a title."""
    query, document = normal_text(query), normal_text(document)
    return document == query or document.endswith(f" {query}")


def best_of_run(scored: Scored, queries: pd.DataFrame, depth: int | None, name: str) -> Candidates:
    """Return the best of a run for each of the queries, as `first_stage.search` does; the run is read once.

    Equal scores are ordered by document id, descending, which is trec_eval's rule. `name` is the run's in messages.

    Raises:
        StudyError: the run has none of the queries, or a document twice.
    """
    kept, unasked = defaultdict(list), set()
    wanted = set(queries["query_id"])
    for query, document, score in scored:
        if query not in wanted:
            unasked.add(query)
            continue
        entries = kept[query]
        if depth is None or len(entries) < depth:
            heapq.heappush(entries, (score, document))
        elif (score, document) > entries[0]:
            heapq.heapreplace(entries, (score, document))
    if not kept:
        raise StudyError(f"{name}: none of the queries is in the run: bring the run of this collection.")
    rows = [
        (query, document, rank, score)
        for query in queries["query_id"]
        for rank, (score, document) in enumerate(sorted(kept.get(query, ()), reverse=True), 1)
    ]
    table = pd.DataFrame(rows, columns=["query_id", "document_id", "rank", "score"])
    if (repeated := table.duplicated(["query_id", "document_id"])).any():
        query, document = table.loc[repeated.idxmax(), ["query_id", "document_id"]]
        raise StudyError(f"{name}: the run has document {document} twice for query {query}: remove one.")
    contrary = scored.contrary & wanted if isinstance(scored, RunReader) else ()
    spread = table.groupby("query_id")["score"].agg(["size", "nunique"])
    return Candidates(table, len(unasked), len(contrary), int(((spread["size"] > 1) & (spread["nunique"] == 1)).sum()))
