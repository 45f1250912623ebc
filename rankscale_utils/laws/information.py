"""What a fit knows, and how much a further run would tell: linear theory at the fitted coefficients.

On the scale of the fit's residuals (the law's own, where a fit is pooled) a run whose checkpoints have the Jacobian J
(n, k) and the covariance Σ = within²·I + between²·11ᵀ adds the information Jᵀ Σ⁻¹ J. The law's variance at a target
with the derivatives g is gᵀ I⁻¹ g, to which a new run adds between² + within²; the half width is Student's t times the
root of that, and each added run brings one more degree of freedom.

What it takes on trust: the law and its coefficients, noise that is the same at every size, and a fit that weighs its
rows by Σ. Where runs differ in their checkpoints plain least squares is a little less certain.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .fitting import Fit
from .forecasting import interval
from .known import Belief
from .problem import Problem
from .resampling import Draws, check_level, spare_runs, t_quantile

SMALLEST_NOISE = 0.1  # share of the residuals' rmse below which no noise is believed


@dataclass(frozen=True)
class Theory:
    """A fit's linear theory, with its axes in units of the data's middle.

    between, within: standard deviations on the fit's scale, never quite zero.
    """

    fit: Fit
    between: float
    within: float
    degrees: int
    level: float
    prior: Belief | None

    @classmethod
    def of(cls, draws: Draws, prior: Belief | None, level: float) -> "Theory":
        """The theory of a resampled fit; ValueError where its noise, its exponent or the level is unknown."""
        fit = draws.fit
        check_level(level)
        if spare_runs(fit) < 1:
            raise ValueError(f"the law passes through all {fit.runs} runs; train another rung or seed, or pool series")
        if prior is not None and "N" not in fit.law.axes:
            raise ValueError("a data law has no size exponent; leave the prior out")
        floor = max(SMALLEST_NOISE * fit.rmse, 1e-9 * Problem.of(fit.law, fit.data, fit.scale).spread)
        sds = (max(sd, floor) for sd in (draws.between_sd, draws.within_sd))
        return cls(fit, *sds, draws.degrees, level, prior)

    @cached_property
    def problem(self) -> Problem:
        """The fit's units and bounds."""
        return Problem.of(self.fit.law, self.fit.data, self.fit.scale)

    def derivatives(self, N: NDArray, D: NDArray) -> NDArray:
        """Jacobian (n, k) on the fit's scale with respect to the working coefficients."""
        law, units = self.fit.law, dict(zip(self.fit.law.axes, self.problem.units, strict=True))
        coefficients = law.in_units(self.fit.vector, self.problem.units)
        return law.jacobian(coefficients, N / units.get("N", 1.0), D / units.get("D", 1.0), scale=self.fit.scale)

    def of_run(self, N: NDArray, D: NDArray) -> NDArray:
        """Information Jᵀ Σ⁻¹ J (k, k) of one run's n checkpoints.

        Sherman and Morrison's inverse of Σ, written as what checkpoints tell around the run's mean plus what that mean
        tells: both parts are sums of squares, so nothing cancels.
        """
        J, n = self.derivatives(N, D), len(D)
        mean = J.mean(0)
        around = J - mean
        return around.T @ around / self.within**2 + n * np.outer(mean, mean) / (self.within**2 + n * self.between**2)

    @cached_property
    def information(self) -> NDArray:
        """Information (k, k) of the fitted runs, the prior and the coefficients' bounds.

        A bound counts as the variance of a uniform distribution between the bounds: next to nothing, but a coefficient
        that the data say nothing about keeps a finite variance.
        """
        low, high = self.problem.bounds
        total = np.diag(12 / (high - low) ** 2)
        for _, run in self.fit.data.groupby("run"):
            total = total + self.of_run(run["N"].to_numpy(float), run["D"].to_numpy(float))
        if self.prior is not None:
            alpha = self.fit.law.coefficient_names.index("alpha")
            total[alpha, alpha] += 1 / (self.prior.median * self.prior.spread) ** 2
        return total

    def variances(self, information: NDArray, g: NDArray) -> NDArray:
        """The law's variance gᵀ I⁻¹ g (..., targets) for information (..., k, k) and derivatives g (targets, k)."""
        size = 1 / np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))  # coefficients of very unlike size
        scaled = information * size[..., :, None] * size[..., None, :]
        scaled_g = g * size[..., None, :]
        solved = np.linalg.solve(scaled, np.swapaxes(scaled_g, -1, -2))
        return np.maximum(np.einsum("...tk,...kt->...t", scaled_g, solved), 0.0)


@dataclass(frozen=True)
class Goal:
    """What is to be forecast: derivatives (targets, k) and forecasts (targets,) in the metric's unit."""

    theory: Theory
    derivatives: NDArray
    centre: NDArray

    @classmethod
    def of(cls, theory: Theory, target: pd.DataFrame, size: str, exposure: str) -> "Goal":
        """The rows of `target`."""
        N, D = target[size].to_numpy(float), target[exposure].to_numpy(float)
        return cls(theory, theory.derivatives(N, D), theory.fit.predict(N, D))

    def half_widths(self, information: NDArray, added: int) -> tuple[NDArray, NDArray]:
        """Mean half width (...) of the new-run interval on the fit's scale and in the metric's unit.

        information: (..., k, k), with `added` more runs than were fitted.
        """
        theory = self.theory
        variance = theory.variances(information, self.derivatives) + theory.between**2 + theory.within**2
        sd, degrees = np.sqrt(variance), theory.degrees + added
        lo, hi = interval(theory.fit, self.centre, sd, theory.level, degrees)
        return t_quantile(theory.level, degrees) * sd.mean(-1), ((hi - lo) / 2).mean(-1)
