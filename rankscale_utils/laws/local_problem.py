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
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .known import Belief, Known
from .local import Local
from .scales import gap, slope
from .series import Series

INDEPENDENT = 2  # checkpoints of a run that count as independent: neighbours share what the law is wrong by
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

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The series' rows; for a law that knows no exposure, those where runs end."""
        return self.series.table if "D" in self.local.axes else self.series.last

    @cached_property
    def z(self) -> NDArray:
        """Measured numbers (n,) on the series' scale."""
        return self.series.on_scale(self.rows["value"].to_numpy(float))

    @cached_property
    def reference(self) -> tuple[float, float]:
        """Size of the largest rung, and its largest exposure."""
        largest = self.rows[self.rows["N"] == self.rows["N"].max()]
        return float(largest["N"].iloc[0]), float(largest["D"].max())

    def away(self, N: NDArray, D: NDArray) -> tuple[NDArray, NDArray]:
        """Logarithms of sizes and exposures (n,) in units of the reference."""
        return np.log(np.asarray(N, float) / self.reference[0]), np.log(np.asarray(D, float) / self.reference[1])

    @cached_property
    def places(self) -> tuple[NDArray, NDArray]:
        """Where the rows are (n,)."""
        return self.away(self.rows["N"], self.rows["D"])

    @cached_property
    def runs(self) -> NDArray:
        """1 where a row is of a run, (runs, n)."""
        _, run = np.unique(self.rows["run"], return_inverse=True)
        return (np.arange(run.max() + 1)[:, None] == run).astype(float)

    @cached_property
    def before_end(self) -> NDArray:
        """Logarithm of exposure in units of the run's own end (n,)."""
        ends = self.rows.groupby("run")["D"].transform("max")
        return np.log(self.rows["D"].to_numpy(float) / ends.to_numpy(float))

    @cached_property
    def share(self) -> float:
        """What a checkpoint beside those of its run counts as evidence; 0 where no run has two."""
        spare = self.runs.shape[1] - len(self.runs)
        return min(1.0, INDEPENDENT * len(self.runs) / spare) if spare else 0.0

    def discrepancy(self, slopes: ArrayLike) -> NDArray:
        """What a law of these slopes is wrong by a factor e away (...), on the series' scale: steeper ones by more."""
        return self.known.discrepancy * np.sqrt(np.asarray(slopes) * self.known.size_slope.median)

    @cached_property
    def steepness(self) -> float:
        """How far runs' ends move a factor e in size, on the series' scale; or a fifth of what is known."""
        ends = self.series.last
        u, _ = self.away(ends["N"], ends["D"])
        moved = np.polyfit(u, self.series.on_scale(ends["value"]), 1)[0] if np.ptp(u) > 0 else 0.0
        return max(abs(float(moved)), LEAST_STEEP * self.known.size_slope.median)

    @cached_property
    def log_slope(self) -> float:
        """Logarithm of how far the series' scale moves with the logarithm of the gap, at the reference."""
        series = self.series
        low, high = series.limits
        margin = SMALLEST_GAP * (high - low) if np.isfinite(high) else 0.0
        value = np.clip(series.off_scale(np.array([self._end])), low + margin, high - margin)
        return float(np.log(np.abs(slope(series.scale, value, series.rising, series.limits) * self._gap(value)))[0])

    @cached_property
    def _end(self) -> float:
        """Mean number at the reference."""
        u, v = self.places
        return float(self.z[(u == 0) & (v >= v[u == 0].max() - 1e-9)].mean())

    def _gap(self, values: NDArray) -> NDArray:
        return np.maximum(gap(values, self.series.rising, self.series.limits), 1e-12)

    def natural(self, theta: NDArray) -> NDArray:
        """Natural coefficients (..., k) of the form's law."""
        law = self.local.law(self.series.rising, self.series.limits)
        return self.local.natural(theta, *self.reference, law)

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
        centres, spreads = np.array([(belief.centre, belief.spread) for belief in self.priors]).T
        return np.concatenate([(numbers - centres) / spreads, self.local.shape(theta)], -1)

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
        u, _ = self.places
        of_run = (self.runs * u).sum(1) / self.runs.sum(1)
        between = noise.between[:, None] ** 2 + (self.discrepancy(self.steepness) * of_run) ** 2
        if not self.share:
            return between, np.ones((len(between), self.runs.shape[1]))
        rows = noise.within[:, None] ** 2 + (noise.drift[:, None] * self.before_end) ** 2
        return between, self.share / rows

    def whitened(self, residuals: NDArray, noise: Noise) -> NDArray:
        """Residuals (b, rows) as what runs and their checkpoints tell, independent and of variance one."""
        between, weights = self.variances(noise)
        of_runs = weights @ self.runs.T
        means = (weights * residuals) @ self.runs.T / of_runs
        if not self.share:
            return means / np.sqrt(between)
        inside = (residuals - means @ self.runs) * np.sqrt(weights)
        return np.concatenate([means / np.sqrt(between + 1 / of_runs), inside], 1)

    def log_scale(self, noise: Noise) -> NDArray:
        """Logarithm (b,) of the volume that `whitened` divides by."""
        between, weights = self.variances(noise)
        if not self.share:
            return 0.5 * np.log(between).sum(1)
        return 0.5 * (np.log1p(between * (weights @ self.runs.T)).sum(1) - self.share * np.log(weights).sum(1))

    def misfit(self, theta: NDArray, noise: Noise) -> NDArray:
        """All that a good θ (b, k) keeps small, (b, m): whitened residuals, then distances from what was known."""
        residuals = self.numbers(theta, *self.places) - self.z
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

    @property
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
        return float(np.log(self._gap(self.series.off_scale(np.array([self._end]))))[0])

    def noise_of_checkpoints(self, theta: NDArray, noise: Noise) -> Noise:
        """The noise of checkpoints and how fast the law goes wrong with exposure, from residuals at θ (b, k)."""
        if not self.share:
            return noise
        residuals = self.numbers(theta, *self.places) - self.z
        _, weights = self.variances(noise)
        means = (weights * residuals) @ self.runs.T / (weights @ self.runs.T)
        squares, distance = (residuals - means @ self.runs) ** 2, self.before_end**2
        nearest = np.sort(np.abs(self.before_end))[: 2 * len(self.runs)]
        late = np.abs(self.before_end) <= max(LATE, float(nearest[-1]))
        spare = max(1 - len(self.runs) / late.sum(), 0.3)
        within = np.maximum(squares[:, late].mean(1) / spare, LEAST_NOISE**2)
        drift = np.maximum(((squares - within[:, None]) * distance).sum(1) / max((distance**2).sum(), 1e-12), 0.0)
        return Noise(noise.between, np.sqrt(within), np.sqrt(drift))
