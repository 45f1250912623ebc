"""Series that no law can be fitted to, each with its reason, so that the others are."""

from collections.abc import Sequence

import pandas as pd

from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.table import SERIES_COLUMNS, limits, measured_rows
from rankscale_utils.study.forecasting import Forecasting

NEEDED_RUNGS = 3  # that a size law needs
CLOSE = 1e-12  # to a limit, where nothing but rounding parts a value from it


def left_out(table: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return the series of fitted rungs' measurements that cannot be fitted: their labels and `reason`, a row each."""
    rows = measured_rows(table)
    groups = rows[rows["metric"].isin(settings.metrics or rows["metric"])].groupby(SERIES_COLUMNS, sort=False)
    reasons = [(*labels, _reason(rows, rising(labels[1], settings.directions))) for labels, rows in groups]
    return pd.DataFrame([row for row in reasons if row[-1]], columns=[*SERIES_COLUMNS, "reason"])


def nothing_to_forecast(table: pd.DataFrame, held_out: Sequence[str]) -> pd.DataFrame:
    """Return the series of a CSV that no held-out rung has a row of, as `left_out` does; no value is looked at."""
    opened = table["rung"].isin(held_out)
    absent = without(table[~opened], table[opened])[SERIES_COLUMNS].drop_duplicates()
    return absent.assign(reason=f"no row of it on {' or '.join(held_out)}, so there is nothing to forecast")


def without(table: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to none of the series that another table names."""
    keys = pd.MultiIndex.from_frame(table[SERIES_COLUMNS])
    return table[~keys.isin(pd.MultiIndex.from_frame(series[SERIES_COLUMNS]))]


def _reason(rows: pd.DataFrame, rises: bool) -> str:
    metric = rows["metric"].iloc[0]
    low, high = limits(rises, rows["ceiling"].iloc[0] if "ceiling" in rows else None)
    at_limit = rows["value"] >= high - CLOSE if rises else rows["value"] <= low + CLOSE
    if at_limit.all() and rises:
        return f"{metric} is its ceiling, {high:.4g}, in every run: reranking the candidates cannot change it"
    if at_limit.any():
        run, limit = rows["run"][at_limit].iloc[0], high if rises else low
        return f"{metric} is at its limit, {limit:.4g}, in {at_limit.sum()} of {len(rows)} rows, {run}'s among them"
    if (rungs := rows["rung"].nunique()) < NEEDED_RUNGS:
        return f"{rungs} fitted rung{'s' * (rungs > 1)} measured: a size law needs {NEEDED_RUNGS}"
    return ""
