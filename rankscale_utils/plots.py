"""Every figure of the reports: each function takes tidy tables and returns matplotlib axes, one figure an objective.

Panels are figures of their own, so that a page lays them side by side on a desk and one below the other on a phone.
"""

from collections.abc import Iterable
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats

from rankscale_utils.allocations import budgets, isoflop_tables, units
from rankscale_utils.family_comparison import NAMES, Options
from rankscale_utils.fits import SERIES, Fitted, of_front
from rankscale_utils.laws import Cost
from rankscale_utils.measurements import headline, rising
from rankscale_utils.pareto import pareto_front
from rankscale_utils.study import Study

INK = "#1c2128"  # reports replace exactly this colour by the page's ink
HELD_OUT = "#d1495b"
BAND = 0.18
COLOURS = dict(zip(("pointwise", "pairwise", "listwise"), sns.color_palette("colorblind").as_hex(), strict=False))
FAMILIES = dict(zip(("cross_encoder", "bi_encoder", "ed2lm", "bm25"), sns.color_palette("deep").as_hex(), strict=False))
PANEL = (4.7, 3.5)


def use_style() -> None:
    """Set the one figure style: SVG with real text, transparent ground, ink that follows the page."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    quiet = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.12}
    ground = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"}
    text = {"font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.titleweight": "bold"}
    svg = {"svg.fonttype": "none", "svg.hashsalt": "rankscale", "legend.frameon": False, "legend.fontsize": 9}
    sns.set_theme(context="paper", style="ticks", rc=dict.fromkeys(ink, INK) | quiet | ground | text | svg)
    set_matplotlib_formats("svg")


def panel(title: str, x: str, y: str, height: float = PANEL[1]) -> Axes:
    """Return the axes of a new panel with its title and axis labels (quantity and unit)."""
    _, axes = plt.subplots(figsize=(PANEL[0], height), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    return axes


def colour_of(objective: str) -> str:
    """Return an objective's colour, the same in every figure."""
    return COLOURS.get(objective, sns.color_palette("colorblind").as_hex()[3])


def rung_colours(rungs: Iterable[str]) -> dict[str, str]:
    """Return a colour a rung, in order of size, readable on light and on dark ground."""
    rungs = list(rungs)
    places = np.linspace(0.28, 0.82, len(rungs)) if len(rungs) > 1 else [0.5]
    return {rung: to_hex(plt.get_cmap("plasma")(place)) for rung, place in zip(rungs, places, strict=True)}


def log_axis(axes: Axes, *, x: bool = True) -> None:
    """Make an axis logarithmic, with ticks that people read at a glance: 20k, 50k, 100k."""
    axes.set_xscale("log") if x else axes.set_yscale("log")
    axis = axes.xaxis if x else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 60 else (1,), numticks=8))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name at its end, moved apart where they would overlap. ends: x, y, name, colour."""
    low, high = axes.get_ylim()
    gap, above = 0.06 * (high - low), -np.inf
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        above = max(y, above + gap)
        axes.annotate(name, (x, above), (5, 0), textcoords="offset points", color=colour, va="center", fontsize=9,
                      annotation_clip=False)  # fmt: skip


def loss_curve(ledger: dict) -> Axes:
    """Training loss of the trunk (means of 20 steps) against training pairs; dots are the cooled-down checkpoints."""
    axes = panel("Training loss", "training pairs seen", f"{ledger['objective']} loss, nats")
    curve, checkpoints = ledger["curve"], pd.DataFrame(ledger["checkpoints"])
    colour = colour_of(ledger["objective"])
    axes.plot(curve["pairs"], curve["loss"], color=colour, lw=1, alpha=0.6)
    axes.plot(checkpoints["exposure"], checkpoints["loss"], "o", color=colour, ms=5, label="cool-down to a checkpoint")
    log_axis(axes)
    axes.legend()
    return axes


def run_by_exposure(table: pd.DataFrame, metrics: Iterable[str]) -> list[Axes]:
    """One run's metrics against exposure, with the first stage's value and the candidates' ceiling, a panel each."""
    panels = []
    shown = table[table["metric"].isin(list(metrics))].sort_values("exposure", kind="stable")
    for (metric, collection), rows in shown.groupby(["metric", "collection"], sort=False):
        axes = panel(metric + where(collection, table), "training pairs seen", unit(metric))
        axes.plot(rows["exposure"], rows["value"], "o-", color=colour_of(rows["objective"].iloc[0]), ms=5)
        log_axis(axes)
        for name, style in (("ceiling", ":"), ("first_stage", "--")):
            value = rows[name].iloc[0]
            if pd.notna(value):
                axes.axhline(value, color=INK, ls=style, lw=1, alpha=0.6)
                axes.annotate(name.replace("_", " "), (1, value), (-2, 2), xycoords=("axes fraction", "data"),
                              textcoords="offset points", ha="right", fontsize=8, alpha=0.8)  # fmt: skip
        panels.append(axes)
    return panels


