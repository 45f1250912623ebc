"""Does a metric improve with size beyond its noise? Told by the runs alone, before any law is fitted.

Signal is how far the ends of runs rise in order of size, noise how far one run's end scatters: the ratio of Heineman et
al. (arXiv 2508.13144), with a rise in place of their spread, as a forecast needs an order. They state no threshold;
here it is what ladders of pure noise reach in one of twenty.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import t

from .known import Known
from .series import Series

CHANCE = 0.05  # with which pure noise may look like this, one-sided
KNOWN_DEGREES = 1.0  # of freedom that noise known of other ladders counts as: its logarithm scatters as χ²'s with one
LADDERS = 2000  # of pure noise, that a signal is compared with


@dataclass(frozen=True)
class Trend:
    """How a series' ends move with size, on the series' scale.

    signal: rise from the smallest to the largest rung of the nearest order in which none is worse than a smaller one.
    noise: standard deviation of one run's end. chance: share of ladders of the same runs and pure noise whose signal is
    as large beside its noise. reversal: how far the largest rung is worse than the best smaller one, 0 where it is not.
    turns: whether that is beyond the noise that runs of one rung, and checkpoints, tell.
    """

    signal: float
    noise: float
    chance: float
    reversal: float
    turns: bool

    @property
    def signal_to_noise(self) -> float:
        """Signal in units of the noise."""
        return self.signal / self.noise


def trend(series: Series, known: Known) -> Trend:
    """Return how a series' ends move with size; rungs of equal size count as one."""
    ends = series.last.sort_values("N", kind="stable")
    better = (1 if series.rising else -1) * series.on_scale(ends["value"].to_numpy(float))
    sizes, rung, counts = np.unique(ends["N"], return_inverse=True, return_counts=True)
    along = noise_along(series)
    before = float(np.hypot(known.run_noise.median, _root_mean_square(along)))
    design = tuple(np.log(sizes / sizes[0]).round(9).tolist()), tuple(counts.tolist())
    signal, noise = _signal_and_noise(better, *design, before)
    of_noise = ratios_of_noise(*design, known.run_noise.spread)
    means = np.bincount(rung, better) / counts
    reversal = max(0.0, float(means[:-1].max() - means[-1]))
    spare = len(better) - len(means)
    of_runs = np.sqrt((KNOWN_DEGREES * before**2 + ((better - means[rung]) ** 2).sum()) / (KNOWN_DEGREES + spare))
    reach = t.ppf(1 - CHANCE, KNOWN_DEGREES + spare + len(along)) * of_runs
    turns = reversal > reach * np.sqrt(1 / counts[-1] + 1 / counts[means[:-1].argmax()])
    return Trend(signal, noise, float((of_noise >= signal / noise).mean()), reversal, bool(turns))


def noise_along(series: Series) -> NDArray:
    """Return how far checkpoints lie from where their neighbours would have them, as draws of a checkpoint's noise."""
    runs = [run for _, run in series.table.sort_values("D", kind="stable").groupby("run", sort=False)]
    return np.concatenate(
        [between_neighbours(np.log(run["D"].to_numpy(float)), series.on_scale(run["value"].to_numpy(float)))
         for run in runs]
    )  # fmt: skip


def between_neighbours(x: NDArray, y: NDArray) -> NDArray:
    """Return how far numbers (n,) lie from the lines through their neighbours, (n − 2,), in units of their noise.

    A smooth curve hardly moves it, whatever its form.
    """
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    return (y[1:-1] - (1 - share) * y[:-2] - share * y[2:]) / np.sqrt(1 + share**2 + (1 - share) ** 2)


@cache
def ratios_of_noise(places: tuple[float, ...], counts: tuple[int, ...], spread: float) -> NDArray:
    """Return signal over noise of ladders of pure noise, (LADDERS,).

    places, counts: logarithms of the rungs' sizes, and how many runs each has. spread: of the logarithm of the noise,
    around what is known of it.
    """
    rng = np.random.default_rng(0)
    ladders = np.exp(spread * rng.normal(size=(LADDERS, 1))) * rng.normal(size=(LADDERS, sum(counts)))
    pairs = [_signal_and_noise(better, places, counts, 1.0) for better in ladders]
    return np.array([signal / noise for signal, noise in pairs])


def _signal_and_noise(
    better: NDArray, places: tuple[float, ...], counts: tuple[int, ...], before: float
) -> tuple[float, float]:
    """Rise of the nearest order; noise of runs of one rung and of rungs among their neighbours, beside `before`."""
    rung = np.repeat(np.arange(len(counts)), counts)
    means = np.bincount(rung, better) / counts
    ordered = isotonic_regression(means, weights=counts).x
    draws = np.r_[better - means[rung], between_neighbours(np.array(places), means)]
    spare = len(better) - 2  # runs less the two ends of a line
    noise = np.sqrt((KNOWN_DEGREES * before**2 + (draws**2).sum()) / (KNOWN_DEGREES + spare))
    return float(ordered[-1] - ordered[0]), float(noise)


def _root_mean_square(numbers: NDArray) -> float:
    return float(np.sqrt((numbers**2).mean())) if len(numbers) else 0.0
