"""Values of single queries: read, and averaged with intervals."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from rankscale_utils.machine.files import read_parquet
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study


def over_queries(values: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the mean over queries of every group, with its 95 % interval: the columns of `by`, value, lo, hi."""
    means = values.groupby(by, sort=False)["value"].agg(mean_with_interval)
    return pd.DataFrame(means.tolist(), means.index, ["value", "lo", "hi"]).reset_index()


def per_query(study: Study, runs: list[Run]) -> pd.DataFrame:
    """Return the values of every query: query_id, metric, value, collection, run, objective, rung, seed, exposure, …"""
    tables = [read_parquet(paths.per_query_file(study.run_folder(run))) for run in runs]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def mean_with_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over queries and the ends of its t interval, which are NaN for a single query."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, np.nan, np.nan
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - reach, mean + reach
