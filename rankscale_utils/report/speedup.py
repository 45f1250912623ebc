"""What the page 6_speedup shows: what the ladder's checkpoints cost to serve, and what the laws forecast for others."""

from collections.abc import Iterable, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.analysis.speedup import best_within_latency
from rankscale_utils.machine.device import hardware

from . import figures, tables

BUDGETS_MS = (2, 5, 10, 50)  # that sentences speak of


def speed_and_quality(table: pd.DataFrame) -> list[Axes]:
    """Quality against latency at every depth, and against throughput at the deepest, each with its Pareto front."""
    deepest = table[table["depth"] == table["depth"].max()]
    rates = deepest.assign(cost=-deepest["pairs_per_second"])
    throughput = figures.quality_against(rates, "throughput", "pairs scored a second", "pairs_per_second", "pairs")
    return [figures.quality_and_latency(table), throughput]


def forecast_and_latency(forecasts: pd.DataFrame, timed: pd.DataFrame, held_out: Iterable[str]) -> list[Axes]:
    """Forecasts by size against latency, a line with its band a system; dots are measured, diamonds held out.

    forecasts: from `analysis.speedup.forecast_served`; no figure where it has no rows. timed: the systems measured at
    that depth.
    """
    if forecasts.empty:
        return []
    metric, systems = forecasts["metric"].iloc[0], forecasts.groupby(["family", "name"], sort=False)
    axes = figures.panel(
        f"{metric} forecast", "median ms a query", metric, height=figures.PANEL[1] + 0.11 * systems.ngroups
    )
    for ((family, name), line), style in zip(systems, cycle(("-", "--", ":", "-.")), strict=False):
        colour, rows = figures.FAMILY_COLOURS[family], timed[timed["name"] == name]
        figures.band(axes, line["p50_ms"], line["forecast"], line["lo"], line["hi"], colour, ls=style, label=name)
        for (held, dots), marker in zip(rows.groupby(rows["rung"].isin(list(held_out))), "oD", strict=False):
            axes.plot(dots["p50_ms"], dots["value"], marker, color=figures.HELD_OUT if held else colour, ms=5)
    figures.frame(axes, pd.concat([forecasts["forecast"], timed["value"], forecasts[["lo", "hi"]].median()]))
    figures.log_axis(axes)
    figures.first_stage_line(axes, timed)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.figure.legend(loc="outside lower center", ncols=2)
    return [axes]


def latency_by_length(table: pd.DataFrame) -> Axes:
    """Latency against document length, a line a system with its lowest and highest repeat; from `fixed_lengths`."""
    axes = figures.panel("Latency by length", "tokens of a document", "median ms a query")
    styles, systems = cycle(("o-", "s--", "D:", "^-.")), table.groupby(["family", "name"], sort=False)
    for ((family, name), rows), style in zip(systems, styles, strict=False):
        spread = figures.bars(rows, "p50_ms", "p50_low", "p50_high")
        axes.errorbar(rows["document_tokens"], rows["p50_ms"], yerr=spread, fmt=style, ms=4, lw=1.2,
                      color=figures.FAMILY_COLOURS[family], label=name)  # fmt: skip
    for x in (True, False):
        figures.log_axis(axes, x=x)
    axes.set_xticks(lengths := table["document_tokens"].unique(), lengths)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes


def speed_sentence(table: pd.DataFrame) -> str:
    """Say what the largest rung costs beside the smallest at the full depth, computed as the first system is."""
    rows = table[(table["depth"] == table["depth"].max()) & (table["name"] == table["name"].iloc[0])]
    small, large = rows.iloc[0], rows.iloc[-1]
    metric = f"{table['metric'].iloc[0]} on {table['collection'].iloc[0]}"
    return (
        f"{large['rung']} ({large['name']}) needs {large['p50_ms'] / small['p50_ms']:.1f} times {small['rung']}'s time "
        f"for a query's {large['depth']} candidates ({large['p50_ms']:.2f} against {small['p50_ms']:.2f} ms) and "
        f"{large['flops_per_pair'] / small['flops_per_pair']:.1f} times its FLOPs; {metric} is "
        f"{large['value']:.4f} against {small['value']:.4f}."
    )


def within_sentence(table: pd.DataFrame, tokenisation: float = np.nan, budgets_ms: Sequence[float] = BUDGETS_MS) -> str:
    """Say what ranks best within each latency budget, or that nothing ranks above the first stage's own order.

    table: from `evaluation.speed.measure_study`; tokenisation: milliseconds a query, which its times leave out.
    """
    models = table[table["family"] != "bm25"]  # what is timed of the first stage needs no reranking
    best = best_within_latency(models, budgets_ms)
    if best.empty:
        return "No system is as fast as these budgets ask."
    metric, first_stage = best["metric"].iloc[0], table["first_stage"].iloc[0]
    test = table["collection"].iloc[0]
    further = "" if np.isnan(tokenisation) else f" Tokenisation comes on top: {tokenisation:.2g} ms a query."
    nothing = f"the first stage's own order, which needs no reranking, scores {metric} {first_stage:.4f} on {test}"
    if not (best["value"] > first_stage).any():
        top = best.loc[best["value"].idxmax()]
        system = f"{top['name']} {top['rung']}".strip()
        return (
            f"Rerank with none of these: {nothing}, the best within {top['budget_ms']:g} ms, {system} at depth "
            f"{top['depth']}, {top['value']:.4f}.{further}"
        )
    best = best[best["value"] > first_stage]
    said = [
        f"within {row.budget_ms:g} ms a query {f'{row.name} {row.rung}'.strip()} at depth {row.depth}, {metric} "
        f"{row.value:.4f} [{row.lo:.4f}, {row.hi:.4f}]"
        for row in best.itertuples()
    ]
    return f"Best measured: {'; '.join(said)}; {nothing}.{further}"


