"""Annotated pairs of every quality: nested subsets of them, and pairs that no person annotated.

A table of pairs has the columns document_id and query (its text); human pairs come from a collection's judgments.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest

SENTENCE_WORDS = 4  # fewer say too little to be a query
KEPT = 0.1  # share of inverse cloze pairs whose document keeps the sentence, so that matching words pays too


def nested_order(pairs: pd.DataFrame, counts: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return the places of all pairs in the order in which subsets grow: the first n are the subset of n pairs.

    So each subset lies inside every larger one. The order is that of the hash of the pairs' ids (of their text where
    they have no query_id) and the seed; neither the counts that are asked for nor the table's own order have a say.

    Raises:
        StudyError: a count is not positive, or there are fewer pairs.
    """
    if wrong := [count for count in counts if not 1 <= count <= len(pairs)]:
        raise StudyError(f"annotations = {wrong}: there are {len(pairs)} annotated pairs, ask for 1 to {len(pairs)}.")
    query = "query_id" if "query_id" in pairs else "query"
    hashes = [digest(seed, str(q), str(d)) for q, d in zip(pairs[query], pairs["document_id"], strict=True)]
    return np.argsort(hashes, kind="stable")


def inverse_cloze(documents: pd.DataFrame, seed: int = 0, kept: float = KEPT) -> pd.DataFrame:
    """Return a pair for every document of two sentences or more: a random sentence asks for the others.

    documents: document_id, text. Returns document_id, query and text, which is the document without the sentence but
    for a share `kept` of the pairs. A sentence ends at a full stop, question or exclamation mark or a semicolon, and
    has four words or more. Source: the inverse cloze task of arXiv 1906.00300, §4.
    """
    rows = []
    for document_id, text in zip(documents["document_id"], documents["text"], strict=True):
        sentences = re.split(r"(?<=[.!?;])\s+", text.strip())
        asking = [place for place, sentence in enumerate(sentences) if len(sentence.split()) >= SENTENCE_WORDS]
        if len(sentences) < 2 or not asking:
            continue
        rng = np.random.default_rng(int(digest(seed, str(document_id), length=16), 16))
        place = asking[rng.integers(len(asking))]
        rest = text if rng.random() < kept else " ".join(sentences[:place] + sentences[place + 1 :])
        rows.append((document_id, sentences[place], rest))
    return pd.DataFrame(rows, columns=["document_id", "query", "text"])


def read_generated(path: Path, documents: pd.DataFrame) -> pd.DataFrame:
    """Return the queries that a user's language model wrote: document_id, query, one JSON object a line.

    Other fields and empty lines are passed over.

    Raises:
        StudyError: the file cannot be read, lines are no such objects, or they name documents that the collection
            lacks; one sentence with the first such line and how many there are.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read as text: {error}.") from None
    places = [number for number, line in enumerate(lines, 1) if line.strip()]
    pairs = [_pair(lines[number - 1]) for number in places]
    bad = [number for number, pair in zip(places, pairs, strict=True) if pair is None]
    if bad:
        raise StudyError(
            f'{path.name}: line {bad[0]} is not like {{"document_id": "d1", "query": "some words"}}, '
            f"as {len(bad)} of {len(places)} lines are not: correct or remove them."
        )
    table = pd.DataFrame(pairs, columns=["document_id", "query"])
    _check(table, documents, [f"line {number}" for number in places], path.name)
    return table


def _pair(line: str) -> tuple[str, str] | None:
    """The document's id and the query of a line, None where it lacks them."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    found = (fields.get("document_id"), fields.get("query")) if isinstance(fields, dict) else ()
    return found if found and all(isinstance(field, str) and field.strip() for field in found) else None


def _check(table: pd.DataFrame, documents: pd.DataFrame, places: Sequence[str], source: str) -> None:
    """Raise StudyError with the first of the places whose document is unknown or whose query is empty."""
    known = table["document_id"].isin(documents["document_id"]).to_numpy()
    if not known.all():
        first = int(np.flatnonzero(~known)[0])
        raise StudyError(
            f"{source}: {places[first]} names document {table['document_id'].iloc[first]!r}, which the collection "
            f"lacks, as {int((~known).sum())} of {len(table)} do: give ids of this collection."
        )
