"""Tables and findings as pages show them."""

from collections.abc import Mapping
from html import escape

import pandas as pd
from IPython.display import HTML

from rankscale_utils.measurements.table import labelled

from .prose import legible, si, written

LONG = 40  # characters of a cell, from which on its lines have room
_TEXT, _LONG = ' class="text"', ' class="text long"'
NO_TEX = "tex2jax_ignore mathjax_ignore"  # in JupyterLab dollars would begin formulas


def collection_column(table: pd.DataFrame) -> dict[str, str]:
    """Return the heading of the collection, where a table holds several."""
    return {"collection": "collection"} if len(table) and labelled(table)["collection"].nunique() > 1 else {}


def test_of(rows: pd.DataFrame) -> str:
    """Return the test that the first of some rows is of, as people tell tests apart."""
    return labelled(rows.iloc[:1])["collection"].iloc[0]


def styled(table: pd.DataFrame, **columns: str) -> HTML:
    """Return the table with only the columns named; each value is a heading, then `|` and a format: `N="params|,.0f"`.

    A column without a format is text; `si` is a number people read at a glance, 38k. Absent values become a dash.
    Collections and metrics are `labelled`.
    """
    heads = {name: spec.partition("|") for name, spec in columns.items()}
    head = "".join(f"<th{'' if form else _TEXT}>{escape(title)}</th>" for title, _, form in heads.values())
    body = "".join(
        "<tr>" + "".join(_cell(row[name], form) for name, (_, _, form) in heads.items()) + "</tr>"
        for row in labelled(table).to_dict("records")
    )
    return HTML(f"<table class='{NO_TEX}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _cell(value: object, form: str) -> str:
    if isinstance(value, bool):
        return f'<td class="{"hit" if value else "miss"}">{"yes" if value else "no"}</td>'
    if pd.isna(value):
        return "<td>–</td>"
    if not form:
        return f"<td{_LONG if len(str(value)) > LONG else _TEXT}>{escape(legible(str(value)))}</td>"
    said = si(value) if form == "si" else value if isinstance(value, str) else written(value, form)
    return f"<td>{escape(legible(said))}</td>"


def facts(**values: object) -> HTML:
    """Return names and values as a small table of two columns; underscores in names become spaces."""
    rows = "".join(
        f'<tr><td>{escape(name.replace("_", " "))}</td><td class="text">{escape(legible(str(value)))}</td></tr>'
        for name, value in values.items()
    )
    return HTML(f"<table class='{NO_TEX}'>{rows}</table>")


def contract_tables(by_test: Mapping[str, Mapping[str, str]]) -> HTML:
    """Return what each test's numbers mean, under the test's name where there are several."""
    several = len(by_test) > 1
    parts = [(f"<h3>{escape(name)}</h3>" if several else "") + facts(**said).data for name, said in by_test.items()]
    return HTML(f'<div class="contract">{"".join(parts)}</div>')


def finding(*sentences: str) -> HTML:
    """Return sentences computed from data, set apart from the prose, a paragraph each; nothing where there are none."""
    paragraphs = "".join(f"<p>{escape(legible(sentence))}</p>" for sentence in sentences)
    return HTML(f'<div class="finding {NO_TEX}">{paragraphs}</div>' if sentences else "")
