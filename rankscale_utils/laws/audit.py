"""Score forecasts against the truth."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LABELS = ("objective", "metric", "collection")  # columns that tell measurements apart, where a table has them


def score(
    forecasts: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Forecasts with what was measured: actual, error, relative_error, covered and skill.

    truth: columns run, `size`, `exposure`, value, and objective, metric and collection where forecasts have them.
    actual: mean over runs; error: forecast − actual; covered: for mean_law 1 where the interval holds the actual, for
    new_run the share of single runs that it holds; skill: 1 − |error| / |error of persistence|; interval_score:
    see there. A forecast without truth keeps empty cells. Raises ValueError where no forecast has any.
    """
    keys = [size, exposure, *(name for name in LABELS if name in forecasts and name in truth)]
    scored = forecasts.assign(order=range(len(forecasts))).astype({size: float, exposure: float})
    runs = scored.merge(truth[[*keys, "value"]].astype({size: float, exposure: float}), on=keys)
    if runs.empty:
        raise ValueError(f"no measured row shares its {', '.join(keys)} with a forecast; measure what was forecast")
    inside = runs["value"].between(runs["lo"], runs["hi"]).groupby(runs["order"]).mean()
    actual = runs.groupby("order")["value"].mean().reindex(scored["order"]).to_numpy()
    error = forecasts["forecast"].to_numpy() - actual
    mean_inside = np.where(np.isnan(actual), np.nan, (forecasts["lo"] <= actual) & (actual <= forecasts["hi"]))
    change = np.abs(forecasts["persistence"].to_numpy() - actual)
    return forecasts.assign(
        actual=actual,
        error=error,
        relative_error=error / actual,
        covered=np.where(forecasts["kind"] == "mean_law", mean_inside, inside.reindex(scored["order"])),
        skill=1 - np.abs(error) / np.where(change > 0, change, np.nan),
        interval_score=interval_score(forecasts, actual),
    )


def interval_score(forecasts: pd.DataFrame, actual: NDArray) -> NDArray:
    """Width of each interval plus 2/(1 − level) times how far the truth lies outside; smaller is better.

    Source: Gneiting and Raftery, Journal of the American Statistical Association 102 (2007), eq. 43.
    """
    lo, hi, level = (forecasts[name].to_numpy(float) for name in ("lo", "hi", "level"))
    return hi - lo + 2 / (1 - level) * np.maximum(np.maximum(lo - actual, actual - hi), 0)
