"""The figures of the page 7_annotations: entropy against annotated pairs, and where a budget goes."""

from collections.abc import Iterable

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from rankscale_utils.analysis.annotation_laws import rung_curves, source_curves
from rankscale_utils.analysis.annotations import AnnotationResults
from rankscale_utils.analysis.compute import units_in_words
from rankscale_utils.study.study import Study

from . import figures


def by_source(study: Study, results: AnnotationResults) -> list[Axes]:
    """Entropy against annotated pairs on the last of the rungs, a line with a band for every source."""
    last = study.annotations.rungs[-1]
    runs, truth = (table[table["rung"] == last] for table in (results.found.table, results.truth))
    return [_against_annotations("Annotation sources", runs, source_curves(study, results.found), truth, "source")]


def by_rung(study: Study, results: AnnotationResults) -> list[Axes]:
    """Entropy against human pairs, a line with a band for every rung."""
    curves = rung_curves(study, results.found)
    return [_against_annotations("Size and annotations", results.found.human, curves, results.truth, "rung")]


def _against_annotations(
    title: str, table: pd.DataFrame, curves: pd.DataFrame, held_out: pd.DataFrame, by: str
) -> Axes:
    """Draw a line with a band for every source or rung, dots for runs, diamonds for held-out ones.

    table, held_out: a row a run, with source, rung, D and value. curves: columns source or rung, D, forecast, lo, hi.
    """
    axes, ends = figures.panel(title, "annotated pairs", figures.unit(table["metric"].iloc[0])), []
    names = curves[by].unique()
    colours = source_colours(names) if by == "source" else figures.rung_colours(names)
    for name, colour in colours.items():
        line, runs = (rows[rows[by] == name] for rows in (curves, table))
        figures.band(axes, line["D"], line["forecast"], line["lo"], line["hi"], colour)
        axes.plot(runs["D"], runs["value"], "o", color=colour, ms=5)
        ends.append((line["D"].iloc[-1], line["forecast"].iloc[-1], name.replace("_", " "), colour))
    axes.plot(held_out["D"], held_out["value"], "D", color=figures.HELD_OUT, ms=6, label="held-out runs")
    axes.legend()
    figures.log_axis(axes)
    figures.frame(axes, pd.concat([table["value"], curves["forecast"], held_out["value"]]))
    figures.label_ends(axes, ends)
    return axes


def source_colours(sources: Iterable[str]) -> dict[str, str]:
    """Return a colour a source of annotations, in the order given."""
    return dict(zip(sources, sns.color_palette("colorblind").as_hex(), strict=False))


def best_split_figure(study: Study, table: pd.DataFrame) -> list[Axes]:
    """The best size and the best annotations against the budget, inference counted and free.

    table: from `best_splits`; no figure where it has no rows.
    """
    panels, size = [], units_in_words(study)[0]
    for column, what in (("size", size), ("annotations", "human pairs")) if len(table) else ():
        axes = figures.panel(f"Best {'size' if column == 'size' else 'annotations'}", "budget, dollars", what)
        for (counted, rows), colour in zip(
            table.groupby("inference", sort=False), sns.color_palette("colorblind").as_hex(), strict=False
        ):
            label = "inference counted" if counted else "inference free"
            ends = rows[f"{column}_lo"], rows[f"{column}_hi"]
            figures.band(axes, rows["budget"], rows[column], *ends, colour, ls="-" if counted else "--", label=label)
        axes.set(xscale="log", yscale="log")
        axes.set_ylim(table[column].min() / 30, table[column].max() * 30)
        for x in (True, False):
            figures.log_axis(axes, x=x)
        axes.legend()
        panels.append(axes)
    return panels


def budget_parts(table: pd.DataFrame) -> list[Axes]:
    """What the best split spends on annotation, training and inference against the budget, inference counted and free.

    table: from `best_splits`; no figure where it has no rows.
    """
    panels, colours = [], sns.color_palette("colorblind").as_hex()
    for counted, rows in table.groupby("inference", sort=False) if len(table) else ():
        axes = figures.panel(f"Inference {'counted' if counted else 'free'}", "budget, dollars", "dollars")
        for part, colour in zip(("annotation", "training", "inference"), colours, strict=False):
            spent = rows[f"{part}_dollars"]
            if (spent > 0).all():
                axes.plot(rows["budget"], spent, "o-", color=colour, lw=1.6, ms=4, label=part)
        axes.set(xscale="log", yscale="log")
        for x in (True, False):
            figures.log_axis(axes, x=x)
        axes.yaxis.set_major_formatter(StrMethodFormatter("${x:g}"))
        axes.legend()
        panels.append(axes)
    return panels
