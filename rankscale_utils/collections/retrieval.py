"""What a study needs of a source: the queries, their candidates and the ids of the documents behind them.

Each is prepared once into a folder of tables that name documents by id; texts follow in `materialise`.
"""

from collections.abc import Callable
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

from . import batching, candidates, normal_text, words
from .batching import even_sample
from .candidates import Candidates, best_of_run, candidates_of, origin_of, own_documents, without_a_match
from .normal_text import normal_rows
from .readers import RunReader
from .source import Source

OF_RUN = ("queries_of_the_run_unasked", "queries_ranked_otherwise", "queries_tied")  # counts of a run
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


def retrieve_test(study: Study, source: Source, form: CollectionForm, most: int | None = None) -> Retrieved:
    """Return a test: its queries, `most` of them, all their judgments, and their candidates as retrieved.

    Tables: queries (query_id, text), judgments (query_id, document_id, relevance), candidates (query_id, document_id,
    rank: from 1; score: the first stage's; relevance; retrieved; positive). For the contrastive entropy alone there are
    documents that were not retrieved, and have no rank: the query's positive (of the highest grade, the best-ranked),
    and other queries' candidates where the query's own hold fewer than depth − 1 negatives.
    """
    wanted = study.evaluation.queries if own_split(form) else _wanted(form)
    wanted = min(filter(None, (wanted, most)), default=None)
    settings = [study.first_stage.model_dump(), study.evaluation.depth, relevant_from(form), wanted]
    return _cached(source, ["test", *settings], lambda folder: _retrieve_test(folder, study, source, form, wanted))


def relevant_from(form: CollectionForm) -> int:
    """Return the lowest grade that is relevant: as the study says, 2 for TREC DL's passages, else 1."""
    given, name = getattr(form, "relevant_from", None), getattr(form, "ir_datasets", "")
    return given or (2 if "passage" in name and "trec-dl" in name else 1)


def own_split(form: CollectionForm) -> bool:
    """Whether we split the collection into training, dev and test ourselves."""
    return isinstance(form, str | PairsFile)


def _cached(source: Source, settings: list[Any], build: Callable[[Path], None]) -> Retrieved:
    builders = [Path(__file__), *(Path(one.__file__) for one in (candidates, batching, words, normal_text))]
    key = digest(*builders, source.identity, settings, length=16)
    return Retrieved(source, cached_folder(paths.cache_folder() / f"retrieved-{key}", build))


def _wanted(form: CollectionForm) -> int | None:
    """Return how many of an id's queries are asked for."""
    return form.queries if isinstance(form, IrDatasets) else None


def _retrieve_test(folder: Path, study: Study, source: Source, form: CollectionForm, wanted: int | None) -> None:
    lowest, depth = relevant_from(form), study.evaluation.depth
    queries, judgments, counts = _judged_queries(source, wanted, lowest)
    own = own_documents(source, queries)
    found, *of_run = candidates_of(study, source, queries, depth, own)
    table = _scored(found, judgments, lowest, depth)
    table = table.sort_values(["query_id", "rank"], key=_in_order(queries), na_position="last", ignore_index=True)
    with_positive = table[table["retrieved"] & (table["relevance"] >= lowest)]["query_id"].nunique()
    _write(
        folder, queries=queries, judgments=judgments, candidates=table, own=pd.DataFrame({"query_id": own}, dtype=str)
    )
    manifest = (
        source.counts()
        | counts
        | {
            "collection": source.label,
            "test_queries": len(queries),
            "depth": depth,
            "candidates": origin_of(study, source, form),
            "queries_with_candidates": found["query_id"].nunique(),
            "queries_without_a_match": without_a_match(found) if source.scored() is None else 0,
            "queries_without_candidates": len(queries) - found["query_id"].nunique(),
            **dict(zip(OF_RUN, of_run, strict=True)),
            "queries_filled_up": table.loc[~table["retrieved"] & ~table["positive"], "query_id"].nunique(),
            "own_documents": len(own),
            "candidates_with_positive": round(with_positive / len(queries), 4),
            "grades": sorted(int(grade) for grade in judgments["relevance"].unique()),
            "judgments_a_query": round(len(judgments) / len(queries), 1),
            "relevant_from": lowest,
        }
    )
    write_json(folder / "manifest.json", manifest)


