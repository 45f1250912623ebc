"""Collections that are split here into training, dev and test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import digest, read_json

from .source import Scored

SPLITS = {"train": 0.80, "dev": 0.10, "test": 0.10}


def split_of(module: str) -> str:
    """Return the split of a module by the hash of its name, so that one module's docstrings share a split."""
    place = int(digest(module, length=8), 16) / 16**8
    for split, share in SPLITS.items():
        if place < share:
            return split
        place -= share
    return split


@dataclass(frozen=True)
class Tables:
    """One split of a collection that lies prepared as tables: the docstrings, or a file of pairs.

    Candidates of dev and test come from all documents, those of training from the training documents alone.
    """

    label: str
    folder: Path
    split: Literal["train", "dev", "test"]

    @property
    def corpus(self) -> str:
        """The prepared folder's name, which follows its content."""
        return self.folder.name

    @property
    def identity(self) -> list[str]:
        """The prepared folder and the split."""
        return [self.corpus, self.split]

    indexed = identity

    def queries(self) -> pd.DataFrame:
        """Return query_id, text of the split's queries."""
        table = pd.read_parquet(self.folder / "queries.parquet")
        return table.loc[table["split"] == self.split, ["query_id", "text"]].reset_index(drop=True)

    def judgments(self) -> pd.DataFrame:
        """Return query_id, document_id, relevance of the split's queries."""
        table = pd.read_parquet(self.folder / "judgments.parquet")
        return table[table["query_id"].isin(self.queries()["query_id"])].reset_index(drop=True)

    @cached_property
    def _documents(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "documents.parquet", columns=["document_id", "split", "text"])

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text)."""
        table = self._documents if self.split != "train" else self._documents[self._documents["split"] == "train"]
        return zip(table["document_id"], table["text"], strict=True)

    def texts_of(self, ids: Sequence[str]) -> Iterator[str | None]:
        """Yield the texts of these documents in the order given, None for one that the collection lacks."""
        texts = dict(zip(self._documents["document_id"], self._documents["text"], strict=True))
        return map(texts.get, ids)

    def scored(self) -> Scored | None:
        """Yield the negatives that a file of pairs brings for its training queries: every line's first ones first."""
        path = self.folder / "negatives.parquet"
        if self.split != "train" or not path.exists():
            return None
        table = pd.read_parquet(path)
        table = table[table["query_id"].isin(self.queries()["query_id"])]
        table = table.sort_values("rank", kind="stable")
        return zip(table["query_id"], table["document_id"], -np.arange(len(table), dtype=float), strict=True)

    def counts(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def manifest(self) -> dict[str, Any]:
        """Return the builder's manifest."""
        return read_json(self.folder / "manifest.json")
