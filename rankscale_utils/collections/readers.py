"""Reading files of one's own: pairs, documents, queries, TREC judgments and TREC runs.

Every reader counts the lines that it cannot use and refuses the file once it has seen all of it: nothing is skipped in
silence, and the message names the first bad line.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from rankscale_utils.errors import StudyError


class Pair(NamedTuple):
    """One line of a file of pairs."""

    query: str
    positive: str
    negatives: list[str]
    grade: int


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of a .jsonl, .tsv (either also .gz) or .parquet file, in its order.

    Columns or keys: query, positive; where known also `negatives` (a list of texts), or in a .tsv any number of columns
    whose names begin with `negative`; and `grade`, a whole number (1 where absent, 0 for not relevant).

    Raises:
        StudyError: the file's kind is unknown, or lines cannot be used.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        return _parsed(path, _parquet_rows(path), _pair, "row")
    if kind == "jsonl":
        return _parsed(path, _lines(path), lambda line: _pair(_json(line)))
    if kind == "tsv":
        lines = _lines(path)
        header = next((_decoded(line) for _, line in lines), "")
        names = header.split("\t")
        if missing := [name for name in ("query", "positive") if name not in names]:
            raise StudyError(
                f"{path.name}, line 1: {header[:80]!r} names no column {' and no column '.join(missing)}: begin the "
                "file with a line such as query<TAB>positive."
            )
        return _parsed(path, lines, lambda line: _pair(_cells(line, names)))
    raise StudyError(f"{path.name} is no file of pairs: use .jsonl, .tsv (either also .gz) or .parquet.")


def read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of documents or queries: lines `id<TAB>text`, or JSON lines with an id, `text` and any `title`.

    Raises:
        StudyError: lines cannot be used.
    """
    is_json = path.name.removesuffix(".gz").endswith((".jsonl", ".json"))
    return _parsed(path, _lines(path), _json_text if is_json else _tab_text)


def read_judgments(path: Path) -> pd.DataFrame:
    """Return TREC judgments (query, iteration, document, grade): query_id, document_id, relevance.

    Raises:
        StudyError: lines cannot be used.
    """
    return pd.DataFrame(_parsed(path, _lines(path), _judgment), columns=["query_id", "document_id", "relevance"])


def read_run(path: Path) -> Iterator[tuple[str, str, float]]:
    """Yield (query_id, document_id, score) of a TREC run (query, Q0, document, rank, score, name), in its order.

    Raises:
        StudyError: lines cannot be used.
    """
    return _parsed(path, _lines(path), _ranked)


def _parsed(
    path: Path, numbered: Iterator[tuple[int, Any]], parse: Callable[[Any], Any], unit: str = "line"
) -> Iterator[Any]:
    bad, first = 0, ""
    for number, raw in numbered:
        try:
            parsed = parse(_decoded(raw) if isinstance(raw, bytes) else raw)
        except (ValueError, KeyError) as error:
            bad, first = bad + 1, first or f"{unit} {number}: {error.args[0]}"
            continue
        yield parsed
    if bad:
        raise StudyError(
            f"{path.name} has {bad:,} {unit}{'s' * (bad > 1)} that cannot be used, the first {first}; correct or "
            f"remove {'them' if bad > 1 else 'it'}."
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of every line that is not blank."""
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise StudyError(f"{path} cannot be read: {error}; replace the file.") from None


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
    try:
        batches = pq.ParquetFile(path).iter_batches()
        yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise StudyError(f"{path} cannot be read: {' '.join(str(error).split())}; replace the file.") from None


def _json(line: str) -> dict:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg.lower()} at character {error.pos})") from None
    if not isinstance(fields, dict):
        raise ValueError("JSON, but no object with field names")
    return fields


def _cells(line: str, names: list[str]) -> dict:
    cells = line.split("\t")
    if len(cells) > len(names):
        raise ValueError(f"{len(cells)} cells, but there are {len(names)} columns")
    fields = dict(zip(names, cells, strict=False))
    fields["negatives"] = [cell for name, cell in fields.items() if name.startswith("negative") and cell]
    return fields


def _pair(fields: dict) -> Pair:
    negatives, grade = fields.get("negatives") or [], fields.get("grade")
    negatives = [negatives] if isinstance(negatives, str) else negatives
    if not all(isinstance(text, str) and text.strip() for text in negatives):
        raise ValueError("negatives are no texts")
    return Pair(
        _text(fields, "query"), _text(fields, "positive"), negatives, 1 if grade in (None, "") else _grade(grade)
    )


def _text(fields: dict, name: str) -> str:
    if name not in fields:
        raise ValueError(f"no {name} among {', '.join(map(str, fields))}")
    if not isinstance(fields[name], str) or not fields[name].strip():
        raise ValueError(f"{name} is {fields[name]!r}, which is no text")
    return fields[name]


def _grade(value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        raise ValueError(f"grade {value!r} is no whole number")
    return int(number)


def _json_text(line: str) -> tuple[str, str]:
    fields = _json(line)
    name = next((name for name in ("id", "_id", "doc_id", "query_id", "qid") if name in fields), None)
    if name is None:
        raise ValueError(f"no id among {', '.join(fields)}")
    title = fields.get("title") or ""
    return _id(str(fields[name])), f"{title} {_text(fields, 'text')}".strip()


def _tab_text(line: str) -> tuple[str, str]:
    name, tab, text = line.partition("\t")
    if not (tab and name.strip() and text.strip()):
        raise ValueError(f"{line[:40]!r} is not id<TAB>text")
    return _id(name), text


def _id(name: str) -> str:
    if len(name.split()) != 1:
        raise ValueError(f"id {name!r} is empty or has spaces, which TREC's files cannot hold")
    return name


def _judgment(line: str) -> tuple[str, str, int]:
    parts = line.split()
    if len(parts) != 4:
        raise ValueError(f"{len(parts)} fields instead of four: query, iteration, document, grade")
    return parts[0], parts[2], _grade(parts[3])


def _ranked(line: str) -> tuple[str, str, float]:
    parts = line.split()
    if len(parts) != 6:
        raise ValueError(f"{len(parts)} fields instead of six: query, Q0, document, rank, score, name")
    try:
        score = float(parts[4])
    except ValueError:
        score = float("nan")
    if score != score:
        raise ValueError(f"score {parts[4]!r} is no number")
    return parts[0], parts[2], score
