"""What the notebook 9_explore shows of single queries: which a larger rung gains or loses, and how both rank them."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Protocol

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.query_gains import measured_queries, query_gains
from rankscale_utils.analysis.significance import paired
from rankscale_utils.measurements.table import headline
from rankscale_utils.study.study import Study

from . import figures, tables
from .controls import ROW, WIDE, choice, controlled, line_of_code
from .lab import gallery

LISTED = 100  # queries at either end of the gains
SHOWN = 220  # letters of a document; the rest unfolds
MOVED = {1: "▲", -1: "▼"}
JUDGED = " font-weight: bold; border-left: 4px solid #029e73;"


class Query(Protocol):
    """A query with its documents: see `evaluation.read_query`."""

    query_id: str
    text: str
    documents: pd.DataFrame


class Rankings(Protocol):
    """A test of a study, opened to be read: see `evaluation.read_query`."""

    queries: pd.Series

    def read(self, query: str, rungs: Sequence[str], objective: str) -> Query:
        """Return a query with its documents as rungs rank them."""


def explore_queries(study: Study, open_rankings: Callable[[Study, str], Rankings]) -> widgets.Widget:
    """Return what queries gain from one rung to another, and any of them to be read as both rank its documents."""
    measured = measured_queries(study)
    rungs = list(measured.sort_values("params_non_embedding", kind="stable")["rung"].unique())
    first = headline(study, measured)
    controls = {
        "objective": choice("objective", list(measured["objective"].unique())),
        "metric": choice("metric", sorted(measured["metric"].unique(), key=lambda metric: metric != first)),
        "collection": choice("collection", list(measured["collection"].unique())),
        "smaller": choice("from", rungs),
        "larger": choice("to", rungs, value=rungs[-1]),
    }
    query = choice("query", [], layout=WIDE)

    def gained(**given: str) -> str:
        gains = query_gains(study, **given)
        texts = open_rankings(study, given["collection"]).queries
        _offer(query, listed_queries(gains, texts))
        sentence = gains_sentence(gains, given["smaller"], given["larger"])
        code = line_of_code(
            "query_gains", study, *(given[name] for name in ("smaller", "larger", "objective", "metric"))
        )
        return "".join([tables.finding(sentence).data, gallery([gains_figure(gains).figure]), code])

    def read(objective: str, collection: str, smaller: str, larger: str, query: str, **_: str) -> str:
        if query is None:
            return ""
        rungs = list(dict.fromkeys([smaller, larger]))
        found = open_rankings(study, collection).read(query, rungs, objective)
        return documents_table(found, rungs) + line_of_code("read_query", study, query, rungs, objective)

    several = [control for control in controls.values() if len(control.options) > 1]
    gains = controlled(controls, gained)
    reading = controlled(controls | {"query": query}, read)
    return widgets.VBox([widgets.HBox(several, layout=ROW), gains, query, reading])


def _offer(query: widgets.Dropdown, listed: list[tuple[str, str]]) -> None:
    """Let one of these queries be chosen: the one that was, where it is among them, or the first."""
    ids, before = [name for _, name in listed], query.value
    query.options = listed
    query.value = before if before in ids else ids[0]


def listed_queries(gains: pd.DataFrame, texts: pd.Series) -> list[tuple[str, str]]:
    """Return the queries of the largest losses and gains to choose from: what each gains and its text, and its id."""
    ends = gains if len(gains) <= 2 * LISTED else pd.concat([gains.head(LISTED), gains.tail(LISTED)])
    return [(f"{row.gain:+.3f}  {texts[row.query_id]}", row.query_id) for row in ends.itertuples()]


def gains_sentence(gains: pd.DataFrame, smaller: str, larger: str) -> str:
    """Say how many queries the larger rung ranks better and worse, and the mean with its interval over queries."""
    gain, mean = gains["gain"], paired(gains["gain"])
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    return (
        f"{larger} ranks {better} of {len(gains)} queries of {gains['collection'].iloc[0]} better than {smaller}, "
        f"{worse} worse and {len(gains) - better - worse} alike by {gains['metric'].iloc[0]}: a gain of "
        f"{mean['difference']:+.4f} [{mean['lo']:+.4f}, {mean['hi']:+.4f}] on average over queries."
    )


def gains_figure(gains: pd.DataFrame) -> Axes:
    """Draw what every query gains, from the worst loss to the best gain."""
    width, _ = figures.WIDE_PANEL
    axes = figures.panel("What queries gain", "queries, ordered", f"gain in {gains['metric'].iloc[0]}", 2.8, width)
    places = np.arange(len(gains)) + 1
    for side, colour in ((gains["gain"] < 0, figures.HELD_OUT), (gains["gain"] > 0, "#029e73")):
        axes.fill_between(places, 0, gains["gain"], where=side, color=colour, step="mid", lw=0, alpha=0.8)
    axes.axhline(0, color=figures.INK, lw=0.8, alpha=0.6)
    axes.set_xlim(0.5, len(gains) + 0.5)
    return axes


def documents_table(found: Query, rungs: Sequence[str]) -> str:
    """Return a query's documents by their rank under the last rung, and how far each rose from the first one's.

    Relevant ones are marked, and a document that nobody judged has a dash.
    """
    table = found.documents.sort_values(rungs[-1], kind="stable")
    heads = [escape(name) for name in ("first stage", *rungs, "moved", "judged")]
    head = "".join(_cell(name, kind="th") for name in heads) + _cell("document", "left", kind="th")
    body = "".join(_row(row, rungs) for row in table.to_dict("records"))
    return (
        f'<div class="{tables.NO_TEX}"><p><b>{escape(found.text)}</b> ({escape(found.query_id)})</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: dict[str, Any], rungs: Sequence[str]) -> str:
    rose = int(row[rungs[0]] - row[rungs[-1]])
    judged = "–" if pd.isna(row["judged"]) else "relevant" if row["judged"] > 0 else "not relevant"
    judged += f" ({row['judged']:g})" if pd.notna(row["judged"]) and row["judged"] > 1 else ""
    numbers = [row["first_stage"], *(row[rung] for rung in rungs)]
    cells = [f"{int(number)}" for number in numbers] + [f"{MOVED[np.sign(rose)]}{abs(rose)}" if rose else "", judged]
    mark = JUDGED if judged.startswith("relevant") else ""
    numbers = _cell(cells[0], how=mark) + "".join(map(_cell, cells[1:]))
    return f"<tr>{numbers}{_cell(_folded(row['text']), 'left')}</tr>"


def _cell(content: str, side: str = "right", how: str = "", kind: str = "td") -> str:
    style = f"text-align: {side}; vertical-align: top; white-space: normal;{how}"
    return f'<{kind} style="{style}">{content}</{kind}>'


def _folded(text: str) -> str:
    """Return a text's beginning, which unfolds to all of it."""
    if len(text) <= SHOWN:
        return escape(text)
    return f"<details><summary>{escape(text[:SHOWN])}…</summary>{escape(text[SHOWN:])}</details>"
