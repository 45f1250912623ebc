"""Style, colours and axes that all figures share."""

import re
from collections.abc import Iterable
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from rankscale_utils.analysis.fit import SERIES_COLUMNS
from rankscale_utils.analysis.speedup import pareto_front
from rankscale_utils.measurements.table import labelled

INK = "#1c2128"  # reports replace exactly this colour by the page's ink
HELD_OUT = "#d1495b"
IN_THE_DARK = {"#0173b2": "#4aa8e8", "#4c72b0": "#86a8e0"}  # colours that a dark page shows lighter
BAND = 0.18
FLAT = 3  # times the values' own span that a band may reach beyond them before it leaves the frame
COLOURS = dict(zip(("pointwise", "pairwise", "listwise"), sns.color_palette("colorblind").as_hex(), strict=False))
FAMILY_COLOURS = dict(
    zip(("cross_encoder", "bi_encoder", "ed2lm", "bm25"), sns.color_palette("deep").as_hex(), strict=False)
)
TEXT = 11  # points: with `svg.SMALLEST` of a figure's width, eleven pixels or more on any screen
PANEL, WIDE_PANEL = (4.7, 3.6), (7.6, 4.6)  # inches
NATS = re.compile(r"CE\d*(-T)?")  # contrastive entropies


def use_style() -> None:
    """Set the one figure style: SVG with real text, transparent ground, ink that follows the page."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    quiet = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.12}
    ground = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"}
    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    text = dict.fromkeys(sizes, TEXT) | {"axes.titlelocation": "left", "axes.titleweight": "bold"}
    text["text.parse_math"] = False  # dollars of a user's names begin no formula
    svg = {"svg.fonttype": "none", "svg.hashsalt": "rankscale", "legend.frameon": False}
    sns.set_theme(context="paper", style="ticks", rc=dict.fromkeys(ink, INK) | quiet | ground | text | svg)
    if get_ipython():
        from matplotlib_inline.backend_inline import set_matplotlib_formats  # changes the notebook that imports it

        set_matplotlib_formats("svg")


def panel(title: str, x: str, y: str, height: float = PANEL[1], width: float = PANEL[0]) -> Axes:
    """Return the axes of a new panel with its title and axis labels (quantity and unit), by which pages name it."""
    _, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, gid="title")
    axes.xaxis.label.set_gid("x")
    axes.yaxis.label.set_gid("y")
    return axes


def colour_of(objective: str) -> str:
    """Return an objective's colour, the same in every figure."""
    return COLOURS.get(objective, sns.color_palette("colorblind").as_hex()[3])


def rung_colours(rungs: Iterable[str]) -> dict[str, str]:
    """Return a colour a rung, in order of size, readable on light and on dark ground."""
    return shades(rungs, "plasma")


def shades(names: Iterable[str], colour_map: str) -> dict[str, str]:
    """Return a shade a name, for any number of names, without the map's darkest and lightest ones."""
    names = list(names)
    places = np.linspace(0.28, 0.82, len(names)) if len(names) > 1 else [0.5]
    return {name: to_hex(plt.get_cmap(colour_map)(place)) for name, place in zip(names, places, strict=True)}


class Counts(EngFormatter):
    """Ticks of parameters, pairs and operations: a billion is B, as in the names of models."""

    ENG_PREFIXES = EngFormatter.ENG_PREFIXES | {9: "B"}


def log_axis(axes: Axes, *, x: bool = True) -> None:
    """Make an axis logarithmic, with ticks that people read at a glance: 20k, 50k, 100k."""
    axes.set_xscale("log") if x else axes.set_yscale("log")
    axis = axes.xaxis if x else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 60 else (1,), numticks=8))
    axis.set_major_formatter(Counts(sep=""))
    axis.set_minor_formatter(NullFormatter())


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name beside its end, all as near to their ends as they can stand without overlapping.

    ends: x, y, name, colour. A thin line leads from an end to a name that had to move.
    """
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    steps = np.arange(len(ends)) * 1.25 * TEXT / (72 * axes.figure.get_figheight() * 0.72) * (high - low)
    heights = isotonic_regression(np.clip([y for _, y, _, _ in ends], low, high) - steps).x + steps
    for (x, y, name, colour), height in zip(ends, heights, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.6}
        leader |= {
            "patchA": None,
            "relpos": (0, 0.5),
            "shrinkA": 0,
            "shrinkB": 0,
        }  # cutting takes longest
        axes.annotate(name, (x, y), (12, height), xycoords="data",
                      textcoords=("offset points", "data"), color=colour, va="center", annotation_clip=False,
                      arrowprops=leader)  # fmt: skip


def where(collection: str, table: pd.DataFrame) -> str:
    """Return what a title adds where a table, `labelled` like the collection, holds several of them."""
    return f" on {collection}" if table["collection"].nunique() > 1 else ""


def name_series(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return the title of the panel of one series' rows of a table."""
    objective, metric, collection = labelled(rows.iloc[:1])[["objective", "metric", "collection"]].iloc[0]
    return f"{objective}: {metric}{where(collection, labelled(table))}"


