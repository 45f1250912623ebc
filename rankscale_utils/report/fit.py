"""What the page 3_fit shows: which laws the fitted rungs follow, and what was sealed."""

import math
from collections.abc import Iterable

import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils import laws
from rankscale_utils.analysis.fit import SERIES_COLUMNS, Fitted
from rankscale_utils.analysis.forecast import average_forecasts

from . import figures


def choice_sentence(fitted: list[Fitted]) -> str:
    """Say which laws are averaged, and what decided it."""
    table = fitted[0].choice
    best, kept = table.iloc[0], table[table["kept"]]
    spread = (
        f"those within one standard error of {best['candidate']}"
        if best["observations"] > 1
        else "all of them, as one observation tells nothing apart"
    )
    return (
        f"{best['observations']} times a rung could be forecast from two or more smaller ones (once for each objective "
        f"and rung). The best candidate, {best['candidate']}, was wrong by {best['loss']:.1%} on average; averaged are "
        f"{spread}: {', '.join(kept['candidate'])}."
    )


def choice_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every candidate's past, the best first."""
    return fitted[0].choice.astype({"kept": object})


def noise_sentence(fitted: list[Fitted]) -> str:
    """Say on which scale metrics are fitted, and how even their noise is there."""
    rows = []
    for one in fitted:
        known = one.average.series
        ratios = [laws.unevenness(one.raw, known.rising, known.limits, scale) for scale in ("value", "gap")]
        rows.append((known.scale, *ratios) if known.rising else None)
    table = pd.DataFrame([row for row in rows if row], columns=["scale", "value", "gap"])
    if table.empty or table[["value", "gap"]].isna().any(axis=None):
        return (
            "All series are fitted on the logarithm of the gap to their known limit: runs have too few checkpoints to "
            "see on which scale noise is even."
        )
    gap = (table["scale"] == "gap").mean()
    return (
        f"The noisiest run's checkpoints scatter {table['value'].median():.1f} times as much as the quietest run's on "
        f"the metric's own scale and {table['gap'].median():.1f} times on the logarithm of the gap to the ceiling "
        f"(medians over rising series); {gap:.0%} of these series are fitted on the gap."
    )


