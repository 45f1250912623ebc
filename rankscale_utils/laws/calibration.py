"""How far intervals must reach, and how often they hold the truth: simulated studies of the same design."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from types import ModuleType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rankscale_utils.machine.device import cores

from .averaging import Average, combined, kept_averages
from .candidates import Candidate
from .fitting import DISTINCT_NEEDED, Fit
from .forecasting import KINDS, interval, standard_errors
from .pooling import Prior, seeds
from .resampling import Draws, noise_sds, t_quantile, wild_targets
from .series import Series

RESAMPLES_FOR_REACH = 29  # of a simulated study in `calibrated`: enough for a standard deviation
RESAMPLES_FOR_COVERAGE = 60  # of a simulated study in `coverage`, which has few of them


@dataclass(frozen=True)
class Calibration:
    """How far an interval must reach, found in simulated studies, and how often it then held the truth in others.

    reach: standard errors to each side; coverage: by series and kind, (series, kinds); simulations: of the coverage.
    """

    reach: tuple[float, ...]
    coverage: NDArray
    simulations: int


def calibrated(
    averages: Sequence[Average],
    ats: Sequence[pd.DataFrame],
    kept: Sequence[Candidate],
    prior: Prior,
    *,
    level: float = 0.95,
    simulations: int = 200,
    seed: int = 0,
) -> Calibration:
    """Reach of the average's intervals on this very design, with the noise found in it: a parametric bootstrap-t.

    Each kept law in turn (of those that know exposure, if any does) is the truth of an equal share of the simulated
    studies, its coefficients one of its resamples; runs and checkpoints get the noise that it found, that between runs
    drawn anew, and metrics of the same runs the same draws of it. All kept laws are fitted, pooled, resampled and
    averaged as in the study. One half of the studies says how many standard errors hold the truth with the wanted
    level, the other half how often that many do. Simulation knows the noise that it makes, so the reach is never less
    than Student's t at the degrees of freedom of all independent runs. Which laws are kept is taken as known.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 12.5.
    """
    truths = [index for index, candidate in enumerate(kept) if candidate.form != "size"] or [*range(len(kept))]
    half = max(-(-simulations // (2 * len(truths))), 1)
    work = partial(_simulate, averages=averages, kept=kept, ats=ats, prior=prior, simulations=2 * half, seed=seed)
    with _no_script():
        pivots = list(_processes().map(work, truths))
    least, reach, held = t_quantile(level, _degrees_of_all(averages)), [], []
    for kind in range(len(KINDS)):
        first, second = (
            [np.concatenate([truth[series][kind][rows] for truth in pivots]) for series in range(len(averages))]
            for rows in (slice(half), slice(half, None))
        )
        simulated = np.quantile(np.concatenate([errors.ravel() for errors in first]), level)
        reach.append(max(float(simulated), least))
        held.append([(errors <= reach[-1]).mean() for errors in second])
    return Calibration(tuple(reach), np.array(held).T, half * len(truths))


@cache
def _processes() -> ProcessPoolExecutor:
    """Processes that stay for the next simulation, as starting them takes seconds."""
    spawn = get_context("spawn")  # a kernel has threads; forking breaks them
    return ProcessPoolExecutor(cores(), mp_context=spawn, initializer=_one_thread)


def _one_thread() -> None:
    """Let matrix products use one thread: last digits depend on their number, and processes share the cores."""
    threadpool_limits(1)


@contextmanager
def _no_script() -> Iterator[None]:
    """Keep processes that start within from running the caller's script once more, as spawned ones do for its names."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _degrees_of_all(averages: Sequence[Average]) -> int:
    """Degrees of freedom of all independent runs together; series of the same runs count once."""
    by_runs: dict[tuple[str, ...], int] = {}
    for average in averages:
        runs = tuple(sorted(average.series.table["run"].unique()))
        by_runs[runs] = min(by_runs.get(runs, average.degrees), average.degrees)
    return sum(by_runs.values())


