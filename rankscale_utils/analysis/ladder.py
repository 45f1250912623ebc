"""A ladder as a Python user gives it: measurements, rungs that are held out, and how laws are fitted."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.reading import read_ladder
from rankscale_utils.measurements.table import measured_rows, reasons_of
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.loading import read_section

from .left_out import left_out, nothing_to_forecast, without

Measurements = pd.DataFrame | Path | str


class Ladder(NamedTuple):
    """All measurements, those of series that can be fitted, the rungs that no fit may see, and the fit's settings."""

    every: pd.DataFrame
    table: pd.DataFrame
    held_out: Sequence[str]
    settings: Forecasting

    @property
    def fitted(self) -> pd.DataFrame:
        """The rows that a fit may see."""
        return self.table[~self.table["rung"].isin(self.held_out)]


def open_ladder(
    measurements: pd.DataFrame | Path, held_out: Sequence[str], settings: dict[str, Any], planned: bool = False
) -> Ladder:
    """Return a ladder, warning of each series that is left out, for a study's own reasons (`left_out`).

    settings: fields of a study's `forecasting`. planned: whether runs to come are forecast, so that a series which no
    held-out rung has serves too.

    Raises:
        StudyError: the measurements or a setting cannot be used, a rung cannot be held out, or no series can be fitted.
    """
    given = read_section(Forecasting, settings)
    every = read_ladder(measurements, given.metrics, held_out, given.mean_of_tests).table
    wanted = every[every["metric"].isin(given.metrics or every["metric"])]
    absent = left_out(wanted[~wanted["rung"].isin(held_out)], given)
    table = without(wanted, absent)
    if held_out and not planned:
        unasked = nothing_to_forecast(measured_rows(table), held_out)
        absent, table = pd.concat([absent, unasked], ignore_index=True), without(table, unasked)
    said = reasons_of(absent)
    if table.empty:
        raise StudyError(f"no series can be fitted: {'; '.join(said)}.")
    for sentence in said:
        warnings.warn(f"left out: {sentence}", stacklevel=4)  # where the user calls the public function
    return Ladder(every, table, held_out, given)
