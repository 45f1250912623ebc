"""How far intervals must reach: simulated studies of the same design."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .averaging import Average, combined, kept_averages
from .candidates import Candidate
from .fitting import DISTINCT_NEEDED
from .forecasting import KINDS, interval, standard_errors
from .pooling import Prior, seeds
from .refitting import DRAWN, refit
from .resampling import Draws, noise_sds, t_quantile, wild_targets
from .series import Series

DRAWS_A_STUDY = 29  # resamples of a simulated study: enough for a standard deviation

DRAWS_EACH = 60  # resamples of a simulated study


@dataclass(frozen=True)
class Calibration:
    """How far an interval must reach, found in simulated studies, and how often it then held the truth in others.

    reach: standard errors to each side; coverage: by series and kind, (series, kinds); simulations: of the coverage.
    """

    reach: tuple[float, ...]
    coverage: NDArray
    simulations: int


def calibrated(
    found: Sequence[Average],
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
    truths = [place for place, one in enumerate(kept) if one.form != "size"] or [*range(len(kept))]
    each = max(-(-simulations // (2 * len(truths))), 1)
    work = partial(_simulate, found=found, kept=kept, ats=ats, prior=prior, simulations=2 * each, seed=seed)
    pivots = list(_processes().map(work, truths))
    reach, held = [], []
    for place in range(len(KINDS)):
        first, second = (
            [np.concatenate([truth[series][place][half] for truth in pivots]) for series in range(len(found))]
            for half in (slice(each), slice(each, None))
        )
        simulated = np.quantile(np.concatenate([rows.ravel() for rows in first]), level)
        reach.append(max(float(simulated), t_quantile(level, _degrees_of_all(found))))
        held.append([(rows <= reach[-1]).mean() for rows in second])
    return Calibration(tuple(reach), np.array(held).T, each * len(truths))


@cache
def _processes() -> ProcessPoolExecutor:
    """Processes that stay for the next simulation, as starting them takes seconds."""
    return ProcessPoolExecutor(mp_context=get_context("spawn"))  # a kernel has threads; forking breaks them


def _degrees_of_all(found: Sequence[Average]) -> int:
    """Degrees of freedom of all independent runs together; series of the same runs count once."""
    by_runs: dict[tuple[str, ...], int] = {}
    for average in found:
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
    sizes = np.unique(np.concatenate([one.table["N"] for one in all_series]))
    tables = []
    for fitted in range(DISTINCT_NEEDED, len(sizes)):
        nexts = [one.end[one.end["N"] == sizes[fitted]] for one in all_series]
        enough = [one.sizes_below(sizes[fitted]) >= DISTINCT_NEEDED for one in all_series]
        measured = [place for place, rows in enumerate(nexts) if len(rows) and enough[place]]
        if not measured:
            continue
        found = kept_averages([all_series[place].below(sizes[fitted]) for place in measured], kept, prior, draws)
        ats = [nexts[place][["rung", "N", "D"]].drop_duplicates() for place in measured]
        reach = calibrated(found, ats, kept, prior, level=level, simulations=simulations).reach
        for average, at, place in zip(found, ats, measured, strict=True):
            made = average.forecast(at.assign(**average.series.labels, rungs_fitted=fitted), level, reach)
            actual = nexts[place]["value"].mean()
            inside = (made["lo"] <= actual) & (actual <= made["hi"])
            tables.append(made.assign(actual=actual, error=made["forecast"] - actual, covered=inside))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _simulate(
    truth: int,
    found: Sequence[Average],
    kept: Sequence[Candidate],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    simulations: int,
    seed: int,
) -> list[list[NDArray]]:
    """Errors in standard errors, of each series and kind (simulations, n), with the kept law of this place as truth."""
    true = [average.laws[kept[truth].name] for average in found]
    rngs = [np.random.default_rng([*number, truth]) for number in seeds([draws.fit for draws in true], seed)]
    drawn = np.random.default_rng([seed, truth]).integers(len(true[0].coefficients), size=simulations)
    values, truths = [], []
    for average, draws, at, rng in zip(found, true, ats, rngs, strict=True):
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
    parts = [_refitted(one, found, values, ats, prior, seed) for one in kept]
    pivots = []
    for place, numbers in enumerate(truths):
        centres = np.stack([part[place][0] for part in parts])  # (laws, simulations, n)
        mine = []
        for kind, number in enumerate(numbers):
            centre, sd = combined(centres, np.stack([part[place][1][kind] for part in parts]))
            mine.append(np.abs(number - centre) / np.maximum(sd, 1e-300))
        pivots.append(mine)
    return pivots


def _noise_between(draws: Draws, rows: float, simulations: int, rng: np.random.Generator) -> NDArray:
    """Standard deviation between runs (simulations, 1), drawn anew for each: so few runs hardly tell it.

    The mean square of runs, n·between² + within², is the found one over χ²/degrees (Gelman et al., Bayesian Data
    Analysis, 2013, section 3.2).
    """
    found = rows * draws.between_sd**2 + draws.within_sd**2
    square = found * draws.degrees / rng.chisquare(draws.degrees, size=(simulations, 1))
    return np.sqrt(np.maximum(square - draws.within_sd**2, 0.0) / rows)


def _refitted(
    candidate: Candidate,
    found: Sequence[Average],
    values: Sequence[NDArray],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    seed: int,
) -> list[tuple[NDArray, tuple[NDArray, NDArray]]]:
    """Each series' centres (simulations, n) and standard errors, one for each kind, of a law refitted to values."""
    fits = [average.laws[candidate.name].fit for average in found]
    if candidate.form == "size":
        ends = [one.series.table.index.get_indexer(one.series.end.index) for one in found]
        values = [value[:, end] for value, end in zip(values, ends, strict=True)]
    numbers = [law.law.to_scale(value) for law, value in zip(fits, values, strict=True)]
    centres = candidate.refit(fits, numbers, prior)
    targets, residuals = [], []
    for one, number, mine, number_seed in zip(fits, numbers, centres, seeds(fits, seed + 1), strict=True):
        fitted = one.law.predict(mine, one.data["N"], one.data["D"])
        residuals.append(number - one.law.to_scale(fitted))
        wild = wild_targets(one, residuals[-1], fitted, DRAWS_A_STUDY, number_seed)
        targets.append(one.law.to_scale(wild.reshape(-1, one.rows)))
    starts = [np.repeat(mine, DRAWS_A_STUDY, axis=0) for mine in centres]
    drawn = candidate.refit(fits, targets, prior, starts, seed + 1)
    parts = []
    for one, mine, left, each, at in zip(fits, centres, residuals, drawn, ats, strict=True):
        N, D = at["N"].to_numpy(float), at["D"].to_numpy(float)
        predictions = one.law.predict(each, N, D).reshape(len(mine), DRAWS_A_STUDY, len(N))
        between, within = (sd[:, None] for sd in noise_sds(one, left))
        errors = standard_errors(one, predictions, between, within)
        parts.append((one.law.predict(mine, N, D, scale=one.law.scale), errors))
    return parts


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
    rows, there = (fit.data["N"], fit.data["D"]), (at[size].to_numpy(float), at[exposure].to_numpy(float))
    sd = np.hypot(draws.between_sd, draws.within_sd)

    def noisy(values: NDArray) -> NDArray:
        numbers = fit.law.to_scale(values, fit.scale)
        return fit.law.from_scale(numbers + rng.normal(scale=sd, size=(simulations, len(values))), fit.scale)

    values = noisy(fit.predict(*rows))
    centres = refit(fit, values, patience=DRAWN)
    fitted = fit.law.predict(centres, *rows)
    residuals = fit.law.to_scale(values, fit.scale) - fit.law.to_scale(fitted, fit.scale)
    targets = wild_targets(fit, residuals, fitted, DRAWS_EACH, rng).reshape(-1, fit.rows)
    drawn = refit(fit, targets, start=np.repeat(centres, DRAWS_EACH, axis=0), patience=DRAWN)
    predictions = fit.law.predict(drawn, *there).reshape(simulations, DRAWS_EACH, -1)
    errors = standard_errors(fit, predictions, *(found[:, None] for found in noise_sds(fit, residuals)))
    forecast, truth, found = fit.law.predict(centres, *there), fit.predict(*there), {}
    for kind, error, true in zip(KINDS, errors, (truth, noisy(truth)), strict=True):
        lo, hi = interval(fit, forecast, error, level, draws.degrees)
        found[kind] = ((lo <= true) & (true <= hi)).mean(axis=0)
    return found
