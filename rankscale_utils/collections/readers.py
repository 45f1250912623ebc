"""Reading documents, queries, TREC judgments and TREC runs of one's own."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from .lines import json_object, parse_all, read_lines, whole_number

# The names by which the world's files call their columns; case does not matter.
IDS = ("id", "_id", "doc_id", "docid", "document_id", "pid", "query_id", "qid")
TEXTS = ("text", "contents", "body", "passage", "query", "question")
JUDGMENT_NAMES = {
    "query_id": ("query-id", "query_id", "qid", "queryid", "topic"),
    "document_id": ("corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "document_id", "pid"),
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
    names, lines = _header(read_lines(path))
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


def read_run(path: Path) -> Iterator[tuple[str, str, float]]:
    """Yield (query_id, document_id, score) of a TREC run (query, Q0, document, rank, score, name), in its order.

    Raises:
        StudyError: lines cannot be used.
    """
    return parse_all(path, read_lines(path), _ranked)


def _is_json(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".jsonl", ".json"))


def _header(lines: Iterator[tuple[int, str]]) -> tuple[list[str], Iterator[tuple[int, str]]]:
    """Return the names on a file's first line where it names an id and a text, and the lines that follow."""
    first = next(lines, None)
    names = [name.strip().lower() for name in first[1].split("\t")] if first else []
    if set(names) & set(IDS) and set(names) & set(TEXTS):
        return names, lines
    return [], chain([first] * (first is not None), lines)


def _json_text(fields: dict[str, Any]) -> tuple[str, str]:
    id_name = next((name for name in IDS if fields.get(name) is not None), None)
    text_name = next((name for name in TEXTS if name in fields), None)
    if id_name is None or text_name is None:
        raise ValueError(f"no {'id' if id_name is None else 'text'} among {', '.join(fields)}")
    parts = [fields.get("title"), fields[text_name]]
    if wrong := [part for part in parts if not isinstance(part, str | None)]:
        raise ValueError(f"{wrong[0]!r} is no text")
    return str(fields[id_name]), " ".join(part for part in parts if part).strip()


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
        return lines, lambda line: _named_judgment(_by_name(names, _fields(line)))
    return chain([first], lines), lambda line: _judgment(_fields(line))


def _by_name(names: list[str], fields: list[str], unit: str = "fields") -> dict[str, str]:
    if len(fields) != len(names):
        raise ValueError(f"{len(fields)} {unit}, but there are {len(names)} columns")
    return dict(zip(names, fields, strict=True))


def _named_judgment(fields: dict[str, Any]) -> tuple[str, str, int]:
    found = {
        role: next((name for name in names if name in fields), None) for role, names in JUDGMENT_NAMES.items() if role
    }
    if absent := [role for role, name in found.items() if name is None]:
        raise ValueError(f"no {absent[0]} among {', '.join(fields)}")
    query, document, grade = (fields[name] for name in found.values())
    return _id(str(query)), _id(str(document)), whole_number("grade", grade)


def _judgment(fields: list[str]) -> tuple[str, str, int]:
    if len(fields) != 4:
        raise ValueError(
            f"{len(fields)} fields instead of four: query, iteration, document, grade, or a first line that names the "
            "columns, such as query-id<TAB>corpus-id<TAB>score"
        )
    return fields[0], fields[2], whole_number("grade", fields[3])


def _ranked(line: str) -> tuple[str, str, float]:
    fields = _fields(line)
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields instead of six: query, Q0, document, rank, score, name")
    try:
        score = float(fields[4])
    except ValueError:
        score = float("nan")
    if score != score:
        raise ValueError(f"score {fields[4]!r} is no number")
    return fields[0], fields[2], score
