"""What pages show of models that exist beside the ladder."""

import pandas as pd
from IPython.display import HTML

from rankscale_utils.measurements.table import INTERPOLATED, OWN, on_headline_test

from . import tables


def systems_sentences(
    table: pd.DataFrame, metric: str, timed: pd.DataFrame | None = None, chosen: str | None = None
) -> list[str]:
    """Say, for every system on the headline test, what the ladder's largest rung is beside it.

    table: from `analysis.systems`; timed: from `evaluation.speed.measure_study`, where latencies are known;
    chosen: the test, as in `on_headline_test`.
    """
    if table.empty:
        return ["This study names no `systems`, models that exist, to be measured beside the ladder."]
    rows, beside = (
        on_headline_test(table[(table["metric"] == name) & (table["score"] == OWN)], chosen)
        for name in (metric, metric + INTERPOLATED)
    )
    together = {(row["system"], row["objective"]): row for row in beside.to_dict("records")}
    test = tables.test_of(rows) if len(rows) else ""
    return [
        _sentence(row, test) + _latencies(row, timed) + _together(together.get((row["system"], row["objective"])))
        for row in rows.to_dict("records")
    ]


def served_finding(table: pd.DataFrame, timed: pd.DataFrame) -> HTML:
    """Return `systems_sentences` of the metric that was timed, latencies and all; nothing without systems."""
    return tables.finding(*systems_sentences(table, timed["metric"].iloc[0], timed)) if len(table) else HTML("")


def _together(row: dict | None) -> str:
    """Say what both reach together with the first stage, where that was measured."""
    if row is None:
        return ""
    return (
        f" Together with the first stage {row['rung']} reaches {row['rung_value']:.4f} and {row['system']} "
        f"{row['value']:.4f}: {_apart(row)}."
    )


def _sentence(row: dict, test: str) -> str:
    forecast = (
        f", forecast to reach {row['forecast']:.4f} [{row['forecast_lo']:.4f}, {row['forecast_hi']:.4f}],"
        if pd.notna(row["forecast"])
        else ""
    )
    return (
        f"Train {row['rung']}, or take {row['system']} as it is? {row['rung']} with the {row['objective']} objective"
        f"{forecast} reached {row['metric']} {row['rung_value']:.4f} on {test}; {row['system']} reaches "
        f"{row['value']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}]: {_apart(row)}."
    )


def _apart(row: dict) -> str:
    """Say how far a rung is from a system, query by query."""
    difference, ends = row["difference"], (row["difference_lo"], row["difference_hi"])
    if min(ends) <= 0 <= max(ends):
        return (
            f"these queries do not tell the difference ({difference:+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}]) from none"
        )
    least, most = sorted(map(abs, ends))
    return f"the trained one has {abs(difference):.4f} [{least:.4f}, {most:.4f}] {'more' if difference > 0 else 'less'}"


def _latencies(row: dict, timed: pd.DataFrame | None) -> str:
    """Say how long both take, where both were timed."""
    if timed is None or timed.empty:
        return ""
    deepest = timed[(timed["depth"] == timed["depth"].max()) & timed["as_evaluated"]]
    trained = deepest[(deepest["rung"] == row["rung"]) & (deepest["objective"] == row["objective"])]
    system = deepest[deepest["name"] == row["system"]]
    if trained.empty or system.empty:
        return ""
    stored = ", whose embeddings of documents are stored" if system["bytes_per_document"].iloc[0] else ""
    return (
        f" A query's {deepest['depth'].iloc[0]} candidates take {trained['p50_ms'].iloc[0]:.3g} ms with the trained "
        f"one, {system['p50_ms'].iloc[0]:.3g} ms with {row['system']}{stored}."
    )


def systems_table(table: pd.DataFrame, metrics: list[str]) -> HTML:
    """Return every system beside the largest rung of every objective; nothing without systems.

    By these metrics, and by what is reached together with the first stage where that was measured.
    """
    if table.empty:
        return HTML("")
    rows = table[table["metric"].isin([*metrics, *(metric + INTERPOLATED for metric in metrics)])]
    return tables.styled(
        rows,
        system="system",
        family="family",
        params="parameters|,.0f",
        pair_tokens="tokens it reads|,.0f",
        cut="pairs that it cuts|.1%",
        **tables.collection_column(rows),
        metric="metric",
        value="measured|.4f",
        lo="from|.4f",
        hi="to|.4f",
        first_stage="first stage|.4f",
        over_first_stage="more than that|+.4f",
        over_first_stage_lo="from|+.4f",
        over_first_stage_hi="to|+.4f",
        objective="objective",
        rung="rung",
        forecast="forecast|.4f",
        rung_value="measured|.4f",
        difference="rung less system|+.4f",
        difference_lo="from|+.4f",
        difference_hi="to|+.4f",
        p_holm="p (Holm)|.3f",
    )
