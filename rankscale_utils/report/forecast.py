"""What the page 4_forecast shows: sealed forecasts beside the truth and the baselines."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from rankscale_utils.analysis.fit import SERIES_COLUMNS
from rankscale_utils.analysis.forecast import average_forecasts, new_run_forecasts
from rankscale_utils.measurements.table import headline, labelled, on_headline_test
from rankscale_utils.study.study import Study

from . import figures, tables
from .prose import counted, models, other_seals

P0_BELOW = 0.25  # of a row, where P0's forecast stands below ours


def forecasting_sentence(study: Study, scored: pd.DataFrame) -> str:
    """Say how the headline forecasts did."""
    metric = headline(study, scored)
    rows = average_forecasts(on_headline_test(scored[scored["metric"] == metric], study.headline_test))
    sentences = [
        f"{row['objective']} {row['rung']}: forecast {row['forecast']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}], "
        f"measured {row['actual']:.4f}"
        for _, row in rows.iterrows()
    ]
    return (
        f"{metric} on {tables.test_of(rows)}: {'; '.join(sentences)}. {coverage_sentence(scored)}{other_seals(scored)}"
    )


def coverage_sentence(scored: pd.DataFrame) -> str:
    """Say how often the averages' intervals held the truth, beside how often they should have."""
    runs = average_forecasts(scored)
    runs = runs[runs["covered"].notna()]
    width = ((runs["hi"] - runs["lo"]) / runs["actual"]).median()
    held = runs["coverage"].mean()
    elsewhere = (
        f" (on public ladders of others: {100 * held:.0f} times in 100)" if held == held else ""
    )  # known for the usual level alone
    decisive = int((~runs["persistence"].between(runs["lo"], runs["hi"])).sum())
    return (
        f"On all metrics and tests, every new run fell inside its {runs['level'].iloc[0]:.0%} interval in "
        f"{counted(runs['hit'].sum(), len(runs), 'forecast')}, of {models(runs)}{elsewhere}; "
        f"the median interval is {width:.0%} of the value wide, and {counted(decisive, len(runs))} "
        "exclude “no change”, the largest fitted rung's value."
    )


SKILLS = {"skill": "of_no_change", "skill_to_p0": "of_p0"}  # each, and the mean error that it is a share of


def side_by_side(scored: pd.DataFrame) -> pd.DataFrame:
    """Return ours beside the baselines, a row a rung and law: mean errors, coverage, width, interval score."""
    runs = scored[(scored["kind"] == "new_run") & scored["actual"].notna()]
    runs = runs.assign(
        relative=runs["relative_error"].abs(),
        inside=runs["covered"].where(runs["lo"].notna()),
        width=(runs["hi"] - runs["lo"]) / runs["actual"],
        score=runs["interval_score"] / runs["actual"],
        of_no_change=((runs["persistence"] - runs["actual"]) / runs["actual"]).abs(),
    )
    of_p0 = runs[runs["law"] == "P0 size"].set_index([*SERIES_COLUMNS, "rung"])["relative"]
    runs = runs.join(of_p0.rename("of_p0"), on=of_p0.index.names)
    first = {"average": 0, "P0 size": 1, "P0 joint": 2, "no change": 3}
    runs = runs.assign(order=runs["law"].map(first).fillna(4)).sort_values(["params", "order"])
    table = runs.groupby(["rung", "law"], sort=False).agg(
        forecasts=("actual", "size"), relative=("relative", "mean"), bias=("relative_error", "mean"),
        inside=("inside", "mean"), width=("width", "median"), score=("score", "mean"),
        of_no_change=("of_no_change", "mean"), of_p0=("of_p0", "mean"))  # fmt: skip
    # Of mean errors: the mean of series' skills is that of the one whose baseline was right by luck.
    skills = {name: 1 - table["relative"] / table.pop(of) for name, of in SKILLS.items()}
    return table.assign(**skills).reset_index()


