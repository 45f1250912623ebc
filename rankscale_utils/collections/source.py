"""What every form of a collection must give."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import pandas as pd

AT_A_TIME = 5000  # texts that are read at once
Scored = Iterable[tuple[str, str, float]]  # query id, document id, score


class Source(Protocol):
    """Queries, documents, judgments and candidates of one collection, under its own ids."""

    label: str  # for people, and the collection's name in the measurements
    corpus: str  # sources of one corpus share document ids
    identity: Any  # JSON-able: all that decides the content
    indexed: Any  # JSON-able: all that decides `documents`

    def queries(self) -> pd.DataFrame:
        """Return query_id, text."""

    def judgments(self) -> pd.DataFrame:
        """Return query_id, document_id, relevance."""

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield (id, text) of every document that candidates may come from, never all in memory at once."""

    def texts_of(self, ids: Sequence[str]) -> Iterator[str | None]:
        """Yield the texts of these documents in the order given, None for one that the collection lacks."""

    def scored(self) -> Scored | None:
        """Yield the candidates that come with the collection; None where BM25 finds them."""

    def manifest(self) -> dict[str, Any]:
        """Return what the collection is made of, for people."""

    def counts(self) -> dict[str, int]:
        """Return what is to be told of the documents, such as empty_documents."""
