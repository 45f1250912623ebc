"""Reading documents, queries, TREC judgments and TREC runs of one's own."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from rankscale_utils.errors import StudyError

from .lines import json_object, parse_all, read_lines, whole_number

# The names by which the world's files call their columns; case does not matter.
IDS = ("id", "_id", "doc_id", "docid", "docno", "document_id", "pid", "query_id", "qid")
TEXTS = ("text", "contents", "body", "passage", "query", "question")
JUDGMENT_NAMES = {
    "query_id": ("query-id", "query_id", "qid", "queryid", "topic"),
    "document_id": ("corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "docno", "document_id", "pid"),
    "grade": ("score", "grade", "relevance", "rel", "label"),
    "": ("iteration", "iter", "q0"),
}

_fields = re.compile(r"[^ \t\n\v\f\r]+").findall  # as TREC's tools: an id may hold any other blank, such as U+00A0


def read_texts(path: Path, empty: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of documents or queries: lines `id<TAB>text`, or JSON lines with an id, `text` and any `title`.

    A .tsv may begin with a line of these names. A text with a title alone is its title. empty: whether texts without
    a letter are kept, as '', as BEIR's documents have them.

    Raises:
        StudyError: lines cannot be used.
    """

    def kept(name: str, text: str) -> tuple[str, str]:
        if not (text.strip() or empty):
            raise ValueError(f"{name!r} has an empty text")
        return _id(name), text if text.strip() else ""

    if _is_json(path):
        return parse_all(path, read_lines(path), lambda line: kept(*_json_text(json_object(line))))
    names, lines = _header(path)
    if names:
        return parse_all(path, lines, lambda line: kept(*_json_text(_by_name(names, line.split("\t"), "cells"))))
    return parse_all(path, lines, lambda line: kept(*_tab_text(line)))


def read_judgments(path: Path) -> pd.DataFrame:
    """Return judgments: query_id, document_id, relevance.

    They are TREC's (query, iteration, document, grade), or have a first line that names the columns, as BEIR's
    qrels/test.tsv (query-id, corpus-id, score), or are JSON lines with these names.

    Raises:
        StudyError: lines cannot be used.
    """
    if _is_json(path):
        found = parse_all(path, read_lines(path), lambda line: _named_judgment(json_object(line)))
    else:
        found = parse_all(path, *_judgments(path))
    return pd.DataFrame(found, columns=["query_id", "document_id", "relevance"])


class RunReader:
    """The (query_id, document_id, score) of a TREC run (query, Q0, document, rank, score, name), in its order.

    Scores order documents, as with trec_eval; once the run was read, `contrary` holds the queries whose ranks say
    otherwise, as a score rises from one line's rank to the next one's.
    """

    def __init__(self, path: Path) -> None:
        """Know the file."""
        self.path, self.contrary = path, set[str]()

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        """Yield the lines.

        Raises:
            StudyError: lines cannot be used.
        """
        before: dict[str, tuple[float, float]] = {}
        for query, document, rank, score in parse_all(self.path, read_lines(self.path), _ranked):
            last_rank, last_score = before.get(query, (rank, score))
            if (rank - last_rank) * (score - last_score) > 0:
                self.contrary.add(query)
            before[query] = rank, score
            yield query, document, score


