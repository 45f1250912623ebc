"""A form of law beside the runs of a series, and all that a good θ keeps small.

Laws live on the metric's own scale or on its gap's; noise lives on the series' scale, where it is even (transform both
sides: Carroll and Ruppert, JASA 79, 1984). A row's residual is

    noise of its checkpoint + noise of its run + what the law itself is wrong by,

the last growing with the distance from the end of the largest fitted rung, which forecasts start from: the law has to
be right there (model discrepancy: Kennedy and O'Hagan, J. R. Stat. Soc. B 63, 2001). So far checkpoints and small rungs
count less, and so do forecasts far beyond the ladder.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .known import Belief, Known
from .local import Local
from .scales import gap, slope
from .series import Series

LATE = 0.7  # distance in log exposure from a run's end within which checkpoints tell the noise of one
LEAST_NOISE = 1e-4  # of a checkpoint, on the series' scale: metrics have digits
SMALLEST_GAP = 1e-3  # share of the limits' distance; nearer to a limit slopes are taken at it
LEAST_STEEP = 0.2  # of the median slope that is known: no ladder is taken to be flatter
DEEPEST = 1.0  # logarithm by which a law's gap at the reference may lie below the measured one
NUDGE = 1e-5  # to differentiate


@dataclass(frozen=True)
class Noise:
    """Noise (b,) on the series' scale: between runs, of a checkpoint, and how fast the law goes wrong with exposure."""

    between: NDArray
    within: NDArray
    drift: NDArray

    def take(self, index: NDArray) -> "Noise":
        """The noise at some places."""
        return Noise(self.between[index], self.within[index], self.drift[index])


