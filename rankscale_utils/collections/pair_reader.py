"""Reading pairs of a query and a relevant text under whatever names the world's files give their columns."""

import json
import re
from ast import literal_eval
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from rankscale_utils.errors import StudyError
from rankscale_utils.study.collection import Columns

from .lines import json_object, parse_all, read_cells, read_lines, whole_number
from .readers import TEXTS

# The usual names of each role, those that say it for certain before those that only may; case does not matter.
NAMES = {
    "query": (("query", "anchor"), ("question", "title")),
    "positive": (
        ("positive", "positives", "pos", "positive_passages", "positive_ctxs"),
        ("answer", "abstract", "passage"),
    ),
    "grade": (("grade", "label", "relevance"),),
}
NEGATIVE_NAMES = re.compile(r"(hard_?)?neg(ative)?s?(_passages|_ctxs)?(_?\d+)?")  # negatives, negative_1, neg, …
LIST = re.compile(r"""\[\s*["'].*["']\s*\]""", re.DOTALL)  # of texts, in JSON's notation or Python's
QUOTED = re.compile(r'".+"')  # as spreadsheets write a cell with a comma or a quotation mark
TRIPLE = ("query", "positive", "negative")  # a file of three texts a line that names no columns, as MS MARCO's triples
REMEDY = "name the columns in the study, such as columns: {query: NAME, positive: NAME}"


class Pair(NamedTuple):
    """A query and a text that answers it, with texts that do not."""

    query: str
    positive: str
    negatives: list[str]
    grade: int


class Roles(NamedTuple):
    """Which column holds what."""

    query: str | None
    positive: str | None
    grade: str | None
    negatives: list[str]


