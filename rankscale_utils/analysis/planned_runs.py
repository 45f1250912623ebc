"""Runs that nobody has trained yet: a table of them, checked against the ladder, and as rows to forecast."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.cells import Origin
from rankscale_utils.measurements.table import SERIES_COLUMNS

from .design import COUNTS, convert_counts
from .fit import Fitted, fitted_rows
from .ladder import Ladder

NEEDED = ("rung", "params", "exposure")
AT = Origin("at")
# Counts of size, and the count that tells each for a rung that nobody has trained.
FOLLOWS_FROM = {"params_non_embedding": "params", "params_nominal": "params", "N": "params_non_embedding"}


def planned_runs(at: pd.DataFrame, ladder: Ladder, held_out: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return runs to come, their counts as numbers: rung, params, exposure and what else of `COUNTS` they name.

    held_out: what else is forecast of this ladder.

    Raises:
        StudyError: a column is missing or would choose among series, a cell is empty or no positive number, a rung has
            two sizes, or a run stands twice or is forecast as one that is held out.
    """
    if missing := [name for name in NEEDED if name not in at]:
        raise StudyError(f"at lacks {', '.join(missing)}: it has {', '.join(map(str, at))}; add what is missing.")
    if unread := [name for name in (*SERIES_COLUMNS, "seed") if name in at]:
        raise StudyError(
            f"at has the column {unread[0]}, but every series of the measurements is forecast at every row, for one "
            "new run: drop the column, and leave rows of other series out of the measurements."
        )
    runs = at[[name for name in ("rung", *COUNTS) if name in at]].copy()
    if (empty := runs["rung"].isna() | (runs["rung"].astype(str).str.strip() == "")).any():
        raise StudyError(f"{AT.at(empty.idxmax())}: rung is empty: name every run's rung.")
    runs["rung"] = runs["rung"].astype(str).str.strip()
    for name in runs.columns.drop("rung"):
        numbers = pd.to_numeric(runs[name], errors="coerce")
        if (wrong := ~(numbers > 0) | ~np.isfinite(numbers)).any():
            raise StudyError(
                f"{AT.at(wrong.idxmax())}: {name} = {runs.loc[wrong, name].iloc[0]}: must be a positive, finite number."
            )
        runs[name] = numbers.astype(float)
    _refuse_repeats(runs, held_out)
    _refuse_other_sizes(runs, ladder)
    return runs


def _refuse_repeats(runs: pd.DataFrame, held_out: Sequence[pd.DataFrame]) -> None:
    keys = ["rung", "exposure"]
    if (repeated := runs.duplicated(keys)).any():
        second = repeated.idxmax()
        first = (runs[keys] == runs.loc[second, keys]).all(axis=1).idxmax()
        rung, exposure = runs.loc[second, keys]
        raise StudyError(
            f"{AT.at(first, second)} both ask for rung {rung} at exposure {exposure:.15g}: drop one of them, as what "
            "is forecast is one new run."
        )
    opened = {pair for design in held_out for pair in zip(design["rung"], design["exposure"], strict=True)}
    for row, pair in enumerate(zip(runs["rung"], runs["exposure"], strict=True)):
        if pair in opened:
            raise StudyError(
                f"{AT.at(row)} asks for rung {pair[0]} at exposure {pair[1]:.15g}, which held_out forecasts already: "
                "drop the row."
            )


def _refuse_other_sizes(runs: pd.DataFrame, ladder: Ladder) -> None:
    """A rung has one size: among the runs to come, and beside those that were measured."""
    for row, (rung, params) in enumerate(zip(runs["rung"], runs["params"], strict=True)):
        before = runs.loc[: row - 1] if row else runs.iloc[:0]
        planned = before.loc[before["rung"] == rung, "params"]
        if len(planned) and planned.iloc[0] != params:
            raise StudyError(
                f"{AT.at(planned.index[0], row)}: rung {rung} has params = {planned.iloc[0]:.15g} and {params:.15g}: "
                "correct one of them, or name another rung."
            )
        measured = ladder.every.loc[ladder.every["rung"] == rung, "params"]
        if len(measured) and not np.isclose(measured, params, rtol=1e-3).any():
            raise StudyError(
                f"{AT.at(row)}: rung {rung} has params = {params:.15g}, but {measured.iloc[0]:.15g} in the "
                "measurements: correct one of them, or name another rung."
            )


def design_of_planned(runs: pd.DataFrame, series: Sequence[Fitted]) -> pd.DataFrame:
    """Return runs to come as rows to forecast, for every series.

    Sizes that they do not name follow from those of the fitted rungs, exposures from the largest fitted rung's.
    """
    design, seen = runs.copy(), fitted_rows(series)
    known = [name for name in seen if name not in design and seen[name].notna().all()]
    for count in [count for count in FOLLOWS_FROM if count in known]:
        design[count] = convert_counts(seen, FOLLOWS_FROM[count], count, design)
    longest = seen[seen["N"] == seen["N"].max()].sort_values("exposure").iloc[-1]
    for count in [count for count in ("step", "D") if count in known]:
        design[count] = design["exposure"] * (longest[count] / longest["exposure"])
    return pd.concat([design.assign(**one.labels) for one in series], ignore_index=True)
