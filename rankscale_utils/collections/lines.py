"""Lines of a user's file, each parsed or counted as one that cannot be used.

A file is refused once all of it was seen: nothing is skipped in silence, and the message names the first bad line.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.encoding import decode_utf8, instead_of_utf8

csv.field_size_limit(2**31 - 1)  # a document may be longer than Python's reader takes


def read_lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of every line that is not blank, or of all; .gz is unpacked.

    Raises:
        StudyError: the file cannot be read, or is no UTF-8.
    """
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    begin = b""
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, 1):
                begin = begin or line[:8]
                if (text := decode_utf8(line)) is None:
                    raise StudyError(f"{path.name} {instead_of_utf8(begin, line, number)}.")
                if blank or text.strip():
                    yield number, text.strip("\r\n")
    except (OSError, EOFError) as error:
        raise StudyError(f"{path} cannot be read: {error}; replace the file.") from None


def read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, cells) of every row of a CSV that has a cell; quoted ones may be of many lines.

    Raises:
        StudyError: the file cannot be read, is no UTF-8, or a quote is never closed.
    """
    rows = csv.reader((f"{text}\n" for _, text in read_lines(path, blank=True)), strict=True)
    before = 0
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield before + 1, cells
            before = rows.line_num
    except csv.Error as error:
        raise StudyError(f"{path.name}, line {before + 1}: {error}; correct the quotation marks.") from None


def parse_all(
    path: Path, numbered: Iterator[tuple[int, Any]], parse: Callable[[Any], Any], unit: str = "line"
) -> Iterator[Any]:
    """Yield what `parse` makes of every line or row, which it refuses by a ValueError.

    Raises:
        StudyError: lines cannot be used; it counts them and names the first.
    """
    bad, first = 0, ""
    for number, raw in numbered:
        try:
            parsed = parse(raw)
        except ValueError as error:
            bad, first = bad + 1, first or f"{unit} {number}: {error.args[0]}"
            continue
        yield parsed
    if bad:
        raise StudyError(
            f"{path.name} has {bad:,} {unit}{'s' * (bad > 1)} that cannot be used, the first {first}; correct or "
            f"remove {'them' if bad > 1 else 'it'}."
        )


def json_object(line: str) -> dict[str, Any]:
    """Return the fields of a line of JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        fields = json.loads(line, object_pairs_hook=_every_name_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg.lower()} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("JSON that nests lists or objects too deeply") from None
    if "\\ud" in line.lower() and any("\ud800" <= sign <= "\udfff" for sign in json.dumps(fields, ensure_ascii=False)):
        raise ValueError("JSON with half of a character (\\ud800 to \\udfff alone)")
    if not isinstance(fields, dict):
        raise ValueError("JSON, but no object with field names")
    return fields


def _every_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's fields, none of which stands twice, as the last one would win."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"JSON that has the field {next(name for name in names if names.count(name) > 1)!r} twice")
    return fields


def whole_number(name: str, value: Any) -> int:
    """Return a grade.

    Raises:
        ValueError: it is no whole number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        raise ValueError(f"{name} {value!r} is no whole number")
    return int(number)