def expanding_intervals(
    all_series: Sequence[Series],
    kept: Sequence[Candidate],
    prior: Prior,
    level: float,
    draws: int,
    simulations: int,
) -> pd.DataFrame:
    """The average's own past: every rung forecast from the three or more smaller ones, with calibrated intervals.

    Returns the rows of `Average.forecast` with the series' labels, rung, rungs_fitted, actual, error and covered.
    """
    sizes = np.unique(np.concatenate([series.table["N"] for series in all_series]))
    tables = []
    for fitted in range(DISTINCT_NEEDED, len(sizes)):
        following = [series.end[series.end["N"] == sizes[fitted]] for series in all_series]
        measured = [
            (series, rows)
            for series, rows in zip(all_series, following, strict=True)
            if len(rows) and series.sizes_below(sizes[fitted]) >= DISTINCT_NEEDED
        ]
        if not measured:
            continue
        averages = kept_averages([series.below(sizes[fitted]) for series, _ in measured], kept, prior, draws)
        ats = [rows[["rung", "N", "D"]].drop_duplicates() for _, rows in measured]
        reach = calibrated(averages, ats, kept, prior, level=level, simulations=simulations).reach
        for average, at, (series, rows) in zip(averages, ats, measured, strict=True):
            forecasts = average.forecast(at.assign(**series.labels, rungs_fitted=fitted), level, reach)
            actual = rows["value"].mean()
            inside = (forecasts["lo"] <= actual) & (actual <= forecasts["hi"])
            tables.append(forecasts.assign(actual=actual, error=forecasts["forecast"] - actual, covered=inside))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _simulate(
    truth: int,
    averages: Sequence[Average],
    kept: Sequence[Candidate],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    simulations: int,
    seed: int,
) -> list[list[NDArray]]:
    """Errors in standard errors, of each series and kind (simulations, n), with the kept law of this index as truth."""
    true = [average.laws[kept[truth].name] for average in averages]
    rngs = [np.random.default_rng([*number, truth]) for number in seeds([draws.fit for draws in true], seed)]
    drawn = np.random.default_rng([seed, truth]).integers(len(true[0].coefficients), size=simulations)
    values, truths = [], []
    for average, draws, at, rng in zip(averages, true, ats, rngs, strict=True):
        table = average.series.table
        runs, names = pd.factorize(table["run"])
        laws = draws.coefficients[drawn]
        mean = average.series.on_scale(draws.fit.law.predict(laws, table["N"], table["D"]))
        between = _noise_between(draws, len(table) / len(names), simulations, rng)
        shift = (rng.normal(size=(simulations, len(names))) * between)[:, runs]
        noisy = mean + shift + rng.normal(size=(simulations, len(table)), scale=draws.within_sd)
        values.append(average.series.off_scale(noisy))
        expected = average.series.on_scale(draws.fit.law.predict(laws, at["N"], at["D"]))
        noise = rng.normal(size=(simulations, len(at))) * np.hypot(between, draws.within_sd)
        truths.append((expected, expected + noise))
    by_law = [_forecasts(candidate, averages, values, ats, prior, seed) for candidate in kept]
    pivots = []
    for series, numbers in enumerate(truths):
        centres = np.stack([forecasts[series][0] for forecasts in by_law])  # (laws, simulations, n)
        errors = []
        for kind, number in enumerate(numbers):
            centre, sd = combined(centres, np.stack([forecasts[series][1][kind] for forecasts in by_law]))
            errors.append(np.abs(number - centre) / np.maximum(sd, 1e-300))
        pivots.append(errors)
    return pivots


def _noise_between(draws: Draws, rows: float, simulations: int, rng: np.random.Generator) -> NDArray:
    """Standard deviation between runs (simulations, 1), drawn anew for each: so few runs hardly tell it.

    The mean square of runs, n·between² + within², is the found one over χ²/degrees (Gelman et al., Bayesian Data
    Analysis, 2013, section 3.2).
    """
    mean_square = rows * draws.between_sd**2 + draws.within_sd**2
    square = mean_square * draws.degrees / rng.chisquare(draws.degrees, size=(simulations, 1))
    return np.sqrt(np.maximum(square - draws.within_sd**2, 0.0) / rows)