def where(collection: str, table: pd.DataFrame) -> str:
    """Return what a title adds where a table holds several collections."""
    return f" on {collection}" if table["collection"].nunique() > 1 else ""


def unit(metric: str) -> str:
    """Return a metric's axis label."""
    return f"{metric}, nats" if not rising(metric) else metric


def by_size(table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame | None = None) -> list[Axes]:
    """A metric at the end of training against size, a panel an objective: runs, the average with its band, its laws.

    table: the fitted runs' rows at that exposure. curves: lines along size. held_out: the held-out runs' rows, absent
    where they have not been opened.
    """
    panels = []
    along = curves[curves["along"] == "size"]
    for (objective, metric, collection), lines in along.groupby(SERIES, sort=False):
        title = f"{objective}: {metric}{where(collection, along)}"
        axes, mine = panel(title, "non-embedding parameters", unit(metric)), rows_like(table, lines)
        colour, styles = colour_of(objective), iter(("--", ":", "-.") * 2)
        for law, line in lines.groupby("law", sort=False):
            if law == "average":
                axes.plot(line["params_non_embedding"], line["forecast"], color=colour, lw=1.6, label="average")
                axes.fill_between(line["params_non_embedding"], line["lo"], line["hi"], color=colour, alpha=BAND, lw=0)
            else:
                axes.plot(line["params_non_embedding"], line["forecast"], next(styles), color=INK, lw=0.9, label=law)
        axes.plot(
            mine["params_non_embedding"], mine["value"], "o", color=colour_of(objective), ms=6, label="fitted runs"
        )
        shown = [mine["value"]]
        if held_out is not None:
            truth = rows_like(held_out, lines)
            axes.plot(truth["params_non_embedding"], truth["value"], "D", color=HELD_OUT, ms=6, label="held-out runs")
            shown.append(truth["value"])
        log_axis(axes)
        _frame(axes, pd.concat([*shown, lines["forecast"]]))
        axes.legend(loc="best")
        panels.append(axes)
    return panels


def by_exposure(table: pd.DataFrame, curves: pd.DataFrame, held_out_rungs: Iterable[str] = ()) -> list[Axes]:
    """A metric against exposure, a panel an objective: every rung's runs (mean over seeds) and its joint law.

    Held-out rungs are drawn dashed, the largest with its band; their dots appear where `table` holds them.
    """
    panels = []
    along = curves[curves["along"] == "exposure"]
    for (objective, metric, collection), lines in along.groupby(SERIES, sort=False):
        title = f"{objective}: {metric}{where(collection, along)}"
        axes, mine = panel(title, "training pairs seen", unit(metric)), rows_like(table, lines)
        rungs, ends = lines.sort_values("params_non_embedding")["rung"].unique(), []
        for rung, colour in rung_colours(rungs).items():
            line, held = lines[lines["rung"] == rung], rung in held_out_rungs
            colour = HELD_OUT if held else colour
            axes.plot(line["exposure"], line["forecast"], "--" if held else "-", color=colour, lw=1.4)
            if held and rung == rungs[-1]:
                axes.fill_between(line["exposure"], line["lo"], line["hi"], color=colour, alpha=BAND, lw=0)
            dots = mine[mine["rung"] == rung].groupby("exposure")["value"].mean()
            axes.plot(dots.index, dots, "D" if held else "o", color=colour, ms=4.5)
            ends.append((line["exposure"].iloc[-1], line["forecast"].iloc[-1], rung, colour))
        log_axis(axes)
        _frame(axes, pd.concat([mine["value"], lines["forecast"]]))
        label_ends(axes, ends)
        panels.append(axes)
    return panels


