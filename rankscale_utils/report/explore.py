"""What the notebook 9_explore shows of a study's laws under other choices, and of its training."""

from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.explore import AS_STUDY, AVERAGE, PRIORS, Explored, explore, open_explorer
from rankscale_utils.analysis.forecast import intervals
from rankscale_utils.laws import SCALES
from rankscale_utils.measurements.training_curves import training_curves
from rankscale_utils.study.study import Study

from . import curves, figures, tables
from .controls import ROW, Ticks, choice, controlled, line_of_code
from .lab import gallery
from .prose import counted, si

NO_BREAK = "\N{NO-BREAK SPACE}"
FIRST = 8  # exposures of which one may be the first


def explore_forecasts(study: Study) -> widgets.Widget:
    """Return a series' forecast, interval, past and curves under choices that are moved, beside the study's own."""
    opened = open_explorer(study)
    rows, laws = opened.series, dict.fromkeys(name for one in opened.fitted for name in one.laws)
    table = pd.concat([one.raw for one in opened.fitted])
    exposures = np.unique(table["exposure"])
    since = exposures[np.unique(np.linspace(0, len(exposures) - 3, FIRST).round().astype(int))]
    named = {name: choice(name, list(rows[name].unique())) for name in ("objective", "metric", "collection")}
    left = {
        "without_rungs": Ticks("rungs", list(table.sort_values("params")["rung"].unique())),
        "without_seeds": Ticks("seeds", sorted(int(seed) for seed in table["seed"].unique())),
    }
    how = {
        "from_exposure": choice("pairs from", [(AS_STUDY, None), *((si(x), float(x)) for x in since)]),
        "prior": choice("prior", PRIORS),
        "law": choice("law", [AVERAGE, *laws]),
        "scale": choice("scale", [AS_STUDY, *SCALES]),
    }

    def show(objective: str, metric: str, collection: str, **choices: Any) -> str:
        raw = opened.fitted[opened.find(objective, metric, collection)].raw
        for name, column in (("without_rungs", "rung"), ("without_seeds", "seed")):
            choices[name] = [one for one in choices[name] if one in set(raw[column])]
        ours = explore(study, objective, metric, collection)
        yours = explore(study, objective, metric, collection, **choices)
        changed = {name: value for name, value in choices.items() if value not in (AS_STUDY, AVERAGE)}
        said = [seen_sentence(yours), opened.missing, *past_sentence(ours, yours)]
        parts = [tables.finding(*filter(None, said)).data, compared_table(ours, yours).data]
        code = line_of_code("explore", study, objective, metric, collection, then=".forecast", **changed)
        return "".join([*parts, gallery([axes.figure for axes in compared_curves(ours, yours)]), code])

    several = [control for control in named.values() if len(control.options) > 1]
    ticks = [control for control in left.values() if len(control.boxes) > 1]
    controls = [widgets.HBox(several, layout=ROW), *ticks, widgets.HBox([*how.values()], layout=ROW)]
    return widgets.VBox([*controls, controlled(named | left | how, show)])


def seen_sentence(explored: Explored) -> str:
    """Say what laws see under these choices."""
    rows = explored.fitted.table
    exposures = rows["exposure"].unique()
    seen = si(exposures[0]) if len(exposures) == 1 else f"{si(exposures.min())} to {si(exposures.max())}"
    return (
        f"Laws see {', '.join(rows.sort_values('N')['rung'].unique())}: {rows['run'].nunique()} runs, {len(rows)} "
        f"checkpoints of {seen} training pairs."
    )


def past_sentence(ours: Explored, yours: Explored) -> list[str]:
    """Compare the two in the ladder's past, on the rungs that both forecast; nothing where there is none."""
    both = ours.past.merge(yours.past, on="rung", suffixes=("", "_yours"))
    if both.empty or ours is yours:
        return []
    errors = [both[column].abs().mean() for column in ("relative_error", "relative_error_yours")]
    held = counted(both["covered_yours"].astype(bool).sum(), len(both), "interval")
    return [
        f"Fitted rungs that smaller ones forecast ({', '.join(both['rung'])}): mean error {errors[1]:.1%} of the value "
        f"under these choices, {errors[0]:.1%} as the study; {held} held."
    ]


def compared_table(ours: Explored, yours: Explored) -> Any:
    """Return both forecasts of every rung, those of fitted ones from the smaller ones, beside what was measured."""
    table = _forecasts(ours).merge(_forecasts(yours), on=["rung", "kind"], how="left", suffixes=("", "_yours"))
    columns = {"rung": "rung", "kind": "", "actual": "measured|.4f", "no_change": "no change|.4f"}
    for end, who in (("", "as the study"), ("_yours", "your choices"))[: 1 if ours is yours else 2]:
        columns |= {f"forecast{end}": f"{who}|.4f", f"interval{end}": "interval"}
        columns |= {f"relative_error{end}": "error|+.1%", f"covered{end}": "inside"}
    return tables.styled(table, **columns)


def _forecasts(explored: Explored) -> pd.DataFrame:
    parts = [(explored.past, "past"), (explored.forecast, f"held{NO_BREAK}out")]
    table = pd.concat([part.assign(kind=kind) for part, kind in parts if len(part)], ignore_index=True)
    inside = [None if pd.isna(covered) else bool(covered) for covered in table["covered"]]
    whole = [interval.replace(" ", NO_BREAK) for interval in intervals(table)]
    return table.assign(interval=whole, covered=pd.Series(inside, dtype=object))


def compared_curves(ours: Explored, yours: Explored) -> list[Axes]:
    """Draw the laws by size and by exposure; the study's own average is dashed in the first."""
    (by_size,) = curves.by_size(yours.curves)
    if ours is not yours:
        line = ours.curves.lines
        line = line[(line["law"] == AVERAGE) & (line["along"] == "size")]
        by_size.plot(line[curves.SIZE], line["forecast"], color=figures.INK, ls=(0, (1, 1)), label="as the study")
        by_size.figure.legends.clear()
        by_size.figure.legend(loc="outside lower center", ncols=2, handlelength=3)
    return [by_size, *curves.by_exposure(yours.curves)]


def explore_training(study: Study) -> widgets.Widget:
    """Return the losses of an objective's runs while they trained."""
    objectives = list(training_curves(study)["objective"].unique())
    controls = {"objective": choice("objective", objectives)}

    def show(objective: str) -> str:
        axes = losses_figure(training_curves(study, objective))
        return gallery([axes.figure]) + line_of_code("training_curves", study, objective)

    return widgets.VBox([*controls.values(), controlled(controls, show)])


def losses_figure(table: pd.DataFrame) -> Axes:
    """Draw the training loss of one objective's runs against training pairs, a colour a rung, a line a run."""
    objective = table["objective"].iloc[0]
    width, height = figures.WIDE_PANEL
    axes = figures.panel(f"{objective}: training", "training pairs seen", f"{objective} loss, nats", height, width)
    rungs, ends = table.sort_values("params_non_embedding")["rung"].unique(), []
    for rung, colour in figures.rung_colours(rungs).items():
        runs = table[table["rung"] == rung]
        for _, run in runs.groupby("run", sort=False):
            axes.plot(run["exposure"], run["loss"], color=colour, lw=1, alpha=0.8)
        last = runs[runs["exposure"] == runs["exposure"].max()]
        ends.append((last["exposure"].iloc[0], last["loss"].mean(), rung, colour))
    figures.log_axis(axes)
    figures.label_ends(axes, ends)
    return axes