def beside_p0(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' scored forecasts with P0's: p0_forecast, p0_interval, p0_error, p0_hit."""
    keys = [*SERIES_COLUMNS, "rung"]
    theirs = new_run_forecasts(scored[scored["law"] == "P0 size"]).drop(columns="error")
    theirs = theirs.rename(columns={"relative_error": "error"})
    theirs = theirs.set_index(keys)[["forecast", "interval", "error", "hit"]].add_prefix("p0_")
    return average_forecasts(scored).merge(theirs, left_on=keys, right_index=True, how="left")


def baselines_table(scored: pd.DataFrame) -> HTML:
    """Return ours beside the baselines as a page shows them."""
    return tables.styled(
        side_by_side(scored),
        rung="rung",
        law="law",
        relative="mean error|.1%",
        bias="bias|+.1%",
        inside="inside|.0%",
        width="median width|.0%",
        score="interval score|.2f",
        skill="skill|+.2f",
        skill_to_p0="skill to P0|+.2f",
    )


def forecasts_table(scored: pd.DataFrame) -> HTML:
    """Return every scored forecast of one new run, with P0's beside it."""
    return tables.styled(
        beside_p0(scored),
        objective="objective",
        **tables.collection_column(scored),
        metric="metric",
        rung="rung",
        actual="measured|.4f",
        forecast="ours|.4f",
        relative_error="error|+.1%",
        interval="interval",
        hit="inside",
        p0_forecast="P0|.4f",
        p0_error="error|+.1%",
        p0_interval="interval",
        p0_hit="inside",
        coverage="on other ladders|.0%",
        past_coverage="in the past|.0%",
    )


def comparison_sentence(scored: pd.DataFrame) -> str:
    """Say how our errors compare with P0's protocol and with no change, rung by rung."""
    table = side_by_side(scored).set_index(["rung", "law"])["relative"]
    sentences = []
    for rung in table.index.get_level_values("rung").unique():
        ours, theirs, unchanged = (table.get((rung, law), float("nan")) for law in ("average", "P0 size", "no change"))
        sentences.append(
            f"{rung}, all metrics and tests: mean absolute error {ours:.1%} of the value, against {theirs:.1%} by P0's "
            f"protocol and {unchanged:.1%} by “no change”"
        )
    return "; ".join(sentences) + "."


def persistence_sentence(rows: pd.DataFrame) -> str:
    """Say how often “no change” was nearer to the truth than these forecasts."""
    nearer = int((rows["skill"] < 0).sum())
    return (
        f"“No change from the largest fitted rung” was nearer to the truth in "
        f"{counted(nearer, len(rows), 'forecast')} of {rows['metric'].iloc[0]} on {tables.test_of(rows)}."
    )


def multiverse_sentence(table: pd.DataFrame) -> str:
    """Say how far the forecast and the allocation exponent move with the analyst's choices."""
    if table.empty:
        return "The measurements allow no other analysis."
    sentences = []
    for objective, rows in table.groupby("objective", sort=False):
        low, high = rows.loc[rows["forecast"].idxmin()], rows.loc[rows["forecast"].idxmax()]
        exponent = rows["exponent"].dropna()
        favoured = ""
        if len(exponent):
            low_b, high_b = exponent.min(), exponent.max()
            favoured = f"; b, the share of growing compute that goes into data, from {low_b:.2f} to {high_b:.2f}"
        sentences.append(
            f"{objective}, {rows['rung'].iloc[0]}: {rows['metric'].iloc[0]} from {low['forecast']:.4f} "
            f"({low['choice']}: {low['option']}) to {high['forecast']:.4f} ({high['choice']}: {high['option']})"
            f"{favoured}"
        )
    return f"{len(table.drop_duplicates(['choice', 'option']))} analyses. {'; '.join(sentences)}."


def forecast_and_truth(scored: pd.DataFrame, metrics: Sequence[str]) -> list[Axes]:
    """Forecasts, intervals and the truth, a panel a metric and collection, a line an objective and rung.

    Thick bar: the law's mean; thin bar: one new run; dot: forecast; diamond: what was measured; bar tick: no change;
    cross, with its own interval: P0's size law.
    """
    scored = labelled(scored)
    rows = scored[scored["metric"].isin(metrics)]
    return [
        _truth_panel(f"{metric}{figures.where(collection, scored)}", series)
        for (metric, collection), series in rows.groupby(["metric", "collection"], sort=False)
    ]


def _truth_panel(title: str, rows: pd.DataFrame) -> Axes:
    axes = figures.panel(title, figures.unit(rows["metric"].iloc[0]), "")
    held_out = rows.groupby(["objective", "rung"], sort=False)
    for place, ((objective, _), forecasts) in enumerate(held_out):
        _draw_forecast(axes, place, forecasts, figures.colour_of(objective))
    axes.set_yticks(range(held_out.ngroups), [" ".join(name) for name, _ in held_out])
    axes.set_ylim(held_out.ngroups - 0.3, -0.7)  # from top to bottom, with room for P0's bar below the last
    axes.grid(visible=False, axis="y")
    axes.set_xlim(_frame(rows[rows["law"] == "average"]))
    _draw_first_stage(axes, rows)
    for place, (_, forecasts) in enumerate(held_out):
        _mark_cut_ends(axes, place + P0_BELOW, forecasts[forecasts["law"] == "P0 size"])
    return axes


def _draw_first_stage(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw what the first stage's own order scores, where it is known; the frame grows to hold it."""
    value = rows["first_stage"].max() if "first_stage" in rows else np.nan
    if np.isnan(value):
        return
    low, high = axes.get_xlim()
    air = 0.03 * (high - low)
    axes.set_xlim(min(low, value - air), max(high, value + air))
    axes.axvline(value, color=figures.INK, ls="--", lw=1, alpha=0.6)
    side, offset = ("left", 3) if value < sum(axes.get_xlim()) / 2 else ("right", -3)
    axes.annotate("first stage", (value, 1), (offset, 0), xycoords=("data", "axes fraction"),
                  textcoords="offset points", ha=side, va="top", alpha=0.8)  # fmt: skip


def _mark_cut_ends(axes: Axes, height: float, rows: pd.DataFrame) -> None:
    """Mark with an arrow where an interval leaves the frame."""
    low, high = axes.get_xlim()
    for end, beyond, marker in ((low, rows["lo"] < low, "<"), (high, ~(rows["hi"] <= high), ">")):
        if (beyond & rows["lo"].notna()).any():
            axes.plot(end, height, marker, color=figures.INK, ms=6, alpha=0.6, clip_on=False)


def _draw_forecast(axes: Axes, place: int, forecasts: pd.DataFrame, colour: str) -> None:
    """Draw one rung's forecasts, of the average and of P0, at their place on the y axis."""
    ours, p0 = forecasts[forecasts["law"] == "average"].set_index("kind"), forecasts[forecasts["law"] == "P0 size"]
    mean, new = ours.loc["mean_law"], ours.loc["new_run"]
    axes.plot(new[["lo", "hi"]], [place] * 2, color=colour, lw=1.2)
    axes.plot(mean[["lo", "hi"]], [place] * 2, color=colour, lw=5, alpha=0.45, solid_capstyle="butt")
    axes.plot(mean["forecast"], place, "o", color=colour, ms=5)
    axes.plot(p0[["lo", "hi"]].to_numpy().ravel(), [place + P0_BELOW] * 2, color=figures.INK, lw=1, alpha=0.6)
    axes.plot(p0["forecast"], [place + P0_BELOW], "x", color=figures.INK, ms=5, alpha=0.8)
    axes.plot(mean["persistence"], place, "|", color=figures.INK, ms=11, mew=1.4)
    axes.plot(mean["actual"], place, "D", color=figures.HELD_OUT, ms=6)


def _frame(ours: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold every forecast, interval and truth with some air."""
    values = ours[["forecast", "actual", "persistence", "lo", "hi"]].to_numpy(float)
    values = values[np.isfinite(values)]
    air = 0.06 * (values.max() - values.min() or 0.1)
    return values.min() - air, values.max() + air


def multiverse_figure(table: pd.DataFrame, scored: pd.DataFrame, test: str | None = None) -> list[Axes]:
    """The forecast and the allocation exponent under every analysis choice, choices on the axis.

    table: columns objective, metric, rung, choice, option, forecast, exponent. scored: the study's scored forecasts; of
    that rung's average on the headline test, the interval of one new run is the band, the truth a dashed line. A
    panel for each objective's forecast, and one for the exponents.
    """
    table = table.assign(label=table["choice"] + ": " + table["option"].astype(str))
    labels = list(table["label"].unique())
    sealed = average_forecasts(on_headline_test(scored[scored["rung"].isin(table["rung"])], test))
    panels = []
    for (objective, metric), rows in table.groupby(["objective", "metric"], sort=False):
        colour = figures.colour_of(objective)
        axes = _choices_panel(f"{objective} {rows['rung'].iloc[0]}", figures.unit(metric), labels)
        for forecast in sealed[(sealed["objective"] == objective) & (sealed["metric"] == metric)].itertuples():
            axes.axvspan(forecast.lo, forecast.hi, color=colour, alpha=figures.BAND, lw=0)
            axes.axvline(forecast.actual, color=figures.HELD_OUT, lw=1.4, ls="--")
        axes.plot(rows["forecast"], rows["label"].map(labels.index), "o", color=colour, ms=5)
        panels.append(axes)
    axes = _choices_panel("How the optimum grows", "b: optimal exposure grows as compute to the power b", labels)
    for objective, rows in table.groupby("objective", sort=False):
        colour = figures.colour_of(objective)
        axes.plot(rows["exponent"], rows["label"].map(labels.index), "o", color=colour, ms=5, label=objective)
    axes.axvline(0.5, color=figures.INK, lw=1, alpha=0.5)
    axes.legend()
    return [*panels, axes]


def _choices_panel(title: str, x: str, labels: list[str]) -> Axes:
    """Return a panel with a place on the y axis for every choice."""
    axes = figures.panel(title, x, "", height=4.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return axes


def significance_sentence(table: pd.DataFrame, alpha: float = 0.05) -> str:
    """Say on each collection how many steps up the ladder are significant after Holm's correction."""
    if table.empty:
        return (
            "Values of single queries were not measured here, so neighbouring rungs cannot be compared query by query."
        )
    metric, said = table["metric"].iloc[0], []
    for collection, rows in labelled(table).groupby("collection", sort=False):
        sure = rows["p_holm"] <= alpha
        better, worse = (int((sure & (rows["difference"] * side > 0)).sum()) for side in (1, -1))
        said.append(f"on {collection} {better} of {len(rows)} steps up the ladder raise it and {worse} lower it")
    return (
        f"{metric}: {'; '.join(said)} significantly (paired t-test over queries, Holm-corrected on each collection, "
        f"α = {alpha:g})."
    )


def significance_table(compared: pd.DataFrame) -> HTML:
    """Return `compare_study` as a page shows it."""
    return tables.styled(
        compared,
        objective="objective",
        **tables.collection_column(compared),
        smaller="from",
        larger="to",
        difference="difference|+.4f",
        lo="low|+.4f",
        hi="high|+.4f",
        p_holm="p|.2g",
    )
