"""What the page on speed says, computed from its tables."""

from collections.abc import Sequence

import pandas as pd

from rankscale_utils.pareto import best_within


def speed(table: pd.DataFrame) -> str:
    """Say what the largest rung costs beside the smallest at the full depth, computed as the first system is."""
    rows = table[(table["depth"] == table["depth"].max()) & (table["name"] == table["name"].iloc[0])]
    small, large, metric = rows.iloc[0], rows.iloc[-1], table["metric"].iloc[0]
    return (
        f"{large['rung']} needs {large['p50_ms'] / small['p50_ms']:.1f} times {small['rung']}'s time for a query's "
        f"{large['depth']} candidates ({large['p50_ms']:.2f} against {small['p50_ms']:.2f} ms) and "
        f"{large['flops_per_pair'] / small['flops_per_pair']:.1f} times its FLOPs; {metric} is {large['value']:.4f} "
        f"against {small['value']:.4f}."
    )


def within(best: pd.DataFrame) -> str:
    """Say what ranks best within each latency budget; best: `pareto.best_within`."""
    if best.empty:
        return "No system is as fast as these budgets ask."
    metric = best["metric"].iloc[0]
    said = [
        f"within {row.budget_ms:g} ms a query {f'{row.name} {row.rung}'.strip()} at depth {row.depth}, {metric} "
        f"{row.value:.4f} [{row.lo:.4f}, {row.hi:.4f}]"
        for row in best.itertuples()
    ]
    return f"Best measured: {'; '.join(said)}."


def forecast_within(forecasts: pd.DataFrame, metric: str, budgets_ms: Sequence[float]) -> str:
    """Say what the laws forecast within each latency budget; forecasts: from `served_forecasts.forecast_served`."""
    if forecasts.empty:
        return f"Nothing is forecast here: no law of {metric} was fitted, or systems were timed at one size alone."
    best, level = best_within(forecasts, budgets_ms, "forecast"), forecasts["level"].iloc[0]
    if best.empty:
        return "No system would be as fast as these budgets ask."
    best = best.drop_duplicates(["name", "params_non_embedding"])  # a larger budget may buy no more
    said = [
        f"within {row.budget_ms:g} ms a query {row.name} of {float(f'{row.params_non_embedding:.2g}'):,.0f} parameters "
        f"({row.p50_ms:.2g} ms), {metric} {row.forecast:.4f} [{row.lo:.4f}, {row.hi:.4f}]"
        for row in best.itertuples(index=False)
    ]
    return (
        f"Best forecast of one new run at depth {best['depth'].iloc[0]}: {'; '.join(said)}. Parameters are those "
        f"outside the embeddings. Such {level:.0%} intervals of the held-out rungs held the truth in "
        f"{best['coverage'].mean():.0%} of simulated studies."
    )


def lengths(table: pd.DataFrame) -> str:
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


def slowest_columns(table: pd.DataFrame) -> dict[str, str]:
    """Return the headings of `beside_counts`' ratios to the slowest system, where there are several systems."""
    several = table["name"].nunique() > 1
    return {"faster": "× as fast as the slowest|,.1f", "faster_counted": "by FLOPs|,.1f"} if several else {}
