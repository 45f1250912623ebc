"""Laws as lines through their runs: the figures that the pages 3_fit and 4_forecast and the first page share."""

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.curves import Curves
from rankscale_utils.analysis.fit import SERIES_COLUMNS

from . import figures

SIZE = "params_non_embedding"


def by_size(curves: Curves) -> list[Axes]:
    """A metric at the end of training against size, a panel a series: runs, the average with its band, its laws."""
    return [_size_panel(title, lines, curves) for title, lines in _series(curves, "size")]


def by_exposure(curves: Curves) -> list[Axes]:
    """A metric against exposure, a panel a series: every rung's runs (means over seeds) and the average of its laws.

    Held-out rungs are dashed, the largest with its band; their dots appear once they are opened.
    """
    return [_exposure_panel(title, lines, curves) for title, lines in _series(curves, "exposure")]


def _series(curves: Curves, along: str) -> list[tuple[str, pd.DataFrame]]:
    """Return the title and the lines of every series."""
    table = curves.lines[curves.lines["along"] == along]
    return [(figures.name_series(lines, table), lines) for _, lines in table.groupby(SERIES_COLUMNS, sort=False)]


def _size_panel(title: str, lines: pd.DataFrame, curves: Curves) -> Axes:
    metric, colour = lines["metric"].iloc[0], figures.colour_of(lines["objective"].iloc[0])
    axes = figures.panel(title, "non-embedding parameters", figures.unit(metric))
    averaged = lines["law"] == "average"
    average, alone = lines[averaged], lines[~averaged].groupby("law", sort=False)
    inks = figures.shades(alone.groups, "cividis")
    figures.band(axes, average[SIZE], average["forecast"], average["lo"], average["hi"], colour, label="average")
    for (law, line), style in zip(alone, cycle(("--", ":", "-.")), strict=False):
        axes.plot(line[SIZE], line["forecast"], style, color=inks[law], lw=1.2, label=law)
    values = [lines["forecast"]]
    for table, marker, ink, label in ((curves.ends, "o", colour, "fitted runs"),
                                      (curves.held_out_ends, "D", figures.HELD_OUT, "held-out runs")):  # fmt: skip
        runs = figures.rows_like(table, lines)
        if len(runs):
            axes.plot(runs[SIZE], runs["value"], marker, color=ink, ms=6, label=label)
            values.append(runs["value"])
    figures.log_axis(axes)
    figures.frame(axes, pd.concat(values), pd.concat([average["lo"], average["hi"]]))
    figures.first_stage_line(axes, figures.rows_like(curves.rows, lines))
    axes.figure.legend(loc="outside lower center", ncols=2, handlelength=3)
    return axes


def _exposure_panel(title: str, lines: pd.DataFrame, curves: Curves) -> Axes:
    axes = figures.panel(title, "training pairs seen", figures.unit(lines["metric"].iloc[0]))
    runs = figures.rows_like(pd.concat([curves.rows, curves.held_out]), lines)
    means = runs.groupby(["rung", "exposure"])["value"].mean()
    rungs, ends, banded = lines.sort_values(SIZE)["rung"].unique(), [], []
    for rung, colour in figures.rung_colours(rungs).items():
        line, held_out = lines[lines["rung"] == rung], rung in curves.held_out_rungs
        style, marker, colour = ("--", "D", figures.HELD_OUT) if held_out else ("-", "o", colour)
        axes.plot(line["exposure"], line["forecast"], style, color=colour, lw=1.4)
        if held_out and rung == rungs[-1]:
            axes.fill_between(line["exposure"], line["lo"], line["hi"], color=colour, alpha=figures.BAND, lw=0)
            banded = [pd.concat([line["lo"], line["hi"]])]
        dots = means[means.index.get_level_values("rung") == rung].droplevel("rung")
        axes.plot(dots.index, dots, marker, color=colour, ms=4.5)
        ends.append((line["exposure"].iloc[-1], line["forecast"].iloc[-1], rung, colour))
    figures.log_axis(axes)
    figures.frame(axes, pd.concat([runs["value"], lines["forecast"]]), *banded)
    figures.first_stage_line(axes, runs)
    figures.label_ends(axes, ends)
    return axes
