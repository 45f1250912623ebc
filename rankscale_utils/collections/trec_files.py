"""Documents, queries, TREC judgments and a TREC run of one's own."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import cached_folder, digest
from rankscale_utils.study import paths

from .readers import RunReader, read_judgments, read_texts
from .source import Scored

DATABASE = "documents.sqlite"


@dataclass(frozen=True)
class OwnFiles:
    """Documents, queries and TREC judgments of one's own. Documents are kept by id in a database in the cache."""

    label: str
    given: Path
    queries_file: Path
    judgments_file: Path
    run: Path | None

    @cached_property
    def _database(self) -> Path:
        folder = paths.cache_folder() / f"documents-{self.corpus}"
        return cached_folder(folder, lambda inside: _store(inside / DATABASE, self.given)) / DATABASE

    @cached_property
    def corpus(self) -> str:
        """The documents' content."""
        return digest(self.given, length=16)

    @property
    def identity(self) -> list[str]:
        """The files' content."""
        files = [self.queries_file, self.judgments_file] + [self.run] * (self.run is not None)
        return [self.corpus, *(digest(file) for file in files)]

    @property
    def indexed(self) -> list[str]:
        """The documents' content."""
        return [self.corpus]

    def queries(self) -> pd.DataFrame:
        """Return query_id, text."""
        table = pd.DataFrame(read_texts(self.queries_file), columns=["query_id", "text"])
        _refuse_repeats(table["query_id"], self.queries_file)
        return table

    def judgments(self) -> pd.DataFrame:
        """Return query_id, document_id, relevance."""
        return read_judgments(self.judgments_file)

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text) in the file's order."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as database:
            yield from database.execute("SELECT id, text FROM documents ORDER BY rowid")

    def texts_of(self, ids: Sequence[str]) -> Iterator[str | None]:
        """Yield the texts of these documents in the order given, None for one that the file lacks."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as database:
            for one in ids:
                found = database.execute("SELECT text FROM documents WHERE id = ?", (one,)).fetchone()
                yield found[0] if found else None

    def scored(self) -> Scored | None:
        """Yield the run's candidates; None where BM25 finds them."""
        return RunReader(self.run) if self.run else None

    def counts(self) -> dict[str, int]:
        """Return how many documents have no text."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as database:
            return {"empty_documents": database.execute("SELECT COUNT(*) FROM documents WHERE text = ''").fetchone()[0]}

    def manifest(self) -> dict[str, Any]:
        """Return the files' names, and how many documents have no text."""
        files = [self.given.name, self.queries_file.name, self.judgments_file.name]
        return {"collection": self.label, "files": files, **self.counts()}


def _store(path: Path, documents: Path) -> None:
    """Write documents into a database, in the file's order."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE documents (id TEXT PRIMARY KEY, text TEXT)")
        try:
            database.executemany("INSERT INTO documents VALUES (?, ?)", read_texts(documents, empty=True))
        except sqlite3.IntegrityError:
            ids = pd.Series([name for name, _ in read_texts(documents, empty=True)])
            _refuse_repeats(ids, documents)
    database.close()


def _refuse_repeats(ids: pd.Series, path: Path) -> None:
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise StudyError(
            f"{path.name} has {len(repeated):,} ids that were there before, the first {repeated.iloc[0]!r}: give every "
            "text an id of its own."
        )