def forecast_within_sentence(forecasts: pd.DataFrame, metric: str, budgets_ms: Sequence[float] = BUDGETS_MS) -> str:
    """Say what the laws forecast within each latency budget; forecasts: from `analysis.speedup.forecast_served`."""
    if forecasts.empty:
        return f"Nothing is forecast here: no law of {metric} was fitted, or systems were timed at one size alone."
    best, level = best_within_latency(forecasts, budgets_ms, "forecast"), forecasts["level"].iloc[0]
    if best.empty:
        return "No system would be as fast as these budgets ask."
    best = best.drop_duplicates(["name", "params_non_embedding"])  # a larger budget may buy no more
    said = [
        f"within {row.budget_ms:g} ms a query {row.name} of {float(f'{row.params_non_embedding:.2g}'):,.0f} parameters "
        f"({row.p50_ms:.2g} ms), {metric} {row.forecast:.4f} [{row.lo:.4f}, {row.hi:.4f}]"
        for row in best.itertuples(index=False)
    ]
    held = best["coverage"].mean()
    elsewhere = f" Such {level:.0%} intervals held the truth in {held:.0%} of forecasts on public ladders of others."
    return (
        f"Best forecast of one new run at depth {best['depth'].iloc[0]}: {'; '.join(said)}. Parameters are those "
        f"outside the embeddings.{elsewhere if held == held else ''}"
    )


def lengths_sentence(table: pd.DataFrame) -> str:
    """Say how far systems lie apart on the longest documents, by the clock and by count; table: `beside_counts`."""
    short, long = table["document_tokens"].agg(["min", "max"])
    last = table[table["document_tokens"] == long].sort_values("p50_ms", ascending=False)
    slowest, *others = last.itertuples(index=False)
    said = (
        f"{slowest.name} needs {slowest.p50_ms:,.1f} ms for a query's {slowest.depth} documents of {long} tokens, "
        f"{slowest.grown:,.1f} times as long as for {short} tokens (by FLOPs {slowest.grown_counted:,.1f} times)."
    )
    if not others:
        return said
    faster = [f"{row.name} {row.faster:,.1f} ({row.faster_counted:,.1f})" for row in others]
    return f"{said} So many times as fast, and in brackets by FLOPs: {'; '.join(faster)}."


def systems_table(table: pd.DataFrame) -> HTML:
    """Return latency, throughput and quality of every system, rung and depth; first what no reranking scores."""
    first_stage = {"name": "first stage's own order", "rung": "", "value": table["first_stage"].iloc[0]}
    return tables.styled(
        pd.concat([pd.DataFrame([first_stage]), table], ignore_index=True),
        name="system",
        rung="rung",
        depth="depth|.0f",
        p50_ms="p50 ms|.2f",
        p50_low="lowest|.2f",
        p50_high="highest|.2f",
        p95_ms="p95 ms|.2f",
        pairs_per_second="pairs/s|,.0f",
        batch="best batch|.0f",
        flops_per_pair="FLOPs a pair|,.0f",
        bytes_per_document="bytes stored a document|,.0f",
        value="quality|.4f",
        lo="from|.4f",
        hi="to|.4f",
        over_first_stage="over first stage|+.4f",
        over_first_stage_lo="from|+.4f",
        over_first_stage_hi="to|+.4f",
        repeats="repeats|.0f",
    )


def lengths_table(table: pd.DataFrame) -> HTML:
    """Return `beside_counts` as a page shows it, ratios to the slowest system where there are several."""
    slowest = {"faster": "× as fast as the slowest|,.1f", "faster_counted": "by FLOPs|,.1f"}
    return tables.styled(
        table,
        name="system",
        document_tokens="tokens|d",
        p50_ms="p50 ms|.2f",
        **(slowest if table["name"].nunique() > 1 else {}),
        grown="× the shortest|,.1f",
        grown_counted="by FLOPs|,.1f",
        p50_low="lowest ms|.2f",
        p50_high="highest ms|.2f",
        flops_per_pair="FLOPs a pair|,.0f",
        bytes_per_document="bytes stored a document|,.0f",
        repeats="repeats|d",
    )


def machine_table(table: pd.DataFrame, tokenisation_ms: float) -> HTML:
    """Return what was timed on: hardware and precision, and what tokenisation, left out of the times, would add."""
    precision, tokenisation = ", ".join(table["dtype"].unique()), f"{tokenisation_ms:.2f} ms a query"
    return tables.facts(**hardware(), precision=precision, tokenisation=tokenisation)
