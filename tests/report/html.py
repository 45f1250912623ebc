"""Tables of a page, read back."""

import re

from IPython.display import HTML


def cells(table: HTML) -> list[list[str]]:
    """Return the text of a table's cells, row by row, its head first."""
    rows = re.findall(r"<tr>(.*?)</tr>", table.data)
    return [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def records(table: HTML) -> list[dict[str, str]]:
    """Return a table's rows by their headings."""
    head, *rows = cells(table)
    return [dict(zip(head, row, strict=True)) for row in rows]
