"""A file of pairs as a collection: the same texts become one query or one document; queries are split by hash."""

from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest, write_json
from rankscale_utils.study.collection import Columns

from .normal_text import normal_rows, normal_text
from .pair_reader import Pair, PairReader
from .splits import split_of


def build_pairs(folder: Path, path: Path, columns: Columns) -> None:
    """Write the collection of a file of pairs into `folder`: queries, documents, judgments, negatives, a manifest.

    Queries that are the same but for case and punctuation (`normal_text`) are one query, in its first spelling, so that
    neither a split nor a negative parts them. A query's split follows the hash of that text, so that a file that grows
    keeps its splits. A document is a training document when a training query names it, as its positive or among its
    negatives.

    Raises:
        StudyError: lines cannot be used, or a split has no queries.
    """
    reader = PairReader(path, columns)
    pairs = pd.DataFrame(reader, columns=Pair._fields)
    query_rows = normal_rows(pairs["query"])
    queries = pairs["query"][~pd.Series(query_rows).duplicated()].to_numpy()
    splits = pd.Series([split_of(normal_text(text)) for text in queries], dtype=object)
    if absent := [split for split in ("train", "test") if split not in set(splits)]:
        raise StudyError(
            f"{path.name} has {len(queries)} queries, none of which falls into {' or '.join(absent)}: bring more pairs."
        )
    named = _named(pairs, query_rows)
    document_rows, documents = pd.factorize(named["text"])
    named = named.assign(
        query_id=[f"q{row}" for row in named["query"]], document_id=[f"d{row}" for row in document_rows]
    )
    training = named.loc[(splits.loc[named["query"]] == "train").to_numpy(), "document_id"].unique()
    document_ids = pd.Series([f"d{row}" for row in range(len(documents))])
    query_ids = [f"q{row}" for row in range(len(queries))]
    tables = {
        "queries": pd.DataFrame({"query_id": query_ids, "split": splits, "text": queries}),
        "documents": pd.DataFrame(
            {
                "document_id": document_ids,
                "split": document_ids.isin(training).map({True: "train", False: "other"}),
                "text": documents,
            }
        ),
        "judgments": named[named["rank"] == 0]
        .groupby(["query_id", "document_id"], sort=False)["grade"].max().rename("relevance").reset_index(),
    }  # fmt: skip
    pair, given = ["query_id", "document_id"], named[named["rank"] > 0]
    negatives = given.drop_duplicates(pair)  # as lines of one query, or its positives in one line, share them
    if len(negatives):
        tables["negatives"] = negatives[[*pair, "rank"]].reset_index(drop=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    positives, judged = named[named["rank"] == 0], tables["judgments"]
    both = negatives.merge(judged[judged["relevance"] > 0], on=pair)
    manifest = {
        "collection": path.name,
        "pairs": len(pairs),
        "queries_by_split": splits.value_counts().to_dict(),
        "queries_spelled_otherwise": pairs["query"].nunique() - len(queries),
        "queries_set_apart": int((splits == "dev").sum()),
        "pairs_repeated": len(positives) - len(judged),
        "negatives_repeated": len(given) - len(negatives),
        "negatives_also_positive": len(both),
        "lines_without_grade": reader.ungraded,
        "lines_cut_short": reader.short_lines,
        "lines_quoted": reader.quoted_lines,
        "columns": reader.used,
        "columns_unused": reader.unused,
        "columns_unread": len(reader.unused),
        "columns_named": reader.named,
        "first_line_as_triple": int(not reader.named),
        "sha256": digest(path),
    }
    write_json(folder / "manifest.json", manifest)


def _named(pairs: pd.DataFrame, query_rows: np.ndarray) -> pd.DataFrame:
    """Return every document of every line, in order: query (row), rank (0: the positive), text, grade."""
    texts = [[positive, *negatives] for positive, negatives in zip(pairs["positive"], pairs["negatives"], strict=True)]
    lines = pd.DataFrame({"query": query_rows, "grade": pairs["grade"], "text": texts}).explode("text")
    return lines.assign(rank=lines.groupby(level=0).cumcount()).reset_index(drop=True)