def rows_like(table: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to the series of another one."""
    return table[(table[SERIES] == series[SERIES].iloc[0]).all(axis=1)]


def _frame(axes: Axes, values: pd.Series) -> None:
    """Show the values with some air; a band may leave the frame, as bands of few runs would flatten all else."""
    low, high = values.min(), values.max()
    air = 0.25 * (high - low or 0.1)
    axes.set_ylim(max(0.0, low - air), high + air)


def forecast_and_truth(scored: pd.DataFrame) -> list[Axes]:
    """Forecasts, intervals and the truth, a panel a metric and collection, a line an objective and rung.

    Thick bar: the law's mean; thin bar: one new run; dot: forecast; diamond: what was measured; bar tick: no change;
    cross, with its own interval: P0's size law.
    """
    panels = []
    for (metric, collection), rows in scored.groupby(["metric", "collection"], sort=False):
        names = rows[["objective", "rung"]].drop_duplicates().itertuples(index=False)
        axes = panel(f"{metric}{where(collection, scored)}: forecast and truth", unit(metric), "")
        labels = []
        for place, name in enumerate(names):
            mine = rows[(rows[["objective", "rung"]] == name).all(axis=1)]
            ours, theirs = mine[mine["law"] == "average"].set_index("kind"), mine[mine["law"] == "P0 size"]
            mean, new, colour = ours.loc["mean_law"], ours.loc["new_run"], colour_of(name.objective)
            axes.plot([new["lo"], new["hi"]], [place, place], color=colour, lw=1.2)
            axes.plot([mean["lo"], mean["hi"]], [place, place], color=colour, lw=5, alpha=0.45, solid_capstyle="butt")
            axes.plot(mean["forecast"], place, "o", color=colour, ms=5)
            axes.plot(theirs[["lo", "hi"]].to_numpy().ravel(), [place + 0.25] * 2, color=INK, lw=1, alpha=0.6)
            axes.plot(theirs["forecast"], [place + 0.25], "x", color=INK, ms=5, alpha=0.8)
            axes.plot(mean["persistence"], place, "|", color=INK, ms=11, mew=1.4)
            axes.plot(mean["actual"], place, "D", color=HELD_OUT, ms=6)
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


def multiverse(table: pd.DataFrame, forecasts: pd.DataFrame) -> list[Axes]:
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
        axes = panel(f"{objective} {rows['rung'].iloc[0]}", unit(metric), "", height=4.6)
        ours = forecasts[(forecasts["objective"] == objective) & (forecasts["metric"] == metric)]
        for _, one in ours.iterrows():
            axes.axvspan(one["lo"], one["hi"], color=colour_of(objective), alpha=BAND, lw=0)
            axes.axvline(one["actual"], color=HELD_OUT, lw=1.4, ls="--")
        at = [places[f"{row.choice}: {row.option}"] for row in rows.itertuples()]
        axes.plot(rows["forecast"], at, "o", color=colour_of(objective), ms=5)
        _choices_axis(axes, labels)
        panels.append(axes)
    axes = panel("How the optimum grows", "a: optimal size grows as compute to the power a", "", height=4.6)
    for objective, rows in table.groupby("objective", sort=False):
        at = [places[f"{row.choice}: {row.option}"] for row in rows.itertuples()]
        axes.plot(rows["exponent"], at, "o", color=colour_of(objective), ms=5, label=objective)
    axes.axvline(0.5, color=INK, lw=1, alpha=0.5)
    _choices_axis(axes, labels)
    axes.legend()
    return [*panels, axes]


def _choices_axis(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def isoflops(study: Study, fitted: list[Fitted], table: pd.DataFrame, cost: Cost) -> list[Axes]:
    """The headline metric at equal training FLOPs: the joint law, its optima, trained checkpoints; one an objective."""
    levels, metric = budgets(table, cost), headline(study, table)
    drawn = [one for one in of_front(fitted) if one.metric == metric and one.joint is not None]
    counted = units(study)[0]
    return [
        isoflop(*isoflop_tables(one, table, cost, levels), f"{one.objective}: {metric}", counted, metric)
        for one in drawn
    ]


def isoflop(
    curves: pd.DataFrame, optima: pd.DataFrame, measured: pd.DataFrame, title: str, size: str, metric: str
) -> Axes:
    """One law's value against size, counted in `size`, at equal training FLOPs; tables have flops, size, value."""
    axes, ends = panel(title, size, unit(metric)), []
    _frame(axes, pd.concat([measured["value"], optima["value"]]))
    curves = curves[curves["value"].between(*axes.get_ylim())]
    for budget, colour in rung_colours(sorted(curves["flops"].unique())).items():
        line, best = (rows[rows["flops"] == budget] for rows in (curves, optima))
        axes.plot(line["size"], line["value"], color=colour, lw=1.4)
        axes.plot(best["size"], best["value"], "*", color=colour, ms=11)
        dots = measured[np.isclose(measured["flops"], budget)]
        axes.plot(dots["size"], dots["value"], "o", color=colour, ms=4, alpha=0.8)
        ends.append((line["size"].iloc[-1], line["value"].iloc[-1], EngFormatter(places=1, sep="")(budget), colour))
    log_axis(axes)
    label_ends(axes, ends)
    return axes


def by_annotations(table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame | None = None) -> list[Axes]:
    """Entropy against annotated pairs, a line with a band for every source, dots for runs, diamonds for held-out ones.

    table: a row a run of one rung, with source, D and value. curves: columns source, D, forecast, lo, hi.
    """
    return [_against_annotations("Annotation sources", table, curves, held_out, "source")]


def annotations_by_rung(table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame | None = None) -> list[Axes]:
    """Entropy against human pairs, a line with a band for every rung; tables as in `by_annotations`, by rung."""
    return [_against_annotations("Size and annotations", table, curves, held_out, "rung")]


def _against_annotations(
    title: str, table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame | None, by: str
) -> Axes:
    axes, ends = panel(title, "annotated pairs", unit(table["metric"].iloc[0])), []
    names = curves[by].unique()
    colours = source_colours(names) if by == "source" else rung_colours(names)
    for name, colour in colours.items():
        line, runs = (rows[rows[by] == name] for rows in (curves, table))
        _band(axes, line["D"], line["forecast"], line["lo"], line["hi"], colour)
        axes.plot(runs["D"], runs["value"], "o", color=colour, ms=5)
        ends.append((line["D"].iloc[-1], line["forecast"].iloc[-1], name.replace("_", " "), colour))
    shown = [table["value"], curves["forecast"]]
    if held_out is not None:
        axes.plot(held_out["D"], held_out["value"], "D", color=HELD_OUT, ms=6, label="held-out runs")
        shown.append(held_out["value"])
        axes.legend()
    log_axis(axes)
    _frame(axes, pd.concat(shown))
    label_ends(axes, ends)
    return axes


def source_colours(sources: Iterable[str]) -> dict[str, str]:
    """Return a colour a source of annotations, in the order given."""
    return dict(zip(sources, sns.color_palette("colorblind").as_hex(), strict=False))


def _band(axes: Axes, x: pd.Series, y: pd.Series, lo: pd.Series, hi: pd.Series, colour: str, **how: object) -> None:
    """Draw a line with its band; where nothing bounds it from above, the band leaves the frame."""
    axes.plot(x, y, color=colour, lw=1.6, **how)
    axes.fill_between(x, lo, np.minimum(hi, 1e3 * y.max()), color=colour, alpha=BAND, lw=0)


def best_split(table: pd.DataFrame, size: str) -> list[Axes]:
    """The best size, counted in `size`, and the best annotations against the budget, inference counted and free.

    table: from `annotations.budget_table`; no figure where it has no rows.
    """
    panels = []
    for column, what in (("size", size), ("annotations", "human pairs")) if len(table) else ():
        axes = panel(f"Best {'size' if column == 'size' else 'annotations'}", "budget, dollars", what)
        for (counted, rows), colour in zip(
            table.groupby("inference", sort=False), sns.color_palette("colorblind").as_hex(), strict=False
        ):
            label = "inference counted" if counted else "inference free"
            ends = rows[f"{column}_lo"], rows[f"{column}_hi"]
            _band(axes, rows["budget"], rows[column], *ends, colour, ls="-" if counted else "--", label=label)
        axes.set(xscale="log", yscale="log")
        axes.set_ylim(table[column].min() / 30, table[column].max() * 30)
        for x in (True, False):
            log_axis(axes, x=x)
        axes.legend()
        panels.append(axes)
    return panels


def budget_parts(table: pd.DataFrame) -> list[Axes]:
    """What the best split spends on annotation, training and inference against the budget, inference counted and free.

    table: from `annotations.budget_table`; no figure where it has no rows.
    """
    panels, colours = [], sns.color_palette("colorblind").as_hex()
    for counted, rows in table.groupby("inference", sort=False) if len(table) else ():
        axes = panel(f"Inference {'counted' if counted else 'free'}", "budget, dollars", "dollars")
        for part, colour in zip(("annotation", "training", "inference"), colours, strict=False):
            spent = rows[f"{part}_dollars"]
            if (spent > 0).all():
                axes.plot(rows["budget"], spent, "o-", color=colour, lw=1.6, ms=4, label=part)
        axes.set(xscale="log", yscale="log")
        for x in (True, False):
            log_axis(axes, x=x)
        axes.yaxis.set_major_formatter(StrMethodFormatter("${x:g}"))
        axes.legend()
        panels.append(axes)
    return panels


def quality_and_training(options: Options, searched: Options | None = None) -> Axes:
    """Quality against training FLOPs: every checkpoint, and a line with a band for each family's best so far.

    searched: the bi-encoder's checkpoints on what they find themselves, dotted.
    """
    axes, table = panel(f"{options.metric} against training", "training FLOPs", options.metric), options.table
    for family, rows in table.groupby("family", sort=False):
        axes.plot(rows["flops"], rows["value"], "o", color=FAMILIES[family], ms=3, alpha=0.5)
        _best_so_far(axes, rows, table["flops"].max(), FAMILIES[family], band=True, label=NAMES[family])
    if searched is not None:
        label = f"{NAMES['bi_encoder']}, its own search"
        _best_so_far(axes, searched.table, table["flops"].max(), FAMILIES["bi_encoder"], ls=":", label=label)
    _own_order(axes, options)
    log_axis(axes)
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes


def _best_so_far(axes: Axes, rows: pd.DataFrame, end: float, colour: str, band: bool = False, **how: object) -> None:
    """Draw the highest value that costs no more, in steps up to `end`, with its interval as a band."""
    front = pareto_front(rows, "flops")
    front = pd.concat([front, front.tail(1).assign(flops=end)])
    axes.step(front["flops"], front["value"], where="post", color=colour, lw=1.6, **how)
    if band:
        ends = front["lo"], front["hi"]
        axes.fill_between(front["flops"], *ends, step="post", color=colour, alpha=BAND, lw=0)


def quality_and_serving(options: Options) -> list[Axes]:
    """Quality against serving FLOPs a pair at the deepest reranking, and against latency at every depth.

    A dot a system and rung with its interval; lines are Pareto fronts.
    """
    deepest = options.deepest.table
    counted = dict.fromkeys(("cost", "flops_low", "flops_high"), deepest["flops_per_pair"])  # without a spread
    panels = [
        _quality_against(deepest.assign(**counted), "serving", "serving FLOPs a pair", "flops_per_pair", "flops"),
        quality_and_latency(options.table),
    ]
    for axes in panels:
        _own_order(axes, options)
    return panels


def _own_order(axes: Axes, options: Options) -> None:
    """Draw the value of the candidates' own order."""
    value = options.first_stage.mean()
    axes.axhline(value, color=INK, ls="--", lw=1, alpha=0.6)
    axes.annotate("candidates' own order", (1, value), (-2, 2), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right", fontsize=8, alpha=0.8)  # fmt: skip


def speed_and_quality(table: pd.DataFrame) -> list[Axes]:
    """Quality against latency at every depth, and against throughput at the deepest, each with its Pareto front."""
    deepest = table[table["depth"] == table["depth"].max()]
    rate = deepest.assign(cost=-deepest["pairs_per_second"])
    throughput = _quality_against(rate, "throughput", "pairs scored a second", "pairs_per_second", "pairs")
    return [quality_and_latency(table), throughput]


def quality_and_latency(table: pd.DataFrame) -> Axes:
    """Quality against latency a query, a dot a system, rung and depth; the line is the Pareto front."""
    axes = _quality_against(table.assign(cost=table["p50_ms"]), "latency", "median ms a query", "p50_ms", "p50")
    axes.xaxis.set_major_formatter("{x:g}")
    return axes


def forecast_and_latency(forecasts: pd.DataFrame, timed: pd.DataFrame, held_out: Iterable[str]) -> list[Axes]:
    """Forecasts by size against latency, a line with its band a system; dots are measured, diamonds held out.

    forecasts: from `served_forecasts.forecast_served`; no figure where it has no rows. timed: the systems measured at
    that depth.
    """
    if forecasts.empty:
        return []
    metric, systems = forecasts["metric"].iloc[0], forecasts.groupby(["family", "name"], sort=False)
    axes = panel(f"{metric} forecast", "median ms a query", metric, height=PANEL[1] + 0.11 * systems.ngroups)
    for ((family, name), line), style in zip(systems, cycle(("-", "--", ":", "-.")), strict=False):
        colour, rows = FAMILIES[family], timed[timed["name"] == name]
        _band(axes, line["p50_ms"], line["forecast"], line["lo"], line["hi"], colour, ls=style, label=name)
        for (held, dots), marker in zip(rows.groupby(rows["rung"].isin(list(held_out))), "oD", strict=False):
            axes.plot(dots["p50_ms"], dots["value"], marker, color=HELD_OUT if held else colour, ms=5)
    _frame(axes, pd.concat([forecasts["forecast"], timed["value"], forecasts[["lo", "hi"]].median()]))
    log_axis(axes)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.figure.legend(loc="outside lower center", ncols=2)
    return [axes]


def latency_by_length(table: pd.DataFrame) -> Axes:
    """Latency against document length, a line a system with its lowest and highest repeat; from `fixed_lengths`."""
    axes = panel("Latency by length", "tokens of a document", "median ms a query")
    styles, systems = cycle(("o-", "s--", "D:", "^-.")), table.groupby(["family", "name"], sort=False)
    for ((family, name), rows), style in zip(systems, styles, strict=False):
        across = (rows[["p50_low", "p50_high"]].to_numpy() - rows[["p50_ms"]].to_numpy()).T * [[-1], [1]]
        axes.errorbar(rows["document_tokens"], rows["p50_ms"], yerr=across, fmt=style, ms=4, lw=1.2,
                      color=FAMILIES[family], label=name)  # fmt: skip
    for x in (True, False):
        log_axis(axes, x=x)
    axes.set_xticks(lengths := table["document_tokens"].unique(), lengths)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes


def _quality_against(table: pd.DataFrame, what: str, label: str, column: str, ends: str) -> Axes:
    """Draw values against a column: a colour a family, a marker a system, bars over queries and over repeats.

    table: has a further column cost, which orders the Pareto front. ends: the lowest and the highest repeat are in
    columns of that name with _low and _high.
    """
    systems, metric = table.groupby(["family", "name"], sort=False), table["metric"].iloc[0]
    axes = panel(f"{metric} against {what}", label, metric, height=PANEL[1] + 0.11 * systems.ngroups)
    best = pareto_front(table, "cost")
    front = pd.concat([best, best.tail(1).assign(**{column: table.loc[table["cost"].idxmax(), column]})])
    axes.step(front[column], front["value"], where="post", color=INK, lw=1, alpha=0.5)
    for ((family, name), rows), marker in zip(systems, cycle("osD^vPX*<>"), strict=False):
        across, up = (
            (rows[reach].to_numpy() - rows[[middle]].to_numpy()).T * [[-1], [1]]
            for reach, middle in (([f"{ends}_low", f"{ends}_high"], column), (["lo", "hi"], "value"))
        )
        axes.errorbar(rows[column], rows["value"], yerr=up, xerr=across, fmt=marker, ms=5, lw=0.8,
                      color=FAMILIES.get(family, INK), label=name)  # fmt: skip
    for row in best.itertuples():
        axes.annotate(f"{row.rung or row.name} at {row.depth}", (getattr(row, column), row.value), (4, 4),
                      textcoords="offset points", fontsize=8, alpha=0.8)  # fmt: skip
    log_axis(axes)
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes
