"""A ladder as a Python user gives it: measurements, rungs that are held out, and how laws are fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rankscale_utils.measurements.reading import read_ladder
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.loading import read_section

Measurements = pd.DataFrame | Path | str


class Ladder(NamedTuple):
    """All measurements, the rungs that no fit may see, and the settings of the fit."""

    table: pd.DataFrame
    held_out: Sequence[str]
    settings: Forecasting

    @property
    def fitted(self) -> pd.DataFrame:
        """The rows that a fit may see."""
        return self.table[~self.table["rung"].isin(self.held_out)]


def open_ladder(measurements: pd.DataFrame | Path, held_out: Sequence[str], settings: dict[str, Any]) -> Ladder:
    """Return a ladder; settings: fields of a study's `forecasting`.

    Raises:
        StudyError: the measurements or a setting cannot be used, or a rung cannot be held out.
    """
    given = read_section(Forecasting, settings)
    return Ladder(read_ladder(measurements, given.metrics, held_out).table, held_out, given)
