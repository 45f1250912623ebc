"""What a study needs of a source: the queries, their candidates and the ids of the documents behind them.

Each is prepared once into a folder of tables that name documents by id; texts follow in `materialise`.
"""

import heapq
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import cached_folder, digest, write_json
from rankscale_utils.study import paths
from rankscale_utils.study.collection import CollectionForm, IrDatasets, PairsFile
from rankscale_utils.study.study import Study

from . import normal_text as normal_text_module
from . import words
from .bm25 import bm25_settings, search_bm25
from .normal_text import normal_rows, normal_text
from .readers import read_run
from .source import Scored, Source

POOL = 100_000  # documents that random negatives come from


class Retrieved(NamedTuple):
    """A source and the folder of what was retrieved from it."""

    source: Source
    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the folder's tables: queries, judgments, candidates or, for training, pool."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


def retrieve_training(study: Study, source: Source) -> Retrieved:
    """Return what a study trains on: queries with a relevant document, hard negatives, and a sample of documents.

    Tables: queries (query_id, text), judgments (those of relevant documents), candidates (query_id, document_id, rank:
    from 1, score; no relevant document among them; nothing where no hard negatives are asked for), pool (document_id).
    """
    teacher = getattr(study.collection, "teacher", None)
    settings = [study.first_stage.model_dump(), study.training.groups.ranks, relevant_from(study.collection)]
    settings += [teacher and digest(study.beside(teacher))]
    return _cached(source, ["train", *settings], lambda folder: _retrieve_training(folder, study, source))


def retrieve_test(study: Study, source: Source, form: CollectionForm) -> Retrieved:
    """Return a test: its queries, all their judgments, and their candidates as retrieved.

    Tables: queries (query_id, text), judgments (query_id, document_id, relevance), candidates (query_id, document_id,
    rank: from 1; relevance; retrieved; positive). For the contrastive entropy alone there are documents that were not
    retrieved, and have no rank: the query's positive (of the highest grade, the best-ranked), and other queries'
    candidates where the query's own hold fewer than depth − 1 negatives.
    """
    settings = [study.first_stage.model_dump(), study.evaluation.depth, relevant_from(form), study.evaluation.queries]
    return _cached(source, ["test", *settings], lambda folder: _retrieve_test(folder, study, source, form))


def relevant_from(form: CollectionForm) -> int:
    """Return the lowest grade that is relevant: as the study says, 2 for TREC DL's passages, else 1."""
    given, name = getattr(form, "relevant_from", None), getattr(form, "ir_datasets", "")
    return given or (2 if "passage" in name and "trec-dl" in name else 1)


def own_split(form: CollectionForm) -> bool:
    """Whether we split the collection into training, dev and test ourselves."""
    return isinstance(form, str | PairsFile)


def _cached(source: Source, settings: list[Any], build: Callable[[Path], None]) -> Retrieved:
    builders = [Path(module) for module in (__file__, words.__file__, normal_text_module.__file__)]
    key = digest(*builders, source.identity, settings, length=16)
    return Retrieved(source, cached_folder(paths.cache_folder() / f"retrieved-{key}", build))


def _wanted(form: CollectionForm) -> int | None:
    """Return how many of an id's queries are asked for."""
    return form.queries if isinstance(form, IrDatasets) else None


def _retrieve_test(folder: Path, study: Study, source: Source, form: CollectionForm) -> None:
    lowest, depth = relevant_from(form), study.evaluation.depth
    judgments = _unique(source.judgments())
    queries = _chosen(source, judgments, study.evaluation.queries if own_split(form) else _wanted(form), lowest)
    judgments = judgments[judgments["query_id"].isin(queries["query_id"])]
    own = _own_documents(source, queries)
    found = _candidates(study, source, queries, depth, own)
    table = _scored(found, judgments, lowest, depth)
    table = table.sort_values(["query_id", "rank"], key=_in_order(queries), na_position="last", ignore_index=True)
    with_positive = table[table["retrieved"] & (table["relevance"] >= lowest)]["query_id"].nunique()
    _write(
        folder, queries=queries, judgments=judgments, candidates=table, own=pd.DataFrame({"query_id": own}, dtype=str)
    )
    manifest = source.counts() | {
        "collection": source.label,
        "test_queries": len(queries),
        "depth": depth,
        "candidates": _origin(study, source, form),
        "queries_with_candidates": found["query_id"].nunique(),
        "queries_without_a_match": _without_a_match(found) if source.scored() is None else 0,
        "own_documents": len(own),
        "candidates_with_positive": round(with_positive / len(queries), 4),
        "grades": sorted(int(grade) for grade in judgments["relevance"].unique()),
        "judgments_a_query": round(len(judgments) / len(queries), 1),
        "relevant_from": lowest,
    }
    write_json(folder / "manifest.json", manifest)


