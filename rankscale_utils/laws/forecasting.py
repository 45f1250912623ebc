"""Forecast larger runs, with an interval for the law's mean and one for a new run."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .fitting import Fit
from .resampling import Draws, add_on_scale, check_level, robust_sd, spare_runs, t_quantile

KINDS = ("mean_law", "new_run")

LABELS = ("objective", "metric", "collection", "task", "score")  # what tells measurements apart, where tables have it


def forecast(
    draws: Draws,
    at: pd.DataFrame,
    *,
    level: float = 0.95,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Forecast at each row's size and exposure: where the law's mean lies, and where one new run would.

    at: columns `size` and `exposure`; other columns are carried along. Returns two rows for each row of `at` (kind
    mean_law and new_run) with forecast, lo, hi, level, kind, law, status and persistence, the measured mean of the
    largest fitted size at that exposure ("no change"). Raises ValueError where a column is missing or the level is
    not between 0 and 1.
    """
    check_level(level)
    for name in (size, exposure):
        if name not in at:
            raise ValueError(f"column {name!r} is missing from the rows to forecast; add it, or name the one to use")
    N, D = at[size].to_numpy(float), at[exposure].to_numpy(float)
    centre = draws.fit.predict(N, D)
    law_sd, run_sd = standard_errors(draws.fit, draws.predict(N, D), draws.between_sd, draws.within_sd)
    tables = []
    for kind, sd in zip(KINDS, (law_sd, run_sd), strict=True):
        lo, hi = interval(draws.fit, centre, sd, level, draws.degrees)
        table = at.assign(forecast=centre, lo=lo, hi=hi, level=level, kind=kind, law=draws.fit.law.name)
        tables.append(table.assign(status=draws.fit.status, persistence=of_largest(draws.fit, D)))
    return pd.concat(tables, ignore_index=True)


def standard_errors(fit: Fit, predictions: NDArray, between_sd: NDArray, within_sd: NDArray) -> tuple[NDArray, NDArray]:
    """Standard errors (..., n) of the law's mean and of a new run on the fit's scale.

    predictions: (..., draws, n) of the drawn laws; between_sd, within_sd: one number, or (..., 1).
    """
    law_sd = robust_sd(fit.law.to_scale(predictions, fit.scale))
    return law_sd, np.sqrt(law_sd**2 + between_sd**2 + within_sd**2)


def interval(fit: Fit, centre: NDArray, sd: NDArray, level: float, degrees: int) -> tuple[NDArray, NDArray]:
    """Values of the ends (..., n), centre ± t · sd, clipped to the limits that the metric is known to have.

    centre: values in the metric's units; sd: on the fit's scale, where it is added.
    A law that passes through every run leaves nothing to judge it by: its interval is all that the limits allow.
    """
    if spare_runs(fit) < 1:
        return tuple(np.full_like(centre, limit) for limit in fit.law.limits)
    reach = t_quantile(level, degrees) * sd
    return tuple(np.clip(add_on_scale(fit, centre, side * reach), *fit.law.limits) for side in (-1, 1))


def of_largest(fit: Fit, D: NDArray) -> NDArray:
    """Measured mean (n,) over runs of the largest fitted size at exposures D (n,), linear in log exposure between."""
    largest = fit.data[fit.data["N"] == fit.data["N"].max()].groupby("D")["value"].mean()
    return np.interp(np.log(D), np.log(largest.index), largest)


def score_forecasts(
    forecasts: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Forecasts with what was measured: actual, error, relative_error, covered and skill.

    truth: columns run, `size`, `exposure`, value, and those of `LABELS`, and rung, that forecasts have.
    actual: mean over runs; error: forecast − actual; covered: for mean_law 1 where the interval holds the actual, for
    new_run the share of single runs that it holds; skill: 1 − |error| / |error of persistence|; interval_score:
    see there. A forecast without truth keeps empty cells. Raises ValueError where no forecast has any.
    """
    keys = [size, exposure, *(name for name in (*LABELS, "rung") if name in forecasts and name in truth)]
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