@dataclass(frozen=True)
class LocalProblem:
    """A form, the rows of a series and what is known before: everything that a posterior follows from."""

    local: Local
    series: Series
    known: Known

    def discrepancy(self, slopes: ArrayLike) -> NDArray:
        """What a law of these slopes is wrong by a factor e away (...), on the series' scale: steeper ones by more."""
        return self.known.discrepancy * np.sqrt(np.asarray(slopes) * self.known.size_slope.median)

    @cached_property
    def steepness(self) -> float:
        """How far runs' ends move a factor e in size, on the series' scale; or a fifth of what is known."""
        return max(abs(self.series.moved_by_size), LEAST_STEEP * self.known.size_slope.median)

    @cached_property
    def log_slope(self) -> float:
        """Logarithm of how far the series' scale moves with the logarithm of the gap, at the reference."""
        series = self.series
        low, high = series.limits
        margin = SMALLEST_GAP * (high - low) if np.isfinite(high) else 0.0
        value = np.clip(series.off_scale(np.array([self.series.end])), low + margin, high - margin)
        return float(np.log(np.abs(slope(series.scale, value, series.rising, series.limits) * self._gap(value)))[0])

    def _gap(self, values: NDArray) -> NDArray:
        return np.maximum(gap(values, self.series.rising, self.series.limits), 1e-12)

    def natural(self, theta: NDArray) -> NDArray:
        """Natural coefficients (..., k) of the form's law."""
        law = self.local.law(self.series.rising, self.series.limits)
        return self.local.natural(theta, *self.series.reference, law)

    def slopes(self, theta: NDArray) -> NDArray:
        """Logarithms of how far the series' scale moves with the axes at the reference, (..., axes)."""
        return self.local.slopes(theta) + self.log_slope

    def numbers(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """Numbers (..., n) on the series' scale."""
        gaps, (low, high) = np.exp(self.local.log_gap(theta, u, v)), self.series.limits
        return self.series.on_scale(high - gaps if self.series.rising else low + gaps)

    def beliefs(self, theta: NDArray) -> NDArray:
        """How far θ is from what was known, (..., beliefs), in its standard deviations."""
        numbers = np.concatenate([self.slopes(theta), self.local.exponents(theta)], -1)
        centres, spreads = self._centres_and_spreads
        return np.concatenate([(numbers - centres) / spreads, self.local.shape(theta)], -1)

    @cached_property
    def _centres_and_spreads(self) -> NDArray:
        return np.array([(belief.centre, belief.spread) for belief in self.priors]).T

    @property
    def priors(self) -> list[Belief]:
        """What is known of the slopes, then of the exponents, of the form's axes."""
        axes = len(self.local.axes)
        return [*self._known[:axes], *self._known[2 : 2 + axes]]

    @property
    def _known(self) -> tuple[Belief, ...]:
        known = self.known
        return known.size_slope, known.exposure_slope, known.size_exponent, known.exposure_exponent

    def variances(self, noise: Noise) -> tuple[NDArray, NDArray]:
        """Variance of each run (b, runs), and how much each of its rows tells (b, n)."""
        series = self.series
        between = noise.between[:, None] ** 2 + self._wrong_at_runs
        if not series.share:
            return between, np.ones((len(between), series.runs.shape[1]))
        rows = noise.within[:, None] ** 2 + (noise.drift[:, None] * series.before_end) ** 2
        return between, series.share / rows

    @cached_property
    def _wrong_at_runs(self) -> NDArray:
        """Variance (runs,) of what the law itself is wrong by where runs are."""
        return (self.discrepancy(self.steepness) * self.series.u_of_runs) ** 2

    def whitened(self, residuals: NDArray, noise: Noise) -> NDArray:
        """Residuals (b, rows) as what runs and their checkpoints tell, independent and of variance one."""
        (between, weights), runs = self.variances(noise), self.series.runs
        of_runs = weights @ runs.T
        means = (weights * residuals) @ runs.T / of_runs
        if not self.series.share:
            return means / np.sqrt(between)
        inside = (residuals - means @ runs) * np.sqrt(weights)
        return np.concatenate([means / np.sqrt(between + 1 / of_runs), inside], 1)

    def log_scale(self, noise: Noise) -> NDArray:
        """Logarithm (b,) of the volume that `whitened` divides by."""
        between, weights = self.variances(noise)
        series = self.series
        if not series.share:
            return 0.5 * np.log(between).sum(1)
        return 0.5 * (np.log1p(between * (weights @ series.runs.T)).sum(1) - series.share * np.log(weights).sum(1))

    def residuals(self, theta: NDArray) -> NDArray:
        """What θ (b, k) says less what was measured, (b, n)."""
        return self.numbers(theta, *self.series.places) - self.series.numbers

    def misfit(self, theta: NDArray, noise: Noise) -> NDArray:
        """All that a good θ (b, k) keeps small, (b, m): whitened residuals, then distances from what was known."""
        residuals = self.residuals(theta)
        return np.concatenate([self.whitened(residuals, noise), self.beliefs(theta)], 1)

    def linearised(self, theta: NDArray, noise: Noise) -> tuple[NDArray, NDArray]:
        """The misfit (b, m) and its derivatives (b, m, k)."""
        b, k = theta.shape
        nudged = theta[:, None] + NUDGE * np.eye(k + 1, k, -1)
        misfit = self.misfit(nudged.reshape(-1, k), noise.take(np.repeat(np.arange(b), k + 1))).reshape(b, k + 1, -1)
        return misfit[:, 0], (misfit[:, 1:] - misfit[:, :1]).swapaxes(1, 2) / NUDGE

    def start(self) -> NDArray:
        """θ (k,) that is known before, at the measured end."""
        centres = np.array([belief.centre for belief in self._known]).reshape(2, 2)[:, : len(self.local.axes)]
        low, high = self.bounds
        theta = self.local.start(self._level, centres[0] - self.log_slope, centres[1])
        return np.clip(theta, low + 1e-3, high - 1e-3)

    @cached_property
    def bounds(self) -> tuple[NDArray, NDArray]:
        """Lowest and highest θ, each (k,).

        At its limit a metric is flat under any slope, so that a law which lies there would agree with what is known of
        slopes and with flat runs, and with no value: it has to come near the measured end.
        """
        low, high = (ends.copy() for ends in self.local.bounds)
        low[0] = max(low[0], self._level - DEEPEST)
        return low, high

    @cached_property
    def _level(self) -> float:
        """Logarithm of the measured gap at the reference."""
        return float(np.log(self._gap(self.series.off_scale(np.array([self.series.end]))))[0])

    def noise_of_checkpoints(self, theta: NDArray, noise: Noise) -> Noise:
        """The noise of checkpoints and how fast the law goes wrong with exposure, from residuals at θ (b, k)."""
        series = self.series
        if not series.share:
            return noise
        residuals, runs = self.residuals(theta), series.runs
        _, weights = self.variances(noise)
        means = (weights * residuals) @ runs.T / (weights @ runs.T)
        squares, distance = (residuals - means @ runs) ** 2, series.before_end**2
        spare = max(1 - len(runs) / self._late.sum(), 0.3)
        within = np.maximum(squares[:, self._late].mean(1) / spare, LEAST_NOISE**2)
        drift = np.maximum(((squares - within[:, None]) * distance).sum(1) / max((distance**2).sum(), 1e-12), 0.0)
        return Noise(noise.between, np.sqrt(within), np.sqrt(drift))

    @cached_property
    def _late(self) -> NDArray:
        """Which rows (n,) tell the noise of a checkpoint, as they are near the end of their run."""
        before = np.abs(self.series.before_end)
        nearest = np.sort(before)[: 2 * len(self.series.runs)]
        return before <= max(LATE, float(nearest[-1]))
