"""The cells of a user's CSV or table, each row under the number by which its owner finds it."""

import csv
import gzip
import zlib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.encoding import decode_utf8, instead_of_utf8
from rankscale_utils.machine.files import read_parquet

from .changes import Change
from .table import DEFAULTS, NUMBERS, SCHEMA, WORDS

MISSING = ["", "NA", "N/A", "NaN", "nan", "None", "null", "NULL", "<NA>"]  # of a number that there is not
LABELS = [*WORDS, *DEFAULTS]
UNNAMED = "column "  # before the place of one that has no name, as spreadsheets leave behind


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
    """Return the cells of a CSV (also .gz), whose lines are numbered as an editor shows them, or of a .parquet's rows.

    Raises:
        StudyError: it is no CSV in UTF-8, has no rows, or a column twice.
    """
    if path.suffix.lower() == ".parquet":
        return cells_of_table(read_parquet(path), path.name)
    text = _text(path)
    return _cells(text, Origin(path.name, "line"), _lines(text))


def cells_of_table(table: pd.DataFrame, name: str = "measurements") -> Cells:
    """Return a table's cells as if it had been written as a CSV; rows are numbered by their place."""
    return _cells(table.to_csv(index=False), Origin(name), range(len(table)))


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
    hollow = [name for name in table if name.startswith(UNNAMED) and table[name].isna().all()]
    table = table.drop(columns=hollow)
    words = [column for column in table if pd.api.types.is_string_dtype(table[column])]
    stripped = table.assign(**{column: table[column].str.strip() for column in words})
    labels = [column for column in words if column in LABELS]
    blanks = int((stripped[labels].fillna("") != table[labels].fillna("")).to_numpy().sum())
    whole = stripped.dropna(how="all")
    changes = [
        Change("blanks around a label were dropped", blanks, name),
        Change("rows without a single cell were passed over", len(table) - len(whole), name),
        Change("columns without a name or a cell were passed over", len(hollow), name),
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
    if not any(columns):
        raise pd.errors.EmptyDataError
    columns = [column or f"{UNNAMED}{place}" for place, column in enumerate(columns, 1)]
    if twice := [column for column in columns if columns.count(column) > 1]:
        places = [str(place) for place, column in enumerate(columns, 1) if column == twice[0]]
        raise StudyError(
            f"{name} has the column {twice[0]} twice, as its columns {' and '.join(places)}: remove one of them, or "
            "rename it."
        )
    known = {column.casefold(): column for column in SCHEMA.columns}
    for column in columns:
        if column != (usual := known.get(column.casefold(), column)) and usual not in columns:
            raise StudyError(
                f"{name} has the column {column}, which only case tells from {usual}: rename it to {usual}."
            )
    return columns


def _text(path: Path) -> str:
    """Return a file's text, once it is in UTF-8 and commas part its cells."""
    lines = _bytes(path).splitlines()
    for number, line in enumerate(lines, 1):
        if (text := decode_utf8(line)) is None:
            raise StudyError(f"{path.name} {instead_of_utf8(lines[0], line, number)}.")
        if number == 1 and text.lstrip()[:1] in ("{", "["):
            raise StudyError(
                f"{path.name} is JSON: save it as a CSV, such as by pandas.read_json(FILE).to_csv(FILE, index=False)."
            )
        if number == 1 and "," not in text:
            for sign, name in ((";", "semicolons"), ("\t", "tabs")):
                if sign in text:
                    raise StudyError(
                        f"{path.name} parts its cells by {name}, and may write decimal commas: save it with commas "
                        f"between cells and decimal points, such as by pandas.read_csv(FILE, sep={sign!r}, decimal=',')"
                        ".to_csv(FILE, index=False)."
                    )
    return b"\n".join(lines).decode("utf-8-sig")


def _bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked where its name ends in .gz."""
    data = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path.name} cannot be unpacked: {error}; replace the file.") from None