def unit(metric: str) -> str:
    """Return a metric's axis label."""
    return f"{metric}, nats" if NATS.fullmatch(metric) else metric


def rows_like(table: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to the series of another one."""
    return table[(table[SERIES_COLUMNS] == series[SERIES_COLUMNS].iloc[0]).all(axis=1)]


def frame(axes: Axes, values: pd.Series, ends: pd.Series | None = None) -> None:
    """Show the values with some air, and whole bands, whose ends are given, unless they would flatten all else."""
    low, high = values.min(), values.max()
    air = 0.25 * (high - low or 0.1)
    far = (high - low or 0.1) * FLAT
    ends = ends[np.isfinite(ends) & ends.between(low - far, high + far)] if ends is not None else values
    axes.set_ylim(max(0.0, min(low - air, ends.min())), max(high + air, ends.max()))


def band(axes: Axes, x: pd.Series, y: pd.Series, lo: pd.Series, hi: pd.Series, colour: str, **how: object) -> None:
    """Draw a line with its band; where nothing bounds it from above, the band leaves the frame."""
    axes.plot(x, y, color=colour, lw=1.6, **how)
    axes.fill_between(x, lo, np.minimum(hi, 1e3 * y.max()), color=colour, alpha=BAND, lw=0)


def quality_and_latency(table: pd.DataFrame) -> Axes:
    """Quality against latency a query, a dot a system, rung and depth; the line is the Pareto front."""
    axes = quality_against(table.assign(cost=table["p50_ms"]), "latency", "median ms a query", "p50_ms", "p50")
    axes.xaxis.set_major_formatter("{x:g}")
    return axes


def quality_against(table: pd.DataFrame, what: str, label: str, column: str, ends: str) -> Axes:
    """Draw values against a column: a colour a family, a marker a system, bars over queries and over repeats.

    table: has a further column cost, which orders the Pareto front. ends: the lowest and the highest repeat are in
    columns of that name with _low and _high.
    """
    systems, metric = table.groupby(["family", "name"], sort=False), table["metric"].iloc[0]
    axes = panel(f"{metric} against {what}", label, metric, height=PANEL[1] + 0.11 * systems.ngroups)
    best = pareto_front(table, "cost")
    if "first_stage" in table:  # which costs nothing more, as it has ranked already
        best = best[best["value"] > table["first_stage"].max()]
    front = pd.concat([best, best.tail(1).assign(**{column: table.loc[table["cost"].idxmax(), column]})])
    axes.step(front[column], front["value"], where="post", color=INK, lw=1, alpha=0.5)
    for ((family, name), rows), marker in zip(systems, cycle("osD^vPX*<>"), strict=False):
        across, up = bars(rows, column, f"{ends}_low", f"{ends}_high"), bars(rows, "value", "lo", "hi")
        colour = FAMILY_COLOURS.get(family, INK)
        axes.errorbar(rows[column], rows["value"], up, across, fmt=marker, ms=5, lw=0.8, color=colour, label=name)
    for row in best.itertuples():
        axes.annotate(f"{row.rung or row.name} at {row.depth}", (getattr(row, column), row.value), (4, 4),
                      textcoords="offset points", alpha=0.8)  # fmt: skip
    log_axis(axes)
    first_stage_line(axes, table)
    axes.figure.legend(loc="outside lower center", ncols=2)
    return axes


def bars(rows: pd.DataFrame, middle: str, low: str, high: str) -> NDArray:
    """Return how far error bars reach below and above the middle: (2, rows)."""
    return np.stack([rows[middle] - rows[low], rows[high] - rows[middle]])


def first_stage_line(axes: Axes, table: pd.DataFrame) -> None:
    """Draw what the first stage's own order scores, where the table's column first_stage knows it."""
    value = table["first_stage"].max() if "first_stage" in table else np.nan
    if pd.notna(value):
        level_line(axes, value, "first stage", left=True)  # on the right stand forecasts and their intervals


def level_line(axes: Axes, value: float, name: str, style: str = "--", left: bool = False) -> None:
    """Draw a level that does not change along x, with its name at its right or left end; the frame grows to hold it."""
    axes.axhline(value, color=INK, ls=style, lw=1, alpha=0.6)
    axes.annotate(name, (0 if left else 1, value), (2 if left else -2, 2), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="left" if left else "right", alpha=0.8)  # fmt: skip
    low, high = axes.get_ylim()
    air = 0.08 * (high - low)
    axes.set_ylim(min(low, value - air), max(high, value + air))
