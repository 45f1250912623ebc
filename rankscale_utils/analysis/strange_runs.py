"""Fitted runs that are unlike the others, by name: what they are, and what would be forecast without them."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from threadpoolctl import threadpool_limits

from rankscale_utils import laws
from rankscale_utils.machine.parallel import each
from rankscale_utils.measurements.table import SERIES_COLUMNS
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .design import design_of_series, held_out_design
from .fit import Fitted, fitted_rows, known_of
from .forecast import shown_series
from .results import write_table

FAR, PAST_BEST = "far from the other runs", "past their best"
MOST = 3  # far runs without which everything is forecast again
DRAWS = 300
STRANGE_COLUMNS = [
    *SERIES_COLUMNS, "run", "rung", "kind", "value", "expected", "lo", "hi", "chance", "best", "best_exposure",
    "exposure", "noises", "target", "forecast", "forecast_lo", "forecast_hi", "without", "without_lo", "without_hi",
]  # fmt: skip


@threadpool_limits.wrap(limits=1)  # last digits depend on the number of threads
def name_strange_runs(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Write `strange_runs.csv` and return it: runs past their best, and runs far from where the others have them.

    The former are looked for in every series, the latter in those that figures show: each run's end is held against
    what all other runs forecast of it. Held-out files are not opened.
    """
    shown = shown_series(study, [*fitted]) if fitted else []
    far, past = _far(study, shown), [_labelled(one, laws.past_best(one.average.series, laws.known())) for one in fitted]
    tables = [table for table in (far.assign(kind=FAR), *(one.assign(kind=PAST_BEST) for one in past)) if len(table)]
    named = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    named = named.reindex(columns=STRANGE_COLUMNS)
    write_table(paths.strange_runs_file(study.folder), named)
    return named


def _labelled(one: Fitted, table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**one.labels)


def _far(study: Study, shown: Sequence[Fitted]) -> pd.DataFrame:
    """Return the far runs of each series, the farthest first, with what would be forecast without them."""
    if not shown:
        return pd.DataFrame()
    known, all_series = known_of(study.forecasting, fitted_rows(shown)), [one.average.series for one in shown]
    believed, level = laws.beliefs_by_others(all_series, known), study.forecasting.level
    tables = each(partial(laws.far_runs, level=level), all_series, believed)
    found = [_labelled(one, table) for one, table in zip(shown, tables, strict=True)]
    far = pd.concat(found, ignore_index=True).sort_values("chance", kind="stable")
    if far.empty:
        return far
    design = held_out_design(study, shown)
    again = [_without(study, shown, run, known, design) for run in far["run"].unique()[:MOST]]
    return far.merge(pd.concat(again, ignore_index=True), on=[*SERIES_COLUMNS, "run"], how="left")


def _without(study: Study, shown: Sequence[Fitted], run: str, known: laws.Known, design: pd.DataFrame) -> pd.DataFrame:
    """Return what is forecast of the largest held-out rung, of every series that has the run, with it and without."""
    level = study.forecasting.level
    averages = laws.averages([laws.without_run(one.average.series, run) for one in shown], known, DRAWS)
    rows = []
    for one, other in zip(shown, averages, strict=True):
        if run in set(one.table["run"]):
            at = design_of_series(one, design).sort_values("N").iloc[[-1]]
            made, again = (each.forecast(at, level, ["new_run"]).iloc[0] for each in (one.average, other))
            with_it = {"forecast": made["forecast"], "forecast_lo": made["lo"], "forecast_hi": made["hi"]}
            without = {"without": again["forecast"], "without_lo": again["lo"], "without_hi": again["hi"]}
            rows.append(one.labels | {"run": run, "target": at["rung"].iloc[0]} | with_it | without)
    return pd.DataFrame(rows)
