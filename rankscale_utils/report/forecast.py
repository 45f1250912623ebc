"""What the page 4_forecast shows: sealed forecasts beside the truth and the baselines."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.fit import SERIES_COLUMNS
from rankscale_utils.analysis.forecast import average_forecasts, new_run_forecasts
from rankscale_utils.measurements.table import first_collection, headline, labelled
from rankscale_utils.study.study import Study

from . import allocate as allocate_page
from . import figures


def forecasting_sentence(study: Study, scored: pd.DataFrame) -> str:
    """Say how the headline forecasts did."""
    metric = headline(study, scored)
    rows = average_forecasts(first_collection(scored[scored["metric"] == metric]))
    sentences = [
        f"{row['objective']} {row['rung']}: forecast {row['forecast']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}], "
        f"measured {row['actual']:.4f}"
        for _, row in rows.iterrows()
    ]
    return f"{metric}: {'; '.join(sentences)}. {coverage_sentence(scored)}"


def coverage_sentence(scored: pd.DataFrame) -> str:
    """Say how often the averages' intervals held the truth, beside how often they should have."""
    runs = average_forecasts(scored)
    runs = runs[runs["covered"].notna()]
    width = ((runs["hi"] - runs["lo"]) / runs["actual"]).median()
    return (
        f"Of all {len(runs)} forecasts, {runs['covered'].mean():.0%} of the new runs fell inside their "
        f"{runs['level'].iloc[0]:.0%} interval (in simulated studies of this design: {runs['coverage'].mean():.0%}); "
        f"the median interval is {width:.0%} of the value wide."
    )


def side_by_side(scored: pd.DataFrame) -> pd.DataFrame:
    """Return ours beside the baselines, a row a rung and law: mean errors, coverage, width, interval score."""
    runs = scored[(scored["kind"] == "new_run") & scored["actual"].notna()]
    runs = runs.assign(
        relative=runs["relative_error"].abs(),
        inside=runs["covered"].where(runs["lo"].notna()),
        width=(runs["hi"] - runs["lo"]) / runs["actual"],
        score=runs["interval_score"] / runs["actual"],
    )
    first = {"average": 0, "P0 size": 1, "P0 joint": 2, "no change": 3}
    runs = runs.assign(order=runs["law"].map(first).fillna(4)).sort_values(["params", "order"])
    table = runs.groupby(["rung", "law"], sort=False).agg(
        forecasts=("actual", "size"), relative=("relative", "mean"), bias=("relative_error", "mean"),
        inside=("inside", "mean"), width=("width", "median"), score=("score", "mean"), skill=("skill", "mean"),
        skill_to_p0=("skill_to_p0", "mean"))  # fmt: skip
    return table.reset_index()