def _is_json(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json"))


def _header(path: Path) -> tuple[list[str], Iterator[tuple[int, str]]]:
    """Return the names on a file's first line where it names an id and a text, and the lines that follow."""
    lines = read_lines(path)
    first = next(lines, None)
    names = [name.strip().lower() for name in first[1].split("\t")] if first else []
    if set(names) & set(IDS) and set(names) & set(TEXTS):
        return _different(path, names), lines
    if len(names) > 1 and set(names[1:]) <= {*TEXTS, "title"}:  # names of columns, not a text of one such word
        raise StudyError(
            f"{path.name}, line 1: {first[1][:80]!r} names a text and no id: call the column of ids "
            "id, or remove the line."
        )
    return [], chain([first] * (first is not None), lines)


def _json_text(fields: dict[str, Any]) -> tuple[str, str]:
    id_name = _only("id", IDS, fields)
    text_name = _only("text", TEXTS, fields) or next((name for name in TEXTS if name in fields), None)
    if id_name is None or text_name is None:
        raise ValueError(f"no {'id' if id_name is None else 'text'} among {', '.join(fields)}")
    parts = [fields.get("title"), fields[text_name]]
    if wrong := [part for part in parts if not isinstance(part, str | None)]:
        raise ValueError(f"{wrong[0]!r} is no text")
    return _id_of(fields[id_name]), " ".join(part for part in parts if part).strip()


def _id_of(value: Any) -> str:
    """Return an id of JSON: a text, or a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"id {value!r} is no text and no whole number, so that other files would write it otherwise")
    return str(value)


def _tab_text(line: str) -> tuple[str, str]:
    name, tab, text = line.partition("\t")
    if not (tab and name.strip()):
        raise ValueError(f"{line[:40]!r} is not id<TAB>text")
    return name, text


def _id(name: str) -> str:
    if _fields(name) != [name]:
        raise ValueError(f"id {name!r} is empty or has spaces, which TREC's files cannot hold")
    return name


def _judgments(path: Path) -> tuple[Iterator[tuple[int, str]], Any]:
    """Return the lines of a file of judgments, and what parses one."""
    lines = read_lines(path)
    first = next(lines, None)
    names = [name.lower() for name in _fields(first[1])] if first else []
    if all(name in chain.from_iterable(JUDGMENT_NAMES.values()) for name in names):
        _different(path, names)
        return lines, lambda line: _named_judgment(_by_name(names, _fields(line)))
    return chain([first], lines), lambda line: _judgment(_fields(line))


def _different(path: Path, names: list[str]) -> list[str]:
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise StudyError(f"{path.name}, line 1: two columns are called {twice[0]!r}: rename one.")
    return names


def _only(role: str, names: Iterable[str], fields: dict[str, Any]) -> str | None:
    """Return which of these names a line has for a role; of several with different values none can be chosen."""
    there = [name for name in names if fields.get(name) is not None]
    if len({str(fields[name]) for name in there}) > 1:
        raise ValueError(f"{' and '.join(there)} could each be the {role}: remove or rename one of them")
    return there[0] if there else None


def _by_name(names: list[str], fields: list[str], unit: str = "fields") -> dict[str, str]:
    if len(fields) != len(names):
        raise ValueError(f"{len(fields)} {unit}, but there are {len(names)} columns")
    return dict(zip(names, fields, strict=True))


def _named_judgment(fields: dict[str, Any]) -> tuple[str, str, int]:
    found = {role: _only(role, names, fields) for role, names in JUDGMENT_NAMES.items() if role}
    if absent := [role for role, name in found.items() if name is None]:
        raise ValueError(f"no {absent[0]} among {', '.join(fields)}")
    query, document, grade = (fields[name] for name in found.values())
    return _id(_id_of(query)), _id(_id_of(document)), whole_number("grade", grade)


def _judgment(fields: list[str]) -> tuple[str, str, int]:
    if len(fields) != 4:
        raise ValueError(
            f"{len(fields)} fields instead of four: query, iteration, document, grade, or a first line that names the "
            "columns, such as query-id<TAB>corpus-id<TAB>score"
        )
    return fields[0], fields[2], whole_number("grade", fields[3])


def _ranked(line: str) -> tuple[str, str, float, float]:
    fields = _fields(line)
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields instead of six: query, Q0, document, rank, score, name")
    try:
        score = float(fields[4])
    except ValueError:
        score = float("nan")
    if score != score:
        raise ValueError(f"score {fields[4]!r} is no number")
    try:
        rank = float(fields[3])
    except ValueError:
        rank = float("nan")  # which tools leave unread, too
    return fields[0], fields[2], rank, score
