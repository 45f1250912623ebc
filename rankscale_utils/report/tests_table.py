"""Every rung on every test as one table, beside the order as retrieved and a random one."""

from html import escape

import pandas as pd
from IPython.display import HTML

from rankscale_utils.measurements.table import labelled

from .prose import legible

KEYS = ["collection", "objective"]
SIDES = {"first_stage": ("first stage", "over_first_stage"), "random_order": ("random order", "over_random")}


def tests_table(on_tests: pd.DataFrame) -> HTML:
    """Return a row a test and objective, a column a rung; below each value how far it is from other orders.

    on_tests: from `analysis.on_tests`. Coloured is what the whole paired interval tells.
    """
    if on_tests.empty:
        return HTML("")
    table = labelled(on_tests)
    rungs = list(table.sort_values("params_non_embedding", kind="stable")["rung"].unique())
    others = {name: words for name, (words, _) in SIDES.items() if table[name].notna().any()}
    heads = ["test", "objective", *others.values(), *rungs]
    text = {"test", "objective"}
    head = "".join(f"<th{' class=text' if name in text else ''}>{escape(name)}</th>" for name in heads)
    body = "".join(
        _row(key, rows.set_index("rung"), rungs, list(others))
        for _, of_test in table.groupby("collection", sort=False)
        for key, rows in of_test.groupby(KEYS, sort=False)
    )
    return HTML(f"<table class='on-tests'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _row(key: tuple[str, str], rows: pd.DataFrame, rungs: list[str], others: list[str]) -> str:
    names = "".join(f"<td class='text'>{escape(name)}</td>" for name in key)
    limits = "".join(f"<td>{legible(format(rows[name].iloc[0], '.4f'))}</td>" for name in others)
    cells = "".join(_cell(rows.loc[rung], others) if rung in rows.index else "<td>–</td>" for rung in rungs)
    return f"<tr>{names}{limits}{cells}</tr>"


def _cell(row: pd.Series, others: list[str]) -> str:
    apart = "".join(_apart(row, *SIDES[name]) for name in others if pd.notna(row[name]))
    return f"<td><b>{row['value']:.4f}</b>{apart}</td>"


def _apart(row: pd.Series, words: str, over: str) -> str:
    """Return how far a value is from another order's, and what its interval tells."""
    low, high = row.get(f"{over}_lo"), row.get(f"{over}_hi")
    if pd.isna(low):
        return f'<small title="to the {words}">{row[over]:+.3f}</small>'
    kind = "hit" if low > 0 else "miss" if high < 0 else ""
    mark = {"hit": "▲", "miss": "▼", "": "○"}[kind]
    return (
        f'<small class="{kind}" title="to the {words}, paired 95% interval">{mark} {row[over]:+.3f} '
        f"[{low:+.3f}, {high:+.3f}]</small>"
    )