def beside_p0(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' scored forecasts with P0's: p0_forecast, p0_interval, p0_error, p0_hit."""
    keys = [*SERIES_COLUMNS, "rung"]
    theirs = new_run_forecasts(scored[scored["law"] == "P0 size"]).drop(columns="error")
    theirs = theirs.rename(columns={"relative_error": "error"})
    theirs = theirs.set_index(keys)[["forecast", "interval", "error", "hit"]].add_prefix("p0_")
    return average_forecasts(scored).merge(theirs, left_on=keys, right_index=True, how="left")


def comparison_sentence(scored: pd.DataFrame) -> str:
    """Say how our errors compare with P0's protocol and with no change, rung by rung."""
    table = side_by_side(scored).set_index(["rung", "law"])["relative"]
    sentences = []
    for rung in table.index.get_level_values("rung").unique():
        ours, theirs, unchanged = (table.get((rung, law), float("nan")) for law in ("average", "P0 size", "no change"))
        sentences.append(
            f"{rung}: mean absolute error {ours:.1%} of the value, against {theirs:.1%} by P0's protocol and "
            f"{unchanged:.1%} by “no change”"
        )
    return "; ".join(sentences) + "."


def opening_sentences(study: Study, scored: pd.DataFrame, exponents: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Return the sentences that a study's first page opens with: forecast, truth, and how to spend the budget."""
    metric = headline(study, scored)
    rows = average_forecasts(first_collection(scored[scored["metric"] == metric]))
    sentences = [
        f"{row['rung']} with the {row['objective']} objective was forecast to reach {metric} {row['forecast']:.4f} "
        f"[{row['lo']:.4f}, {row['hi']:.4f}]; it reached {row['actual']:.4f}, "
        f"{'inside' if row['hit'] else 'outside'} the interval."
        for _, row in rows.iterrows()
    ]
    audit = f"{coverage_sentence(scored)} {comparison_sentence(scored)} {persistence_sentence(rows)}"
    return [*sentences, audit, allocate_page.allocation_sentence(study, exponents, compared)]


def persistence_sentence(rows: pd.DataFrame) -> str:
    """Say how often “no change” was nearer to the truth than these forecasts."""
    nearer = int((rows["skill"] < 0).sum())
    return (
        f"“No change from the largest fitted rung” was nearer to the truth in {nearer} of the {len(rows)} forecasts of "
        f"{rows['metric'].iloc[0]}."
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
            side = (
                "size" if exponent.min() > 0.5 else "data" if exponent.max() < 0.5 else "size in some, data in others"
            )
            favoured = f"; more compute favours {side} (a from {exponent.min():.2f} to {exponent.max():.2f})"
        sentences.append(
            f"{objective}, {rows['rung'].iloc[0]}: {rows['metric'].iloc[0]} from {low['forecast']:.4f} "
            f"({low['choice']}: {low['option']}) to {high['forecast']:.4f} ({high['choice']}: {high['option']})"
            f"{favoured}"
        )
    return f"{len(table.drop_duplicates(['choice', 'option']))} analyses. {'; '.join(sentences)}."


def forecast_and_truth(scored: pd.DataFrame) -> list[Axes]:
    """Forecasts, intervals and the truth, a panel a metric and collection, a line an objective and rung.

    Thick bar: the law's mean; thin bar: one new run; dot: forecast; diamond: what was measured; bar tick: no change;
    cross, with its own interval: P0's size law.
    """
    panels, scored = [], labelled(scored)
    for (metric, collection), rows in scored.groupby(["metric", "collection"], sort=False):
        names = rows[["objective", "rung"]].drop_duplicates().itertuples(index=False)
        axes = figures.panel(
            f"{metric}{figures.where(collection, scored)}: forecast and truth", figures.unit(metric), ""
        )
        labels = []
        for place, name in enumerate(names):
            mine = rows[(rows[["objective", "rung"]] == name).all(axis=1)]
            ours, theirs = mine[mine["law"] == "average"].set_index("kind"), mine[mine["law"] == "P0 size"]
            mean, new, colour = ours.loc["mean_law"], ours.loc["new_run"], figures.colour_of(name.objective)
            axes.plot([new["lo"], new["hi"]], [place, place], color=colour, lw=1.2)
            axes.plot([mean["lo"], mean["hi"]], [place, place], color=colour, lw=5, alpha=0.45, solid_capstyle="butt")
            axes.plot(mean["forecast"], place, "o", color=colour, ms=5)
            axes.plot(theirs[["lo", "hi"]].to_numpy().ravel(), [place + 0.25] * 2, color=figures.INK, lw=1, alpha=0.6)
            axes.plot(theirs["forecast"], [place + 0.25], "x", color=figures.INK, ms=5, alpha=0.8)
            axes.plot(mean["persistence"], place, "|", color=figures.INK, ms=11, mew=1.4)
            axes.plot(mean["actual"], place, "D", color=figures.HELD_OUT, ms=6)
            labels.append(f"{name.objective} {name.rung}")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.3, -0.7)  # from top to bottom, with room for P0's bar below the last
        axes.grid(visible=False, axis="y")
        shown = rows[rows["law"] == "average"]
        centre = shown[["forecast", "actual", "persistence"]].to_numpy()
        reach = max((np.nanmax(centre) - np.nanmin(centre)) * 1.2, (shown["hi"] - shown["lo"]).median() * 0.6)
        axes.set_xlim(np.nanmin(centre) - reach, np.nanmax(centre) + reach)
        panels.append(axes)
    return panels


def multiverse_figure(table: pd.DataFrame, forecasts: pd.DataFrame) -> list[Axes]:
    """The forecast and the allocation exponent under every analysis choice, choices on the axis.

    table: columns objective, metric, choice, option, forecast, exponent. forecasts: scored averages of one new run of
    the same rung; their interval is the band, a diamond line the truth. A panel for each objective's forecast, and one
    for the exponents.
    """
    choices = table[["choice", "option"]].drop_duplicates()
    labels = [f"{row.choice}: {row.option}" for row in choices.itertuples()]
    places = {label: place for place, label in enumerate(labels)}
    panels = []
    for (objective, metric), rows in table.groupby(["objective", "metric"], sort=False):
        axes = figures.panel(f"{objective} {rows['rung'].iloc[0]}", figures.unit(metric), "", height=4.6)
        ours = forecasts[(forecasts["objective"] == objective) & (forecasts["metric"] == metric)]
        for _, one in ours.iterrows():
            axes.axvspan(one["lo"], one["hi"], color=figures.colour_of(objective), alpha=figures.BAND, lw=0)
            axes.axvline(one["actual"], color=figures.HELD_OUT, lw=1.4, ls="--")
        at = [places[f"{row.choice}: {row.option}"] for row in rows.itertuples()]
        axes.plot(rows["forecast"], at, "o", color=figures.colour_of(objective), ms=5)
        _choices_axis(axes, labels)
        panels.append(axes)
    axes = figures.panel("How the optimum grows", "a: optimal size grows as compute to the power a", "", height=4.6)
    for objective, rows in table.groupby("objective", sort=False):
        at = [places[f"{row.choice}: {row.option}"] for row in rows.itertuples()]
        axes.plot(rows["exponent"], at, "o", color=figures.colour_of(objective), ms=5, label=objective)
    axes.axvline(0.5, color=figures.INK, lw=1, alpha=0.5)
    _choices_axis(axes, labels)
    axes.legend()
    return [*panels, axes]


def _choices_axis(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


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