def _scored(found: pd.DataFrame, judgments: pd.DataFrame, lowest: int, depth: int) -> pd.DataFrame:
    """Return the candidates and what the contrastive entropy needs beside them, see `test`."""
    table = found.drop(columns="score").merge(judgments, on=["query_id", "document_id"], how="outer")
    table["retrieved"] = table["rank"].notna()
    relevant = table[table["relevance"] >= lowest].sort_values(["relevance", "rank"], ascending=[False, True])
    table["positive"] = table.index.isin(relevant.drop_duplicates("query_id").index)
    above_zero = table.loc[table["relevance"] > 0, ["query_id", "document_id"]]
    table["relevance"] = table["relevance"].fillna(0).astype(int)
    table = table[table["retrieved"] | table["positive"]]
    more = _fillers(table, above_zero, depth - 1)
    return pd.concat([table, more.assign(relevance=0, retrieved=False, positive=False)])


def _fillers(table: pd.DataFrame, above_zero: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return pairs that fill up every query's negatives to `count`: other queries' candidates, drawn by fixed seeds."""
    others = table.loc[table["retrieved"], "document_id"].unique()
    barred = pd.concat([table, above_zero]).groupby("query_id")["document_id"].agg(set)
    negatives = table[table["retrieved"] & (table["relevance"] <= 0)].groupby("query_id").size()
    rows = []
    for query in table.loc[table["positive"], "query_id"]:
        lacking = count - negatives.get(query, 0)
        if lacking > 0:
            drawn = others[np.random.default_rng([len(rows), lacking]).permutation(len(others))]
            rows += [(query, one) for one in islice((d for d in drawn if d not in barred[query]), lacking)]
    return pd.DataFrame(rows, columns=["query_id", "document_id"])


def _retrieve_training(folder: Path, study: Study, source: Source) -> None:
    lowest, depth = relevant_from(study.collection), study.training.groups.ranks
    judgments = _unique(source.judgments())
    judgments = judgments[judgments["relevance"] >= lowest]
    queries = _chosen(source, judgments, _wanted(study.collection), lowest)
    judgments = judgments[judgments["query_id"].isin(queries["query_id"])]
    own = _own_documents(source, queries)
    by_words = False
    if getattr(study.collection, "teacher", None):
        found = _taught(study, queries)
        judgments = judgments.merge(found[["query_id", "document_id", "score"]], on=["query_id", "document_id"])
        judgments = judgments.rename(columns={"score": "teacher"})
    elif not depth:
        found = pd.DataFrame({"query_id": [""], "document_id": [""], "rank": [0], "score": [0.0]}).iloc[:0]
    else:
        most = int(judgments.groupby("query_id").size().max())  # which may stand before the negatives
        found, by_words = _candidates(study, source, queries, depth + most, own), source.scored() is None
    hard = _never_relevant(found, judgments, queries)
    hard = hard[~hard["query_id"].isin(own) | (hard["query_id"] != hard["document_id"])]
    hard["rank"] = hard.groupby("query_id", sort=False).cumcount() + 1
    pool = pd.DataFrame({"document_id": even_sample((name for name, _ in source.documents()), POOL)})
    judgments = judgments.sort_values("query_id", key=_in_order(queries), kind="stable", ignore_index=True)
    _write(folder, queries=queries, judgments=judgments, candidates=hard[hard["rank"] <= depth], pool=pool)
    counts = {
        "train_queries": len(queries),
        "train_queries_without_a_match": _without_a_match(found) if by_words else 0,
    }
    write_json(folder / "manifest.json", source.manifest() | counts)


def _never_relevant(found: pd.DataFrame, judgments: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates that are relevant neither to their query nor to the same question under another id."""
    question = pd.Series(normal_rows(queries["text"]), index=queries["query_id"])
    judged = pd.DataFrame({"question": judgments["query_id"].map(question), "document_id": judgments["document_id"]})
    table = found.assign(question=found["query_id"].map(question))
    table = table.merge(judged.drop_duplicates(), on=["question", "document_id"], how="left", indicator=True)
    return table[table["_merge"] == "left_only"].drop(columns=["_merge", "question"])


def _without_a_match(found: pd.DataFrame) -> int:
    """Return how many queries share no word with any document, so that BM25 scores every document 0."""
    return int((found.groupby("query_id")["score"].max() <= 0).sum())


def _taught(study: Study, queries: pd.DataFrame) -> pd.DataFrame:
    """Return the teacher's run of the training queries, whole: its scores are what a student learns."""
    run = read_run(study.beside(study.collection.teacher))
    return best_of_run(run, queries, None, "collection.teacher")


def _origin(study: Study, source: Source, form: CollectionForm) -> str:
    """Say where the candidates come from."""
    given = getattr(form, "candidates", "bm25")
    if given == "bm25":
        return f"BM25 ({bm25_settings(study.first_stage)}) over all documents"
    return f"the scored documents of {source.label}" if given == "scoreddocs" else f"the TREC run {Path(given).name}"


def _unique(judgments: pd.DataFrame) -> pd.DataFrame:
    """Return the judgments, the highest grade where a pair was judged twice."""
    return judgments.groupby(["query_id", "document_id"], sort=False, as_index=False)["relevance"].max()


def _chosen(source: Source, judgments: pd.DataFrame, count: int | None, lowest: int) -> pd.DataFrame:
    """Return `count` queries that have such judgments, by the hash of their text: the choice never depends on order."""
    queries = source.queries()
    queries = queries[queries["query_id"].isin(judgments["query_id"])]
    if queries.empty:
        raise StudyError(
            f"{source.label}: no query has a judgment of {lowest} or more: bring judgments of these queries."
        )
    if count is None or count >= len(queries):
        return queries.reset_index(drop=True)
    order = queries["text"].map(lambda text: digest(text, length=16)).sort_values().index[:count]
    return queries.loc[order.sort_values()].reset_index(drop=True)


def _candidates(study: Study, source: Source, queries: pd.DataFrame, depth: int, own: list[str]) -> pd.DataFrame:
    """Return the `depth` best candidates of each query: query_id, document_id, rank (from 1), score.

    own: queries that are documents themselves, and not among their own candidates.
    """
    given = source.scored()
    if given is not None:
        found = best_of_run(given, queries, depth + 1, f"{source.label}, candidates")
    else:
        index = paths.cache_folder() / f"bm25-{digest(source.indexed, study.first_stage.model_dump(), length=16)}"
        found = search_bm25(study.first_stage, source.documents(), queries, depth + 1, index)
    kept = found[~found["query_id"].isin(own) | (found["query_id"] != found["document_id"])]
    kept = kept.assign(rank=kept.groupby("query_id", sort=False).cumcount() + 1)
    return kept[kept["rank"] <= depth].reset_index(drop=True)


def _own_documents(source: Source, queries: pd.DataFrame) -> list[str]:
    """Return the queries that are documents themselves, under the same id and with the same text, as in ArguAna."""
    texts = source.texts_of(queries["query_id"].tolist())
    asked = zip(queries["query_id"], queries["text"], texts, strict=True)
    return [name for name, query, text in asked if text is not None and _is_text_of(query, text)]


def _is_text_of(query: str, document: str) -> bool:
    """Return whether a document is a query's text, perhaps after a title."""
    query, document = normal_text(query), normal_text(document)
    return document == query or document.endswith(f" {query}")


def best_of_run(scored: Scored, queries: pd.DataFrame, depth: int | None, name: str) -> pd.DataFrame:
    """Return the best of a run for each of the queries, as `first_stage.search` does; the run is read once.

    Equal scores are ordered by document id, descending, which is trec_eval's rule. `name` is the run's in messages.

    Raises:
        StudyError: the run has none of the queries, or a document twice.
    """
    kept = defaultdict(list)
    wanted = set(queries["query_id"])
    for query, document, score in scored:
        if query not in wanted:
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
    return table


def even_sample(items: Iterable[str], count: int) -> list[str]:
    """Return `count` items, evenly drawn in one pass (Li, 1994, Algorithm L), the same at every call; all if fewer."""
    items, chance = iter(items), random.Random(0)
    kept = list(islice(items, count))
    weight = math.exp(math.log(chance.random()) / count)
    while True:
        skipped = int(math.log(chance.random()) / math.log1p(-weight))
        if (item := next(islice(items, skipped, None), None)) is None:
            return kept
        kept[chance.randrange(count)] = item
        weight *= math.exp(math.log(chance.random()) / count)


def _in_order(queries: pd.DataFrame) -> Any:
    """Return a key that sorts query ids as the queries stand, and leaves other columns alone."""
    place = pd.Series(np.arange(len(queries)), index=queries["query_id"])
    return lambda column: column.map(place) if column.name == "query_id" else column


def _write(folder: Path, **tables: pd.DataFrame) -> None:
    for name, table in tables.items():
        table.reset_index(drop=True).to_parquet(folder / f"{name}.parquet")