def fits_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every averaged law's coefficients and status, a row a fit; NaN where a law has no such coefficient."""
    rows, absent = [], dict.fromkeys(("asymptote", "A", "alpha", "B", "beta"), math.nan)
    for one in fitted:
        for name, draws in one.laws.items():
            fit = draws.fit
            noise = {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
            facts = {"law": name, "scale": fit.scale, "status": fit.status, "runs": fit.runs, "r2": fit.r2}
            rows.append(one.labels | facts | absent | fit.coefficients | noise)
    return pd.DataFrame(rows)


def data_laws_table(fitted: list[Fitted]) -> pd.DataFrame:
    """Return every rung's data law, a row a fit."""
    rows = [
        one.labels | {"rung": rung, "status": fit.status, "r2": fit.r2} | fit.coefficients
        for one in fitted
        for rung, fit in one.data.items()
    ]
    return pd.DataFrame(rows)


def seal_sentence(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, when, on which data, and whether the truth could be known."""
    first = forecasts.iloc[0]
    known = (
        "The held-out measurements existed by then: the fits did not use them, and the seal shows only that the "
        "forecasts were not changed since."
        if first["truth_existed"]
        else "No held-out run had been trained by then."
    )
    return (
        f"{len(forecasts):,} forecasts were sealed at {first['sealed_at']}. {known} SHA-256 of the forecasts: "
        f"{first['sealed_sha256'][:16]}…, of the measurements: {first['data_sha256'][:16]}…."
    )


def sealed_sentence(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, as `seal` does, and how far intervals reach."""
    new = average_forecasts(forecasts).iloc[0]
    return (
        f"{seal_sentence(forecasts)} The {new['level']:.0%} intervals of one new run reach {new['reach']:.2f} standard "
        "errors to each side."
    )


def other_queries_sentence(forecasts: pd.DataFrame) -> str:
    """Say how much wider intervals are that must hold on other test queries of the same kind."""
    if "query_lo" not in forecasts:
        return "Values of single queries were not measured here, so intervals hold for these very test queries."
    rows = average_forecasts(forecasts)
    wider = (rows["query_hi"] - rows["query_lo"]) / (rows["hi"] - rows["lo"])
    return (
        "These intervals hold for these very test queries. Had other queries of the same kind been drawn, the same "
        f"for every model, they would be {wider.median():.2f} times as wide (median over forecasts; the most "
        f"{wider.max():.2f}), as the last column says."
    )


def query_columns(forecasts: pd.DataFrame) -> dict[str, str]:
    """Return the heading of the intervals on other queries, where there are any."""
    return {"query_interval": "on other queries"} if "query_lo" in forecasts else {}


def past_sentence(backtested: pd.DataFrame) -> str:
    """Say how forecasts made in this way fared within the fitted ladder."""
    if backtested.empty:
        return "The ladder has too few fitted rungs to forecast one of them from the others."
    runs = backtested[backtested["kind"] == "new_run"]
    return (
        f"Forecasting fitted rungs from smaller ones, {runs['covered'].mean():.0%} of {len(runs)} new-run intervals "
        f"held the truth; the median absolute error was {runs['error'].abs().median():.4f}."
    )


def by_size(table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame | None = None) -> list[Axes]:
    """A metric at the end of training against size, a panel an objective: runs, the average with its band, its laws.

    table: the fitted runs' rows at that exposure. curves: lines along size. held_out: the held-out runs' rows, absent
    where they have not been opened.
    """
    panels = []
    along = curves[curves["along"] == "size"]
    for _, lines in along.groupby(SERIES_COLUMNS, sort=False):
        objective, metric, title = figures.name_series(lines, along)
        axes, mine = (
            figures.panel(title, "non-embedding parameters", figures.unit(metric)),
            figures.rows_like(table, lines),
        )
        colour, styles = figures.colour_of(objective), iter(("--", ":", "-.") * 2)
        for law, line in lines.groupby("law", sort=False):
            if law == "average":
                axes.plot(line["params_non_embedding"], line["forecast"], color=colour, lw=1.6, label="average")
                axes.fill_between(
                    line["params_non_embedding"], line["lo"], line["hi"], color=colour, alpha=figures.BAND, lw=0
                )
            else:
                axes.plot(
                    line["params_non_embedding"], line["forecast"], next(styles), color=figures.INK, lw=0.9, label=law
                )
        axes.plot(
            mine["params_non_embedding"],
            mine["value"],
            "o",
            color=figures.colour_of(objective),
            ms=6,
            label="fitted runs",
        )
        shown = [mine["value"]]
        if held_out is not None:
            truth = figures.rows_like(held_out, lines)
            axes.plot(
                truth["params_non_embedding"], truth["value"], "D", color=figures.HELD_OUT, ms=6, label="held-out runs"
            )
            shown.append(truth["value"])
        figures.log_axis(axes)
        figures.frame(axes, pd.concat([*shown, lines["forecast"]]))
        axes.legend(loc="best")
        panels.append(axes)
    return panels


def by_exposure(table: pd.DataFrame, curves: pd.DataFrame, held_out_rungs: Iterable[str] = ()) -> list[Axes]:
    """A metric against exposure, a panel an objective: every rung's runs (mean over seeds) and its joint law.

    Held-out rungs are drawn dashed, the largest with its band; their dots appear where `table` holds them.
    """
    panels = []
    along = curves[curves["along"] == "exposure"]
    for _, lines in along.groupby(SERIES_COLUMNS, sort=False):
        _, metric, title = figures.name_series(lines, along)
        axes, mine = figures.panel(title, "training pairs seen", figures.unit(metric)), figures.rows_like(table, lines)
        rungs, ends = lines.sort_values("params_non_embedding")["rung"].unique(), []
        for rung, colour in figures.rung_colours(rungs).items():
            line, held = lines[lines["rung"] == rung], rung in held_out_rungs
            colour = figures.HELD_OUT if held else colour
            axes.plot(line["exposure"], line["forecast"], "--" if held else "-", color=colour, lw=1.4)
            if held and rung == rungs[-1]:
                axes.fill_between(line["exposure"], line["lo"], line["hi"], color=colour, alpha=figures.BAND, lw=0)
            dots = mine[mine["rung"] == rung].groupby("exposure")["value"].mean()
            axes.plot(dots.index, dots, "D" if held else "o", color=colour, ms=4.5)
            ends.append((line["exposure"].iloc[-1], line["forecast"].iloc[-1], rung, colour))
        figures.log_axis(axes)
        figures.frame(axes, pd.concat([mine["value"], lines["forecast"]]))
        figures.label_ends(axes, ends)
        panels.append(axes)
    return panels
