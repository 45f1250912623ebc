"""Writing what a study reads of its collections: the texts behind the ids, and the rows that stand for them.

Only the documents that the study scores are written: the test candidates, the relevant documents, the hard negatives
and a sample for random ones, or all where a model searches. Training documents come first, so that their rows do not
move when a test is added.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest, read_json, write_json
from rankscale_utils.study.training import Groups

from .batching import pieces
from .groups import TrainingQueries, random_keys
from .normal_text import normal_rows, normal_text
from .retrieval import Retrieved
from .source import AT_A_TIME

TEXT_SCHEMA = pa.schema(
    [("corpus", pa.string()), ("document_id", pa.string()), ("training", pa.bool_()), ("text", pa.string())]
)


def texts(folder: Path, training: Retrieved, tests: Mapping[str, Retrieved], searched: bool = False) -> None:
    """Write queries (test: a test's name, empty in training; query_id, text) and documents (corpus, document_id, …).

    searched: every document of a test's corpus is written, since a model will search them all.

    Raises:
        StudyError: candidates name documents that their collection lacks.
    """
    by_test = {"": training} | dict(tests)
    queries = pd.concat(
        [found.table("queries").assign(test=name) for name, found in by_test.items()], ignore_index=True
    )
    queries[["test", "query_id", "text"]].to_parquet(folder / "queries.parquet")
    seen: dict[str, set[str]] = {}
    empty: Counter[str] = Counter()
    sha = hashlib.sha256()
    with pq.ParquetWriter(folder / "documents.parquet", TEXT_SCHEMA) as writer:
        for name, found in by_test.items():
            before = seen.setdefault(found.source.corpus, set())
            ids = [one for one in _needed(found) if one not in before]
            before.update(ids)
            others = _others(found, before) if name and searched else iter(())
            for some in chain(_written(found, ids), others):
                table = {"corpus": [found.source.corpus] * len(some), "training": [not name] * len(some)}
                table |= {"document_id": [one for one, _ in some], "text": [text for _, text in some]}
                empty[found.source.corpus] += sum(not text.strip() for _, text in some)
                writer.write_table(pa.table(table).select(TEXT_SCHEMA.names).cast(TEXT_SCHEMA))
                if not name:
                    sha.update("\n".join(text for _, text in some).encode())
    tables = [training.folder / f"{name}.parquet" for name in ("queries", "judgments", "candidates", "pool")]
    content = digest(*tables, sha.hexdigest())
    said = {"sha256": content, "empty_by_corpus": empty} | read_json(training.folder / "manifest.json")
    write_json(folder / "manifest.json", said)


def _needed(found: Retrieved) -> list[str]:
    """Return the ids of all documents that are scored, the pool first and in its order."""
    names = ("pool", "judgments", "candidates") if (found.folder / "pool.parquet").exists() else ("candidates",)
    return list(dict.fromkeys(one for name in names for one in found.table(name)["document_id"]))


def _written(found: Retrieved, ids: list[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield (id, text) of documents, many at a time; a judged document that was not retrieved may have no text."""
    candidates = found.table("candidates")
    if "retrieved" in candidates:
        candidates = candidates[candidates["retrieved"]]
    retrieved = set(candidates["document_id"])
    for some in pieces(zip(ids, found.source.texts_of(ids), strict=True), AT_A_TIME):
        if absent := [one for one, text in some if text is None and one in retrieved]:
            raise StudyError(
                f"{found.source.label}: the candidates name document {absent[0]}, which the collection lacks: bring "
                "candidates of this collection."
            )
        yield [(one, text) for one, text in some if text is not None]


def _others(found: Retrieved, seen: set[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield (id, text) of all documents that are not seen yet, many at a time, and let them be seen."""
    unseen = ((one, text) for one, text in found.source.documents() if one not in seen)
    for some in pieces(unseen, AT_A_TIME):
        seen.update(one for one, _ in some)
        yield some


def stored_texts(documents: Path, training: bool = False) -> Iterator[str]:
    """Yield the texts that `texts` wrote, in their order; with `training` those of training documents alone."""
    return (text for kept, text in _texts_and_training(documents) if kept or not training)


def texts_of_rows(documents: Path, rows: Iterable[int]) -> list[str]:
    """Return the texts of some rows, empty for −1; only the parts of the file that hold them are read."""
    file, found = pq.ParquetFile(documents), {-1: ""}
    ends = np.cumsum([file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)])
    wanted = np.unique([row for row in rows if row >= 0])
    for place, some in pd.Series(wanted).groupby(np.searchsorted(ends, wanted, side="right")):
        begin = ends[place] - file.metadata.row_group(place).num_rows
        texts = file.read_row_group(place, columns=["text"])["text"].take((some - begin).to_numpy()).to_pylist()
        found |= dict(zip(some, texts, strict=True))
    return [found[row] for row in rows]


def _texts_and_training(documents: Path) -> Iterator[tuple[bool, str]]:
    for batch in pq.ParquetFile(documents).iter_batches(AT_A_TIME, columns=["training", "text"]):
        table = batch.to_pydict()
        yield from zip(table["training"], table["text"], strict=True)


class Rows:
    """The rows of queries and documents by id; −1 for a document without a text."""

    def __init__(self, texts: Path) -> None:
        """Read the ids."""
        queries = pd.read_parquet(texts / "queries.parquet", columns=["test", "query_id"])
        documents = pd.read_parquet(texts / "documents.parquet", columns=["corpus", "document_id"])
        self._queries = {name: _index(table["query_id"]) for name, table in queries.groupby("test")}
        self._documents = {name: _index(table["document_id"]) for name, table in documents.groupby("corpus")}

    def queries(self, test: str, ids: pd.Series) -> np.ndarray:
        """Return the rows of a test's queries."""
        return self._queries[test].loc[ids].to_numpy()

    def documents(self, corpus: str, ids: pd.Series) -> np.ndarray:
        """Return the rows of a corpus' documents."""
        return self._documents[corpus].reindex(ids).fillna(-1).astype(int).to_numpy()


def _index(ids: pd.Series) -> pd.Series:
    return pd.Series(ids.index, index=ids.to_numpy())


def write_candidates(
    folder: Path, texts: Path, training: Retrieved, tests: Mapping[str, Retrieved], groups: Groups
) -> None:
    """Write the training items, every test's candidates with their rows, its judgments, and the manifest."""
    rows = Rows(texts)
    items, left_out = training_items(training, rows, groups)
    items.save(folder)
    manifest = {"pairs": len(items.query_rows)} | read_json(texts / "manifest.json")
    manifest |= {"items": len(items.query_rows), "left_out": left_out, "tests": {}}
    empty = manifest.pop("empty_by_corpus")
    manifest.setdefault("empty_documents", empty.get(training.source.corpus, 0))
    trained = set(training.table("queries")["text"].map(normal_text))
    for number, (name, found) in enumerate(tests.items()):
        table = found.table("candidates")
        table["query_row"] = rows.queries(name, table["query_id"])
        table["document_row"] = rows.documents(found.source.corpus, table["document_id"])
        lacking = table["document_row"] < 0
        table[~lacking].reset_index(drop=True).to_parquet(folder / f"test{number}.parquet")
        for more in ("judgments", "own"):
            found.table(more).to_parquet(folder / f"test{number}-{more}.parquet")
        said = read_json(found.folder / "manifest.json")
        shared = found.table("queries")["text"].map(normal_text).isin(trained)
        own = pd.read_parquet(texts / "documents.parquet", columns=["corpus"])["corpus"] == found.source.corpus
        said |= {"corpus": found.source.corpus, "documents": int(own.sum())}
        said.setdefault("empty_documents", empty.get(found.source.corpus, 0))
        relevant = _relevant_rows(found, rows, said["relevant_from"])
        both = _also_training_documents(texts / "documents.parquet", relevant)
        said |= {"positives": len(relevant), "positives_also_training_documents": both}
        counts = {"positives_without_text": int(lacking.sum()), "queries_also_trained_on": int(shared.sum())}
        manifest["tests"][name] = {"file": f"test{number}", **said, **counts}
    write_json(folder / "manifest.json", manifest)


def _relevant_rows(test: Retrieved, rows: Rows, lowest: int) -> np.ndarray:
    """Return the rows of the documents that are relevant to a test's queries and have a text."""
    judged = test.table("judgments")
    found = rows.documents(
        test.source.corpus, judged.loc[judged["relevance"] >= lowest, "document_id"].drop_duplicates()
    )
    return found[found >= 0]


def _also_training_documents(documents: Path, rows: np.ndarray) -> int:
    """Return how many of these documents training sees too, under any id: the same but for case and punctuation."""
    wanted, wanted_rows, trained = {}, set(rows.tolist()), set()
    for row, (training, text) in enumerate(_texts_and_training(documents)):
        if row in wanted_rows:
            wanted[row] = normal_text(text)
        if training:
            trained.add(hash(normal_text(text)))
    return sum(hash(text) in trained for text in wanted.values())


def training_items(training: Retrieved, rows: Rows, groups: Groups) -> tuple[TrainingQueries, dict[str, int]]:
    """Return the training items as rows, one for every judgment of a relevant document, and how many were left out.

    Left out are judgments of a document that has no text, and of queries with fewer hard negatives than a group has.
    """
    corpus = training.source.corpus
    judged, found = training.table("judgments"), training.table("candidates")
    judged["query_row"] = rows.queries("", judged["query_id"])
    judged["document_row"] = rows.documents(corpus, judged["document_id"])
    relevant = _relevant_keys(judged, normal_rows(training.table("queries")["text"]))
    place = rows.queries("", found["query_id"])  # training queries stand first, so that rows are places
    hard = np.full((len(training.table("queries")), max(1, groups.ranks)), -1, np.int32)
    hard[place, found["rank"] - 1] = rows.documents(corpus, found["document_id"])
    pool = rows.documents(corpus, training.table("pool")["document_id"])
    without_text = judged["document_row"] < 0
    few = ~without_text & ((hard[judged["query_row"]] >= 0).sum(1) < groups.hard)
    judged = judged[~(without_text | few)]
    teacher = {}
    if "teacher" in judged:
        scores = np.zeros(hard.shape, np.float32)
        scores[place, found["rank"] - 1] = found["score"]
        teacher = {
            "positive_teacher": judged["teacher"].to_numpy(np.float32),
            "hard_teacher": scores[judged["query_row"]],
        }
    items = TrainingQueries(
        query_rows=judged["query_row"].to_numpy(np.int32),
        positive_rows=judged["document_row"].to_numpy(np.int32),
        grades=judged["relevance"].to_numpy(np.int16),
        hard_rows=hard[judged["query_row"]],
        relevant=relevant,
        document_rows=pool.astype(np.int32),
        **teacher,
    )
    return items, {"without_text": int(without_text.sum()), "too_few_negatives": int(few.sum())}


def _relevant_keys(judged: pd.DataFrame, questions: np.ndarray) -> np.ndarray:
    """Return a sorted key for each query and each document that is relevant to it or to the same question."""
    pairs = judged[["document_row"]].assign(question=questions[judged["query_row"]]).drop_duplicates()
    asked = pd.DataFrame({"question": questions, "query_row": np.arange(len(questions))})
    pairs = pairs.merge(asked, on="question")
    return np.sort(random_keys(pairs["query_row"], pairs["document_row"]))
