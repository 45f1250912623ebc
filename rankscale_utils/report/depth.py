"""What the page 6_speedup shows of depth: how many candidates to rerank, and whether to rerank at all."""

from collections.abc import Sequence

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.analysis.speedup import best_within_latency
from rankscale_utils.measurements.table import RERANK, on_headline_test

from . import figures, tables
from .prose import listed
from .speedup import BUDGETS_MS

RUNG = ["objective", "collection", "metric", "rung"]


def depth_sentences(table: pd.DataFrame) -> list[str]:
    """Say how deep each held-out rung was forecast to be best reranked, and was; of each test and objective."""
    rows = table[table["best_depth_forecast"].notna()]
    if rows.empty:
        return ["The law of depth needs three fitted rungs and three depths beyond 1: nothing is forecast of depth."]
    return [_of_rung(*rung) for rung in rows.groupby(RUNG, sort=False)]


def _of_rung(rung: tuple, rows: pd.DataFrame) -> str:
    objective, collection, metric, name = rung
    first, values = rows.iloc[0], rows.set_index("depth")["value"]
    lost = values.max() - values[first["best_depth_forecast"]]
    return (
        f"{objective} {name} on {collection}: best reranked to depth {first['best_depth_forecast']:.0f} by the law of "
        f"the fitted rungs [{first['best_depth_lo']:.0f}, {first['best_depth_hi']:.0f}], not sealed; "
        f"measured best at {first['best_depth']:.0f} of {values.index.max():.0f}. At the forecast depth {metric} is "
        f"{lost:.4f} below its best."
    )


def worth_sentences(table: pd.DataFrame) -> list[str]:
    """Say for which rungs reranking is worth it against the order as retrieved, a sentence a test and objective."""
    deepest = table[(table["depth"] == table["depth"].max()) & table["verdict"].notna()]
    return [
        f"Is reranking worth it? {objective} on {collection}: {_verdicts(metric, rows)}. Each half of the queries is "
        f"judged at the depth that the other half chose; at depth {rows['depth'].iloc[-1]} {rows['rung'].iloc[-1]} "
        f"gains {_ends(rows.iloc[-1], 'over_first')}.{_beside_fusion(rows)}"
        for (objective, collection, metric), rows in deepest.groupby(RUNG[:3], sort=False)
    ]


def _verdicts(metric: str, rows: pd.DataFrame) -> str:
    said = [
        f"{verdict} for {listed(mine['rung'])} ({mine['rung'].iloc[-1]} gains {_ends(mine.iloc[-1], 'worth')} {metric})"
        for verdict, mine in rows.groupby("verdict", sort=False)
    ]
    return "; ".join(said)


def _beside_fusion(rows: pd.DataFrame) -> str:
    """Say how reranking alone compares with the tuned fusion of model and first stage, after a blank; or nothing."""
    last = rows.iloc[-1]
    if pd.isna(last["over_fusion"]):
        return ""
    told = {"worth it": "better than", "not worth it": "no better than", "undecided": "undecided against"}
    return (
        f" Alone it is {told[last['fusion_verdict']]} the tuned interpolation with the first stage: "
        f"{_ends(last, 'over_fusion')}."
    )


def _ends(row: pd.Series, name: str) -> str:
    return f"{row[name]:+.4f} [{row[f'{name}_lo']:+.4f}, {row[f'{name}_hi']:+.4f}]"


def depth_within_sentence(
    table: pd.DataFrame, test: str | None = None, budgets_ms: Sequence[float] = BUDGETS_MS
) -> str:
    """Say which rung at which depth ranks best within each latency budget; test: as in `on_headline_test`."""
    rows = table[table["p50_ms"].notna()]
    rows = on_headline_test(rows.assign(task=RERANK), test)
    best = best_within_latency(rows, budgets_ms) if len(rows) else rows
    if best.empty:
        return "No rung was timed at two depths that these budgets reach."
    best = best.drop_duplicates(["objective", "rung", "depth"])  # a larger budget may buy no more
    said = [
        f"within {row.budget_ms:g} ms a query {row.objective} {row.rung} at depth {row.depth} ({row.p50_ms:.2g} ms), "
        f"{row.metric} {row.value:.4f}"
        for row in best.itertuples()
    ]
    test = best["collection"].iloc[0]
    return f"Best rung and depth on {test}: {'; '.join(said)}. Times between the depths that were timed lie on a line."


def quality_by_depth(table: pd.DataFrame) -> list[Axes]:
    """Quality against depth, a line a rung, a panel an objective and test; dashed with its band: what was forecast."""
    panels = []
    for (objective, collection, metric), rows in table.groupby(RUNG[:3], sort=False):
        axes = figures.panel(f"{objective}{figures.where(collection, table)}: depth", "candidates reranked", metric)
        ends, colours = [], figures.rung_colours(rows["rung"].unique())
        for rung, line in rows.groupby("rung", sort=False):
            axes.plot(line["depth"], line["value"], "o-", ms=3, lw=1.3, color=colours[rung])
            ends.append((line["depth"].iloc[-1], line["value"].iloc[-1], rung, colours[rung]))
            if line["forecast"].notna().all():
                figures.band(axes, line["depth"], line["forecast"], line["forecast_lo"], line["forecast_hi"],
                             figures.HELD_OUT, ls="--")  # fmt: skip
        figures.log_axis(axes)
        figures.label_ends(axes, ends)
        panels.append(axes)
    return panels


def depth_table(table: pd.DataFrame) -> HTML:
    """Return every rung's verdict: its best depth, measured and forecast, and what reranking gains."""
    rows = table.drop_duplicates(RUNG)
    return tables.styled(
        rows,
        objective="objective",
        **({"collection": "collection"} if rows["collection"].nunique() > 1 else {}),
        rung="rung",
        best_depth="best depth|.0f",
        best_depth_forecast="forecast|.0f",
        best_depth_lo="low|.0f",
        best_depth_hi="high|.0f",
        worth="over the first stage|+.4f",
        worth_lo="low|+.4f",
        worth_hi="high|+.4f",
        verdict="is it worth it?",
    )
