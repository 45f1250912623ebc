"""The laws of a series as lines to be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from rankscale_utils.machine.parallel import each
from rankscale_utils.study.study import Study

from .design import convert_counts, design_of_series, held_out_design
from .fit import Fitted, fitted_ends, fitted_rows, held_out_rows, last_rows


def series_curves(series: Fitted, design: pd.DataFrame, level: float, points: int = 40) -> pd.DataFrame:
    """Return every law of a series as lines, the average with its band (kind mean_law), to be drawn.

    Rows: along size at the end (`along` = size), and along exposure at every fitted and held-out rung (`along` =
    exposure) where several exposures were fitted.
    """
    design = design_of_series(series, design)
    rungs = pd.concat([series.table, design])[["rung", "params_non_embedding", "N"]].drop_duplicates("rung")
    sizes = np.geomspace(rungs["params_non_embedding"].min(), rungs["params_non_embedding"].max(), points)
    along_size = pd.DataFrame({"params_non_embedding": sizes})
    N, D = convert_counts(rungs, "params_non_embedding", "N", along_size), series.average.series.last["D"].mean()
    along_size = along_size.assign(N=N, D=D)
    lines = [series.average.forecast(along_size, level, ["mean_law"]).assign(along="size")]
    of_laws = along_size.assign(kind="mean_law", along="size")
    lines += [of_laws.assign(forecast=draws.fit.predict(N, D), law=name) for name, draws in series.laws.items()]
    if "D" in series.average.series.axes:
        first, last = series.table["exposure"].min(), max(series.table["exposure"].max(), design["exposure"].max())
        exposures = pd.DataFrame({"exposure": np.geomspace(first, last, points)})
        along = rungs.merge(exposures, how="cross")
        along = along.assign(D=convert_counts(series.table, "exposure", "D", along))
        lines.append(series.average.forecast(along, level, ["mean_law"]).assign(along="exposure"))
    return pd.concat(lines, ignore_index=True).assign(**series.labels)


@dataclass(frozen=True)
class Curves:
    """Several series as figures show them: laws as lines, and the runs that they should go through.

    lines: `series_curves` of every series. ends: the fitted runs' rows at the end of training, which size laws see;
    rows: those at every exposure. held_out: the held-out runs' rows at every exposure; none until they are opened.
    held_out_rungs: their names.
    """

    lines: pd.DataFrame
    ends: pd.DataFrame
    rows: pd.DataFrame
    held_out: pd.DataFrame
    held_out_rungs: list[str]

    @property
    def held_out_ends(self) -> pd.DataFrame:
        """The held-out runs' rows at the end of training."""
        return last_rows(self.held_out)


def draw_curves(study: Study, series: Sequence[Fitted], opened: bool = False) -> Curves:
    """Return the curves of several series with their bands; opened: whether the held-out rungs may be read."""
    design = held_out_design(study, series)
    lines = each(partial(series_curves, design=design, level=study.forecasting.level), series)
    rows = fitted_rows(series)
    truth = held_out_rows(study) if opened else rows.iloc[:0]
    return Curves(pd.concat(lines, ignore_index=True), fitted_ends(series), rows, truth, study.held_out.rungs)
