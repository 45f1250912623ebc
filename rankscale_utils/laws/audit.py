"""Audit forecasts: against the truth, against the ladder's own past, and in simulation."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .fitting import DISTINCT_NEEDED, Problem, fit
from .forecasting import KINDS, forecast, interval, standard_errors
from .forms import Law
from .refitting import DRAWN, refit
from .resampling import Draws, add_on_scale, noise_sds, resample, wild_targets
from .scales import Scale

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


def backtest(
    law: Law,
    table: pd.DataFrame,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
    scale: Scale = "value",
    noise: float | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Forecast each rung from the smaller ones, as if it had been held out, at its largest exposure.

    Arguments as in `fit`, `resample` and `forecast`. Returns scored forecasts with rungs_fitted, the number of sizes
    each was made from; no rows where the ladder has too few sizes to leave one out.
    """
    sizes = np.sort(table[size].unique())
    carried = [name for name in ("rung", *LABELS) if name in table]
    scored = []
    for fitted in range(DISTINCT_NEEDED, len(sizes)):
        smaller, following = table[table[size] < sizes[fitted]], table[table[size] == sizes[fitted]]
        last = following[following[exposure] == following[exposure].max()]
        past = fit(law, smaller, size=size, exposure=exposure, scale=scale, noise=noise)
        at = last[[*carried, size, exposure]].drop_duplicates()
        made = forecast(resample(past, draws=draws, seed=seed), at, level=level, size=size, exposure=exposure)
        scored.append(score(made.assign(rungs_fitted=fitted), last, size=size, exposure=exposure))
    return pd.concat(scored, ignore_index=True) if scored else pd.DataFrame()


def coverage(
    draws: Draws,
    at: pd.DataFrame,
    *,
    level: float = 0.95,
    simulations: int = 100,
    draws_each: int = 99,
    seed: int = 0,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """How often intervals made this way cover the truth, on this very design with the noise found in it.

    Runs and checkpoints are simulated around the fitted law at the same sizes and exposures, refitted, resampled
    `draws_each` times and forecast at the rows of `at`; the truths are the fitted law and a new run around it. Only
    the form of the law and where Huber's loss turns are taken as known.
    Returns two rows for each row of `at` (kind mean_law and new_run) with level, coverage and simulations.
    """
    fitted, rng = draws.fit, np.random.default_rng(seed)
    problem = Problem.of(fitted.law, fitted.data, fitted.scale)
    N, D = at[size].to_numpy(float), at[exposure].to_numpy(float)
    design = fitted.data["N"].to_numpy(), fitted.data["D"].to_numpy()
    runs = np.unique(fitted.data["run"], return_inverse=True)[1]

    values = _with_noise(draws, np.tile(fitted.predict(*design), (simulations, 1)), runs, rng)
    coefficients = refit(fitted, values, patience=DRAWN)
    centres = fitted.law.predict(coefficients, *design)
    residuals = problem.on_scale(values) - problem.on_scale(centres)
    targets = wild_targets(fitted, residuals, centres, draws_each, rng).reshape(-1, fitted.rows)
    drawn = refit(fitted, targets, start=np.repeat(coefficients, draws_each, axis=0), patience=DRAWN)
    predictions = fitted.law.predict(drawn, N, D).reshape(simulations, draws_each, len(N))
    between_sd, within_sd = (sd[:, None] for sd in noise_sds(fitted, residuals))

    mean = np.tile(fitted.predict(N, D), (simulations, 1))
    truths = mean, _with_noise(draws, mean, np.arange(len(N)), rng)
    tables = []
    for kind, sd, truth in zip(KINDS, standard_errors(fitted, predictions, between_sd, within_sd), truths, strict=True):
        lo, hi = interval(fitted, fitted.law.predict(coefficients, N, D), sd, level, draws.degrees)
        inside = ((lo <= truth) & (truth <= hi)).mean(0)
        tables.append(at.assign(kind=kind, level=level, coverage=inside, simulations=simulations))
    return pd.concat(tables, ignore_index=True)


def _with_noise(draws: Draws, values: NDArray, runs: NDArray, rng: np.random.Generator) -> NDArray:
    """Values (simulations, n) with the noise of runs, whose index is (n,), and of checkpoints."""
    between = rng.normal(scale=draws.between_sd, size=(len(values), runs.max() + 1))[:, runs]
    return add_on_scale(draws.fit, values, between + rng.normal(scale=draws.within_sd, size=values.shape))
