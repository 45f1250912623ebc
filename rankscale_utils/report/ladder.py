"""The one large figure of a study's first page: the ladder, the forecast and the truth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.curves import Curves
from rankscale_utils.analysis.forecast import average_forecasts
from rankscale_utils.measurements.directions import rising
from rankscale_utils.study.study import Study

from . import figures
from .tables import test_of

SIZE = "params_non_embedding"
MARKERS = "os^vP*X"


def ladder_figure(study: Study, curves: Curves, scored: pd.DataFrame) -> Axes:
    """Draw a metric against size: runs, the average of the laws, forecasts with their intervals, what was measured.

    curves and scored: of one metric on one collection. The objective of the best forecast at the largest rung has its
    band, the others stand behind it.
    """
    lines = curves.lines[(curves.lines["along"] == "size") & (curves.lines["law"] == "average")]
    forecasts, first = average_forecasts(scored), lines.iloc[0]
    objectives = _best_last(study, forecasts, first["metric"])
    title = f"{first['metric']} on {test_of(lines)}: the ladder, its forecast and the truth"
    width, height = figures.WIDE_PANEL
    axes = figures.panel(title, "parameters without embeddings", figures.unit(first["metric"]), height, width)
    shift = np.linspace(-1, 1, len(objectives)) * 0.035 if len(objectives) > 1 else [0.0]
    for place, (objective, moved) in enumerate(zip(objectives, shift, strict=True)):
        mine = [lines[lines["objective"] == objective]]
        mine += [figures.rows_like(table, mine[0]) for table in (curves.ends, forecasts, curves.held_out_ends)]
        _draw_objective(axes, *mine, moved, MARKERS[place % len(MARKERS)], place == len(objectives) - 1)
    figures.log_axis(axes)
    figures.first_stage_line(axes, figures.rows_like(curves.rows, lines))
    axes.figure.legend(loc="outside lower center", ncols=3)
    return axes


def _best_last(study: Study, forecasts: pd.DataFrame, metric: str) -> Sequence[str]:
    largest = forecasts[forecasts["params"] == forecasts["params"].max()]
    up = rising(metric, study.forecasting.directions)
    return list(largest.sort_values("forecast", ascending=up, kind="stable")["objective"])


def _draw_objective(
    axes: Axes,
    line: pd.DataFrame,
    runs: pd.DataFrame,
    forecasts: pd.DataFrame,
    truth: pd.DataFrame,
    shift: float,
    marker: str,
    shown: bool,
) -> None:
    """Draw one objective; shift: by which share of a decade its forecasts stand beside their rung's size."""
    objective = line["objective"].iloc[0]
    colour = figures.colour_of(objective)
    axes.plot(line[SIZE], line["forecast"], color=colour, lw=2 if shown else 1)
    if shown:
        axes.fill_between(line[SIZE], line["lo"], line["hi"], color=colour, alpha=figures.BAND, lw=0)
    axes.plot(runs[SIZE], runs["value"], marker, color=colour, ms=7 if shown else 5, label=f"{objective}, fitted runs")
    sizes = forecasts[SIZE] * 10**shift
    ends = figures.bars(
        forecasts.assign(hi=forecasts["hi"].where(np.isfinite(forecasts["hi"]))), "forecast", "lo", "hi"
    )
    axes.errorbar(sizes, forecasts["forecast"], ends, fmt=marker, mfc="none", ms=9 if shown else 7, color=colour,
                  capsize=4, lw=2 if shown else 1, label=f"{objective}, forecast")  # fmt: skip
    measured = truth.groupby(SIZE)["value"].mean()
    axes.plot(measured.index * 10**shift, measured, "D", color=figures.HELD_OUT, ms=7 if shown else 5,
              label="measured since" if shown else None)  # fmt: skip
