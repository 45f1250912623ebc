"""Collections that ir_datasets knows, read from the folder IR_DATASETS_HOME, or fetched into it."""

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest
from rankscale_utils.study.collection import IrDatasets

from .batching import pieces
from .readers import RunReader
from .source import AT_A_TIME, Scored


@dataclass(frozen=True)
class IrDataset:
    """A collection of ir_datasets; `run`, where given, holds its candidates."""

    settings: IrDatasets
    run: Path | None

    @property
    def label(self) -> str:
        """The id."""
        return self.settings.ir_datasets

    @cached_property
    def corpus(self) -> str:
        """The id of the dataset that holds the documents, such as msmarco-passage."""
        import ir_datasets  # here, since it takes long to import

        _refuse_unknown(self.label)
        return ir_datasets.docs_parent_id(self.label) or self.label

    @property
    def identity(self) -> list[Any]:
        """What decides the documents, the id, and the candidates."""
        run = digest(self.run) if self.run else self.settings.candidates
        return [*self.indexed, self.label, run, self.settings.queries]

    @property
    def indexed(self) -> list[str]:
        """The documents' id, the loader's version and the folder that the files lie in."""
        return [self.corpus, metadata.version("ir_datasets"), str(_home())]

    @cached_property
    def _dataset(self) -> Any:
        """The dataset, its files there and its index of documents built: from here on it is only read."""
        import ir_datasets

        dataset = ir_datasets.load(self.label)
        if lacking := [part for part in ("queries", "qrels", "docs") if not getattr(dataset, f"has_{part}")()]:
            raise StudyError(
                f"ir_datasets = {self.label!r} has no {' and no '.join(lacking)}: use another id of the collection."
            )
        with FileLock(_home() / "rankscale.lock"):  # processes at once corrupt what ir_datasets writes
            try:
                first = [next(getattr(dataset, f"{part}_iter")()) for part in ("queries", "qrels", "docs")][-1]
                dataset.docs_store().get_many([first.doc_id])
            except Exception as error:  # downloads and files fail in many ways
                raise StudyError(
                    f"ir_datasets = {self.label!r}: {_home()} lacks its files and they could not be fetched "
                    f"({' '.join(str(error).split())[:120]}…): connect to the network once, or set IR_DATASETS_HOME to "
                    f"a folder that has them; this one has {_cached()}."
                ) from error
        return dataset

    def queries(self) -> pd.DataFrame:
        """Return query_id, text."""
        rows = ((query.query_id, query.default_text()) for query in self._dataset.queries_iter())
        return pd.DataFrame(rows, columns=["query_id", "text"])

    def judgments(self) -> pd.DataFrame:
        """Return query_id, document_id, relevance."""
        rows = ((judged.query_id, judged.doc_id, judged.relevance) for judged in self._dataset.qrels_iter())
        return pd.DataFrame(rows, columns=["query_id", "document_id", "relevance"])

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text)."""
        return ((document.doc_id, document.default_text()) for document in self._dataset.docs_iter())

    def texts_of(self, ids: Sequence[str]) -> Iterator[str | None]:
        """Yield the texts of these documents in the order given, None for one that the collection lacks."""
        store = self._dataset.docs_store()
        for some in pieces(ids, AT_A_TIME):
            found = store.get_many(some)
            yield from (found[one].default_text() if one in found else None for one in some)

    def scored(self) -> Scored | None:
        """Yield the candidates of the run or of the id itself; None where BM25 finds them."""
        if self.run:
            return RunReader(self.run)
        if self.settings.candidates == "bm25":
            return None
        if not self._dataset.has_scoreddocs():
            raise StudyError(
                f"candidates = 'scoreddocs': ir_datasets' {self.label} brings none; write bm25 or a TREC run's path."
            )
        return ((scored.query_id, scored.doc_id, scored.score) for scored in self._dataset.scoreddocs_iter())

    def counts(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def manifest(self) -> dict[str, Any]:
        """Return the id and the loader's version."""
        return {"collection": self.label, "ir_datasets": metadata.version("ir_datasets")}


def _home() -> Path:
    """Return ir_datasets' folder."""
    folder = Path(os.environ.get("IR_DATASETS_HOME", Path.home() / ".ir_datasets"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _refuse_unknown(name: str) -> None:
    import ir_datasets

    known = list(ir_datasets.registry)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise StudyError(
            f"ir_datasets = {name!r} is no id of ir_datasets {metadata.version('ir_datasets')}"
            + (f", did you mean {near[0]}?" if near else ": use one of https://ir-datasets.com.")
        )


def _cached() -> str:
    """Return the collections of which there are files, for a message."""
    folders = sorted(path for path in _home().iterdir() if path.is_dir())
    return ", ".join(path.name for path in folders if any(one.is_file() for one in path.rglob("*"))) or "nothing"
