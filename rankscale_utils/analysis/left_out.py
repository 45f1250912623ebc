"""Series that no law can be fitted to, each with its reason, so that the others are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.table import SERIES_COLUMNS, at_chance, limits, measured_rows
from rankscale_utils.study.forecasting import Forecasting

NEEDED_RUNGS = 3  # that a size law needs
LEARN_MORE = "random negatives (training.groups.random), more pairs (training.exposures) or other learning rates"
LARGEST = 1e12  # value that laws are fitted to, whose squares must be numbers too
CLOSE = 1e-12  # to a limit, where nothing but rounding parts a value from it


def left_out(table: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return the wanted series of fitted rungs' measurements that cannot be fitted: their labels, `reason`, `remedy`.

    remedy: what to try, where training may change it; else empty.
    """
    groups = table[table["metric"].isin(settings.metrics or table["metric"])].groupby(SERIES_COLUMNS, sort=False)
    found = [(*labels, *_reason(rows, settings)) for labels, rows in groups]
    return pd.DataFrame([row for row in found if row[-2]], columns=[*SERIES_COLUMNS, "reason", "remedy"])


def nothing_to_forecast(table: pd.DataFrame, held_out: Sequence[str]) -> pd.DataFrame:
    """Return the series of a CSV that no held-out rung has a row of, as `left_out` does; no value is looked at."""
    opened = table["rung"].isin(held_out)
    absent = without(table[~opened], table[opened])[SERIES_COLUMNS].drop_duplicates()
    reason = f"no row of it on {' or '.join(held_out)}, so there is nothing to forecast"
    return absent.assign(reason=reason, remedy="")


def without(table: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to none of the series that another table names."""
    keys = pd.MultiIndex.from_frame(table[SERIES_COLUMNS])
    return table[~keys.isin(pd.MultiIndex.from_frame(series[SERIES_COLUMNS]))]


def _reason(rows: pd.DataFrame, settings: Forecasting) -> tuple[str, str]:
    metric, excluded = rows["metric"].iloc[0], rows.get("excluded")
    rows, rises = measured_rows(rows), rising(metric, settings.directions)
    if rows.empty:
        return f"no fitted run left a measurement of it ({'; '.join(excluded.unique())})", LEARN_MORE
    if (largest := rows["value"].max()) > LARGEST:
        return f"{metric} reaches {largest:.3g}, more than any metric does: correct its unit", ""
    if reason := _at_limit(rows, rises):
        return reason, ""
    if np.ptp(rows["value"]) <= CLOSE * largest:
        return f"{metric} is {largest:.4g} in every run, so no law says more than that", ""
    if (rungs := rows["rung"].nunique()) < NEEDED_RUNGS:
        return f"{rungs} fitted rung{'s' * (rungs > 1)} measured: a size law needs {NEEDED_RUNGS}", ""
    if (sizes := rows[size_column(settings)].nunique()) < NEEDED_RUNGS:
        return f"{rungs} fitted rungs of {sizes} size{'s' * (sizes > 1)}: a size law needs {NEEDED_RUNGS} sizes", ""
    ends = rows[rows["exposure"] == rows.groupby("run")["exposure"].transform("max")]
    if at_chance(ends, settings.directions).all():
        chance = f"{'a random order' if rises else 'equal scores'}, {ends['random_order'].iloc[0]:.4f}"
        return f"no fitted run's {metric} is better than that of {chance}", LEARN_MORE
    return "", ""


def size_column(settings: Forecasting) -> str:
    """Return the column that tells a study's sizes apart: FLOPs a pair grow with parameters."""
    return "params" if settings.size == "params" else "params_non_embedding"


def _at_limit(rows: pd.DataFrame, rises: bool) -> str:
    """Say where values leave no gap to the metric's limit, on which laws are fitted, or nothing."""
    metric = rows["metric"].iloc[0]
    low, high = limits(rises, rows["ceiling"].iloc[0] if "ceiling" in rows else None)
    at_limit = rows["value"] >= high - CLOSE if rises else rows["value"] <= low + CLOSE
    if at_limit.all() and rises:
        return f"{metric} is its ceiling, {high:.4g}, in every run: reranking the candidates cannot change it"
    if at_limit.any():
        run, limit = rows["run"][at_limit].iloc[0], high if rises else low
        return f"{metric} is at its limit, {limit:.4g}, in {at_limit.sum()} of {len(rows)} rows, {run}'s among them"
    return ""