def _scored(found: pd.DataFrame, judgments: pd.DataFrame, lowest: int, depth: int) -> pd.DataFrame:
    """Return the candidates and what the contrastive entropy needs beside them, see `test`."""
    table = found.merge(judgments, on=["query_id", "document_id"], how="outer")
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
    queries, judgments, counts = _judged_queries(source, _wanted(study.collection), lowest, relevant=True)
    own = own_documents(source, queries)
    by_words, of_run = False, [0] * len(OF_RUN)
    if getattr(study.collection, "teacher", None):
        found, *of_run = _taught(study, queries)
        scored = judgments.merge(found[["query_id", "document_id", "score"]], on=["query_id", "document_id"])
        counts["judgments_without_teacher"], judgments = len(judgments) - len(scored), scored
        judgments = judgments.rename(columns={"score": "teacher"})
    elif not depth:
        found = pd.DataFrame({"query_id": [""], "document_id": [""], "rank": [0], "score": [0.0]}).iloc[:0]
    else:
        most = int(judgments.groupby("query_id").size().max())  # which may stand before the negatives
        found, *of_run = candidates_of(study, source, queries, depth + most, own)
        by_words = source.scored() is None
    hard = _never_relevant(found, judgments, queries)
    hard = hard[~hard["query_id"].isin(own) | (hard["query_id"] != hard["document_id"])]
    hard["rank"] = hard.groupby("query_id", sort=False).cumcount() + 1
    pool = pd.DataFrame({"document_id": even_sample((name for name, _ in source.documents()), POOL)})
    judgments = judgments.sort_values("query_id", key=_in_order(queries), kind="stable", ignore_index=True)
    _write(folder, queries=queries, judgments=judgments, candidates=hard[hard["rank"] <= depth], pool=pool)
    counts |= {
        **dict(zip(OF_RUN, of_run, strict=True)),
        "train_queries": len(queries),
        "train_queries_without_a_match": without_a_match(found) if by_words else 0,
    }
    write_json(folder / "manifest.json", source.manifest() | counts)


def _never_relevant(found: pd.DataFrame, judgments: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates that are relevant neither to their query nor to the same question under another id."""
    question = pd.Series(normal_rows(queries["text"]), index=queries["query_id"])
    judged = pd.DataFrame({"question": judgments["query_id"].map(question), "document_id": judgments["document_id"]})
    table = found.assign(question=found["query_id"].map(question))
    table = table.merge(judged.drop_duplicates(), on=["question", "document_id"], how="left", indicator=True)
    return table[table["_merge"] == "left_only"].drop(columns=["_merge", "question"])


def _taught(study: Study, queries: pd.DataFrame) -> Candidates:
    """Return the teacher's run of the training queries, whole: its scores are what a student learns."""
    run = RunReader(study.beside(study.collection.teacher))
    return best_of_run(run, queries, None, "collection.teacher")


def _judged_queries(
    source: Source, wanted: int | None, lowest: int, relevant: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return `wanted` queries that have judgments, by the hash of their text, their judgments, and what was left out.

    relevant: judgments below `lowest` are none. The choice never depends on order; a pair that was judged twice has its
    highest grade.
    """
    every, texts = source.judgments(), source.queries()
    judgments = every.groupby(["query_id", "document_id"], sort=False, as_index=False)["relevance"].max()
    counts = {"judgments_repeated": len(every) - len(judgments)}
    if relevant:
        counts["judgments_not_relevant"] = int((judgments["relevance"] < lowest).sum())
        judgments = judgments[judgments["relevance"] >= lowest]
    queries = texts[texts["query_id"].isin(judgments["query_id"])]
    counts["judgments_without_query"] = int((~judgments["query_id"].isin(texts["query_id"])).sum())
    counts["queries_unjudged"] = len(texts) - len(queries)
    if queries.empty:
        raise StudyError(
            f"{source.label}: no query has a judgment of {lowest} or more: bring judgments of these queries."
        )
    if wanted is not None and wanted < len(queries):
        counts["queries_beyond_wanted"] = len(queries) - wanted
        order = queries["text"].map(lambda text: digest(text, length=16)).sort_values().index[:wanted]
        queries = queries.loc[order.sort_values()]
    judgments = judgments[judgments["query_id"].isin(queries["query_id"])]
    return queries.reset_index(drop=True), judgments, counts


def _in_order(queries: pd.DataFrame) -> Any:
    """Return a key that sorts query ids as the queries stand, and leaves other columns alone."""
    place = pd.Series(np.arange(len(queries)), index=queries["query_id"])
    return lambda column: column.map(place) if column.name == "query_id" else column


def _write(folder: Path, **tables: pd.DataFrame) -> None:
    for name, table in tables.items():
        table.reset_index(drop=True).to_parquet(folder / f"{name}.parquet")
