"""The tables of docs/models.md, which tests hold to what they find."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def table(*head: str) -> list[list[str]]:
    """Return the cells of the first table whose heading has these columns: a list a row, headings first."""
    tables = re.findall(r"(?:^\|.*\|\n)+", PAGE.read_text(), re.MULTILINE)
    read = [[[cell.strip() for cell in row.strip("|").split("|")] for row in lines.splitlines()] for lines in tables]
    found = next(rows for rows in read if set(head) <= set(rows[0]))
    return [found[0], *found[2:]]