def _forecasts(
    candidate: Candidate,
    averages: Sequence[Average],
    values: Sequence[NDArray],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    seed: int,
) -> list[tuple[NDArray, tuple[NDArray, NDArray]]]:
    """Each series' centres (simulations, n) and standard errors, one for each kind, of a law refitted to values.

    All on the series' scale.
    """
    fits = [average.laws[candidate.name].fit for average in averages]
    if candidate.form == "size":
        ends = [average.series.table.index.get_indexer(average.series.end.index) for average in averages]
        values = [rows[:, end] for rows, end in zip(values, ends, strict=True)]
    there = [(at["N"].to_numpy(float), at["D"].to_numpy(float)) for at in ats]
    resampled = _refitted(candidate, fits, values, there, prior, RESAMPLES_FOR_REACH, seeds(fits, seed + 1), seed + 1)
    return [
        (fit.law.predict(coefficients, N, D, scale=fit.law.scale), errors)
        for fit, (N, D), (coefficients, errors) in zip(fits, there, resampled, strict=True)
    ]


def _refitted(
    candidate: Candidate,
    fits: Sequence[Fit],
    values: Sequence[NDArray],
    there: Sequence[tuple[NDArray, NDArray]],
    prior: Prior,
    resamples: int,
    wild_seeds: Sequence[list[int] | np.random.Generator],
    prior_seed: int,
) -> list[tuple[NDArray, tuple[NDArray, NDArray]]]:
    """Refit and resample simulated studies as the study itself was.

    values: (simulations, rows) of each fit; there: sizes and exposures (n,) that are forecast. Returns for each fit its
    coefficients (simulations, k) and the standard errors (simulations, n), one for each kind, on the fit's scale.
    """
    numbers = [fit.law.to_scale(rows, fit.scale) for fit, rows in zip(fits, values, strict=True)]
    centres = candidate.refit(fits, numbers, prior)
    targets, residuals = [], []
    for fit, measured, coefficients, wild_seed in zip(fits, numbers, centres, wild_seeds, strict=True):
        fitted = fit.law.predict(coefficients, fit.data["N"], fit.data["D"])
        residuals.append(measured - fit.law.to_scale(fitted, fit.scale))
        wild = wild_targets(fit, residuals[-1], fitted, resamples, wild_seed)
        targets.append(fit.law.to_scale(wild.reshape(-1, fit.rows), fit.scale))
    starts = [np.repeat(coefficients, resamples, axis=0) for coefficients in centres]
    drawn = candidate.refit(fits, targets, prior, starts, prior_seed)
    refitted = []
    for fit, coefficients, left, resampled, (N, D) in zip(fits, centres, residuals, drawn, there, strict=True):
        predictions = fit.law.predict(resampled, N, D).reshape(len(coefficients), resamples, len(N))
        between, within = (sd[:, None] for sd in noise_sds(fit, left))
        refitted.append((coefficients, standard_errors(fit, predictions, between, within)))
    return refitted


def coverage(
    draws: Draws,
    at: pd.DataFrame,
    *,
    level: float = 0.95,
    simulations: int = 200,
    seed: int = 0,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> dict[str, NDArray]:
    """Share of simulated studies whose intervals hold the truth, (n,) for each kind of `forecast`.

    A simulated study has the law that was fitted, its design, and noise as large as was found in every run; it is
    fitted, resampled and forecast as the study was. Every run has one row. at: columns `size` and `exposure`, as in
    `forecast`. The law's form is taken as known, so real intervals hold the truth at most as often.
    """
    fit, rng = draws.fit, np.random.default_rng(seed)
    N, D = at[size].to_numpy(float), at[exposure].to_numpy(float)
    sd = np.hypot(draws.between_sd, draws.within_sd)

    def noisy(values: NDArray) -> NDArray:
        numbers = fit.law.to_scale(values, fit.scale)
        return fit.law.from_scale(numbers + rng.normal(scale=sd, size=(simulations, len(values))), fit.scale)

    alone, values = Candidate(fit.law.name, pooled=False), noisy(fit.predict(fit.data["N"], fit.data["D"]))
    simulated = _refitted(alone, [fit], [values], [(N, D)], Prior(), RESAMPLES_FOR_COVERAGE, [rng], seed)
    ((coefficients, errors),) = simulated
    forecast, truth, held = fit.law.predict(coefficients, N, D), fit.predict(N, D), {}
    for kind, error, true in zip(KINDS, errors, (truth, noisy(truth)), strict=True):
        lo, hi = interval(fit, forecast, error, level, draws.degrees)
        held[kind] = ((lo <= true) & (true <= hi)).mean(axis=0)
    return held