class PairReader:
    """The pairs of a .jsonl, .csv, .tsv (also .gz) or .parquet file, in its order.

    Queries, positives, negatives and grades stand under the names of `NAMES` and `NEGATIVE_NAMES`, or of `columns`. A
    positive may be a list, each of which makes a pair; any number of columns may hold negatives, a text or a list;
    texts may be objects with a title and a text. A grade is a whole number: 1 where absent, 0 for not relevant.

    Once the pairs were read, `used` says which columns held each role, and `unused` names the others; `named` is
    whether the file itself names its columns; `ungraded` counts lines whose grade is empty, so that it became 1, and
    `short_lines` those with fewer cells than columns, the others being empty, and `quoted_lines` those of a .tsv with a
    cell in quotation marks, which are read as part of its text.
    """

    def __init__(self, path: Path, columns: Columns | None = None) -> None:
        """Know the file, and the names that a study gives its columns."""
        self.path, self.columns = path, columns or Columns()
        self.named = True
        self.ungraded = self.short_lines = self.quoted_lines = 0
        self._roles: dict[tuple[str, ...], Roles] = {}  # by the names of a line's columns

    @property
    def used(self) -> dict[str, list[str]]:
        """The columns of every role that the file has."""
        found = list(self._roles.values())
        held = {role: [getattr(roles, role) for roles in found] for role in NAMES}
        held["negatives"] = [name for roles in found for name in roles.negatives]
        return {role: list(dict.fromkeys(filter(None, names))) for role, names in held.items() if any(names)}

    @property
    def unused(self) -> list[str]:
        """The columns that were not read."""
        used = set(chain.from_iterable(self.used.values()))
        return list(dict.fromkeys(name for names in self._roles for name in names if name not in used))

    def __iter__(self) -> Iterator[Pair]:
        """Yield the pairs.

        Raises:
            StudyError: the file's kind is unknown, a column is absent or may be two things, or lines cannot be used.
        """
        yield from chain.from_iterable(self._parsed())
        absent = set(_names_of(self.columns)) - {name.strip() for names in self._roles for name in names}
        if absent:
            raise StudyError(
                f"columns names {', '.join(sorted(absent))}, which {self.path.name} has not: its columns are "
                f"{', '.join(dict.fromkeys(chain.from_iterable(self._roles)))}."
            )

    def _parsed(self) -> Iterator[list[Pair]]:
        kind = self.path.name.lower().removesuffix(".gz").rpartition(".")[2]
        if kind == "parquet":
            return parse_all(self.path, _parquet_rows(self.path), self._pairs, "row")
        if kind == "jsonl":
            return parse_all(self.path, read_lines(self.path), lambda line: self._pairs(json_object(line)))
        if kind == "csv":
            return self._rows(read_cells(self.path))
        if kind == "tsv":
            return self._rows((number, self._split(line)) for number, line in read_lines(self.path))
        raise StudyError(f"{self.path.name} is no file of pairs: use .jsonl, .csv, .tsv (also .gz) or .parquet.")

    def _rows(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[list[Pair]]:
        names, rows = self._header(rows)
        return parse_all(self.path, rows, lambda cells: self._pairs(self._by_name(cells, names)))

    def _header(self, rows: Iterator[tuple[int, list[str]]]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
        """Return a table's names and its further rows; three texts instead of names are a triple."""
        first = next(rows, (1, [""]))
        names = [name.strip() for name in first[1]]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise StudyError(f"{self.path.name}, line 1: two columns are called {sorted(repeated)[0]!r}: rename one.")
        roles = self._roles_of(tuple(names))
        absent = [role for role in ("query", "positive") if not getattr(roles, role)]
        if not absent:
            return names, rows
        del self._roles[tuple(names)]
        if self.columns == Columns() and len(names) == len(TRIPLE) and all(" " in text for text in names):
            self.named = False
            return list(TRIPLE), chain([first], rows)
        sign = "," if ".csv" in self.path.name.lower() else "\t"
        raise StudyError(
            f"{self.path.name}, line 1: {sign.join(first[1])[:80]!r} names no column {' and no column '.join(absent)}: "
            f"begin the file with a line such as query{'<TAB>' if sign != ',' else sign}positive, or {REMEDY}."
        )

    def _pairs(self, fields: dict[str, Any]) -> list[Pair]:
        roles = self._roles_of(tuple(fields))
        for role in ("query", "positive"):
            if getattr(roles, role) is None:
                raise ValueError(f"no {role} among {', '.join(fields)} ({REMEDY})")
        query, positives = fields[roles.query], _texts(fields[roles.positive], roles.positive)
        if not isinstance(query, str) or not query.strip():
            raise ValueError(f"{roles.query} is {query!r}, which is no text")
        if not positives:
            raise ValueError(f"{roles.positive} is {fields[roles.positive]!r}, which holds no text")
        negatives = [text for name in roles.negatives for text in _texts(fields[name], name)]
        given = fields.get(roles.grade)
        self.ungraded += roles.grade is not None and given in (None, "")
        grade = 1 if given in (None, "") else whole_number(roles.grade, given)
        return [Pair(query, positive, negatives, grade) for positive in positives]

    def _split(self, line: str) -> list[str]:
        cells = line.split("\t")
        self.quoted_lines += any(QUOTED.fullmatch(cell) for cell in cells)
        return cells

    def _by_name(self, cells: list[str], names: list[str]) -> dict[str, Any]:
        if len(cells) > len(names):
            raise ValueError(f"{len(cells)} cells, but there are {len(names)} columns")
        self.short_lines += len(cells) < len(names)
        return dict(zip(names, map(_listed, [*cells, *[""] * (len(names) - len(cells))]), strict=True))

    def _roles_of(self, names: tuple[str, ...]) -> Roles:
        if names not in self._roles:
            known: dict[str, str] = {}
            for name in names:
                if (other := known.setdefault(name.strip().lower(), name)) != name:
                    raise StudyError(
                        f"{self.path.name} has the columns {other!r} and {name!r}, which only case or blanks tell "
                        "apart: rename one."
                    )
            query, positive, grade = (self._column(role, names, known) for role in NAMES)
            given = self.columns.negatives
            negatives = [
                name for lower, name in known.items() if name.strip() in given or NEGATIVE_NAMES.fullmatch(lower)
            ]
            self._roles[names] = Roles(query, positive, grade, [name for name in negatives if name != positive])
        return self._roles[names]

    def _column(self, role: str, names: tuple[str, ...], known: dict[str, str]) -> str | None:
        if given := getattr(self.columns, role):
            return next((name for name in names if name.strip() == given), None)
        for tier in NAMES[role]:
            there = [
                known[name] for name in tier if name in known and known[name].strip() not in _names_of(self.columns)
            ]
            if len(there) > 1:
                raise StudyError(
                    f"{self.path.name}: {' and '.join(there)} could each be the {role}: say which in the study, such "
                    f"as columns: {{{role}: {there[0]}}}."
                )
            if there:
                return there[0]
        return None


def _names_of(columns: Columns) -> list[str]:
    return [name for name in (columns.query, columns.positive, columns.grade, *columns.negatives) if name]


def _texts(value: Any, name: str) -> list[str]:
    """Return the texts of a cell: one, a list of them, or none where it is empty."""
    texts = [_text(part) for part in (value if isinstance(value, list) else [value] if value else [])]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{name} holds {value!r:.60}, which is no text")
    return texts


def _text(value: Any) -> Any:
    """Return the text of an object that has one, after its title."""
    if not isinstance(value, dict):
        return value
    parts = [value.get("title"), next((value[name] for name in TEXTS if name in value), None)]
    if wrong := [part for part in parts if not isinstance(part, str | None)]:
        raise ValueError(f"{wrong[0]!r:.60} is no text")
    return " ".join(part for part in parts if part)


def _listed(cell: str) -> str | list[str]:
    """Return a cell, or the texts in it where it is a list of them in JSON.

    Raises:
        ValueError: it is a list in Python's notation, which nothing but Python reads.
    """
    if not LIST.fullmatch(cell):
        return cell
    for read in (json.loads, literal_eval):
        try:
            texts = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if read is literal_eval and isinstance(texts, list):
            raise ValueError(f"{cell!r:.60} is a list as Python shows it, not in JSON: write it by json.dumps")
        return texts if isinstance(texts, list) else cell
    return cell


def _parquet_rows(path: Path) -> Iterable[tuple[int, dict]]:
    try:
        batches = pq.ParquetFile(path).iter_batches()
        yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise StudyError(f"{path} cannot be read: {' '.join(str(error).split())}; replace the file.") from None
