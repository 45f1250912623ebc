"""How far a study's forecasts would move had its test held other queries of the same kind."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from rankscale_utils import laws
from rankscale_utils.machine.files import read_parquet
from rankscale_utils.measurements.mean_of_tests import tests_of
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .design import design_of_series
from .fit import Fitted

DRAWS = 300  # of the queries: enough for a standard error


def on_other_queries(
    study: Study, fitted: Sequence[Fitted], forecasts: Sequence[pd.DataFrame], design: pd.DataFrame
) -> list[pd.DataFrame]:
    """Add to each average query_lo and query_hi: its interval had the test held other queries of the same kind.

    The test's queries are resampled, the same ones for every model of a collection. The interval's half and the
    queries' part add in quadrature on the series' scale.
    """
    values = pd.concat([read_parquet(paths.per_query_file(study.run_folder(run))) for run in study.fitted_runs])
    shifts = [_shifts(one, values, study) for one in fitted]
    ats = [design_of_series(one, design) for one in fitted]
    errors = laws.query_errors([one.average for one in fitted], shifts, ats)
    widened = []
    for one, table, at, sd in zip(fitted, forecasts, ats, errors, strict=True):
        series, reach = one.average.series, norm.ppf((1 + study.forecasting.level) / 2)
        averages = table["law"] == "average"
        part = reach * table["rung"].map(dict(zip(at["rung"], sd, strict=True)))
        centre, lo, hi = (series.on_scale(table[name].to_numpy()) for name in ("forecast", "lo", "hi"))
        ends = [
            series.off_scale(centre + np.sign(end - centre) * np.hypot(end - centre, part)).clip(*series.limits)
            for end in (lo, hi)
        ]
        widened.append(
            table.assign(query_lo=np.where(averages, ends[0], np.nan), query_hi=np.where(averages, ends[1], np.nan))
        )
    return widened


def _shifts(one: Fitted, values: pd.DataFrame, study: Study) -> NDArray:
    """Return how a series' rows change when its test's queries are drawn anew, or those of each test behind a mean."""
    same = (values["metric"] == one.metric) & (values["task"] == one.task) & (values["score"] == one.score)
    tests = tests_of(one.collection, values[same])
    drawn = [
        laws.query_shifts(_query_values(one, test, values, study), DRAWS, number) for number, test in enumerate(tests)
    ]
    return np.mean(drawn, axis=0)


def _query_values(one: Fitted, test: str, values: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return what every query of a test (columns) gave the rows that laws see of a series; all metrics have all."""
    values = values[(values["collection"] == test) & (values["task"] == one.task)]
    same = (values["metric"] == one.metric) & (values["score"] == one.score)
    mine = values[same & values["run"].isin(one.table["run"])]
    wide = mine.astype({"exposure": float}).pivot(index=["run", "exposure"], columns="query_id", values="value")
    windows = laws.averaged(wide.reset_index(), study.forecasting.checkpoints, study.forecasting.burn_in)
    rows = pd.MultiIndex.from_frame(one.table[["run", "exposure"]])
    return windows.set_index(["run", "exposure"]).loc[rows].reindex(columns=sorted(values["query_id"].unique()))
