"""The cells of a user's CSV or table, each row under the number by which its owner finds it."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.encoding import decode_utf8, instead_of_utf8

from .changes import Change
from .table import DEFAULTS, NUMBERS, WORDS

MISSING = ["", "NA", "N/A", "NaN", "nan", "None", "null", "NULL", "<NA>"]  # of a number that there is not
LABELS = [*WORDS, *DEFAULTS]


class Origin(NamedTuple):
    """Where rows come from: a file, whose lines count from 1, or a table, whose rows count from 0."""

    name: str
    unit: str = "row"

    def at(self, *numbers: int) -> str:
        """Return rows as people find them: `ladder.csv, line 5`."""
        return f"{self.name}, {self.unit}{'s' * (len(numbers) > 1)} {' and '.join(map(str, numbers))}"


class Cells(NamedTuple):
    """Rows whose known columns are as written; the index holds the numbers of `origin`. changes: made on reading."""

    table: pd.DataFrame
    origin: Origin
    changes: list[Change]


def cells_of_file(path: Path) -> Cells:
    """Return a CSV's cells; lines are numbered as an editor shows them.

    Raises:
        StudyError: it is no CSV in UTF-8, has no rows, or a column twice.
    """
    text = _text(path)
    return _cells(text, Origin(path.name, "line"), _lines(text))


def cells_of_table(table: pd.DataFrame) -> Cells:
    """Return a table's cells as if it had been written as a CSV; rows are numbered by their place."""
    return _cells(table.to_csv(index=False), Origin("measurements"), range(len(table)))


def _cells(text: str, origin: Origin, numbers: Sequence[int]) -> Cells:
    name = origin.name
    try:
        columns = _column_names(text, name)
        missing = {column: [""] if column in LABELS else MISSING for column in columns}  # NA and None are labels
        table = pd.read_csv(
            StringIO(text),
            names=columns,
            header=0,
            dtype=dict.fromkeys([*LABELS, *NUMBERS, "excluded"], str),
            keep_default_na=False,
            na_values=missing,
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise StudyError(f"{name} is empty: write a line of column names and a row for every measurement.") from None
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise StudyError(f"{name} is no CSV in UTF-8: {reason}; correct that line.") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise StudyError(f"{name} has rows with more cells than there are column names: name every column.")
    if len(numbers) == len(table):  # else a quote is never closed, and the table has what pandas makes of it
        table.index = pd.Index(numbers)
    words = [column for column in table if pd.api.types.is_string_dtype(table[column])]
    stripped = table.assign(**{column: table[column].str.strip() for column in words})
    labels = [column for column in words if column in LABELS]
    blanks = int((stripped[labels].fillna("") != table[labels].fillna("")).to_numpy().sum())
    whole = stripped.dropna(how="all")
    changes = [
        Change("blanks around a label were dropped", blanks, name),
        Change("rows without a single cell were passed over", len(table) - len(whole), name),
    ]
    return Cells(whole, origin, changes)


def _lines(text: str) -> list[int]:
    """Return the line on which every row begins, the first line left out, which holds the names."""
    reader, starts, before = csv.reader(StringIO(text)), [], 0
    try:
        for _ in reader:
            starts.append(before + 1)
            before = reader.line_num
    except csv.Error:  # a cell that is longer than Python's reader takes
        return []
    return starts[1:]


def _column_names(text: str, name: str) -> list[str]:
    """Return the names in a CSV's first line, without blanks around them."""
    columns = [column.strip() for column in next(csv.reader(StringIO(text)), [])]
    if not columns:
        raise pd.errors.EmptyDataError
    if twice := [column for column in columns if columns.count(column) > 1]:
        places = [str(place) for place, column in enumerate(columns, 1) if column == twice[0]]
        raise StudyError(
            f"{name} has the column {twice[0]} twice, as its columns {' and '.join(places)}: remove one of them, or "
            "rename it."
        )
    return columns


def _text(path: Path) -> str:
    """Return a file's text, once it is in UTF-8 and commas part its cells."""
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if (text := decode_utf8(line)) is None:
            raise StudyError(f"{path.name} {instead_of_utf8(lines[0], line, number)}.")
        if number == 1 and "," not in text:
            for sign, name in ((";", "semicolons"), ("\t", "tabs")):
                if sign in text:
                    raise StudyError(
                        f"{path.name} parts its cells by {name}, and may write decimal commas: save it with commas "
                        f"between cells and decimal points, such as by pandas.read_csv(FILE, sep={sign!r}, decimal=',')"
                        ".to_csv(FILE, index=False)."
                    )
    return b"\n".join(lines).decode("utf-8-sig")
