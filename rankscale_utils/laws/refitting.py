"""Refit one law to many variants of its data at once: a damped Gauss–Newton iteration on all of them together.

SciPy's `least_squares` in a loop finds the same minima of the same Huber loss within the same bounds, only slower.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankscale_utils.machine.device import cores

from .fitting import Fit
from .problem import Problem

BATCH = 250  # refits that move together: their arrays stay in the processor's cache
AT_BOUND = 1e-9  # distance at which a coefficient counts as being at its bound


@dataclass(frozen=True)
class Patience:
    """When a refit stops: after so many iterations, or when the loss falls by no more than this share."""

    iterations: int
    settled: float


EXACT = Patience(400, 1e-10)  # most refits need ten iterations; along a curved valley a few need hundreds
DRAWN = Patience(100, 1e-8)  # for draws, whose spread such valleys hardly change: a third of the time


def refit(
    fit: Fit,
    targets: NDArray,
    weights: NDArray | None = None,
    start: NDArray | None = None,
    patience: Patience = EXACT,
) -> NDArray:
    """Coefficients (B, k) of the fit's law on its own design, for other values.

    targets: (B, rows) values in place of the measured ones; weights: (B, rows) of each row's loss (None: all one);
    start: (B, k) coefficients to start from (None: the fit's). Huber's loss turns where the fit's did.
    """
    problem = Problem.of(fit.law, fit.data, fit.scale)
    targets = problem.on_scale(np.atleast_2d(targets))
    weights = np.broadcast_to(1.0 if weights is None else weights, targets.shape)
    start = np.broadcast_to(fit.vector if start is None else start, (len(targets), len(fit.vector)))
    working = np.clip(problem.to_working(start), *problem.bounds)

    def settle(batch: slice) -> None:
        descent = _Descent(problem, targets[batch], weights[batch], fit.noise, patience)
        working[batch] = descent.minimise(working[batch])

    batches = [slice(first, first + BATCH) for first in range(0, len(targets), BATCH)]
    with ThreadPoolExecutor(cores()) as threads:  # NumPy lets go of the interpreter inside its loops
        list(threads.map(settle, batches))
    return problem.from_working(working)


@dataclass(frozen=True)
class _Descent:
    """The same law pulled to a batch of targets (b, n) with weights (b, n) under Huber's loss."""

    problem: Problem
    targets: NDArray
    weights: NDArray
    noise: float
    patience: Patience

    def minimise(self, working: NDArray) -> NDArray:
        """Working coefficients (b, k) at the minimum, from a start within the bounds."""
        working = working.copy()
        moving, damping = np.arange(len(working)), np.full(len(working), 0.1)
        residuals = self.problem.predict(working) - self.targets
        loss = self._loss(residuals, moving)
        for _ in range(self.patience.iterations):
            step = self._step(working[moving], residuals[moving], moving, damping[moving])
            share = self._share_within_bounds(working[moving], step)
            proposed = np.clip(working[moving] + share[:, None] * step, *self.problem.bounds)
            new_residuals = self.problem.predict(proposed) - self.targets[moving]
            new_loss = self._loss(new_residuals, moving)
            better = new_loss <= loss[moving]
            small = loss[moving] - new_loss <= self.patience.settled * loss[moving]
            settled = better & small & (share == 1) & (damping[moving] < 1)  # a shortened step proves nothing
            damping[moving] *= np.where(better, 0.2, 4.0)
            accepted = moving[better]
            working[accepted], residuals[accepted] = proposed[better], new_residuals[better]
            loss[accepted] = new_loss[better]
            moving = moving[~(settled | (damping[moving] > 1e8))]
            if not len(moving):
                break
        return working

    def _loss(self, residuals: NDArray, rows: NDArray) -> NDArray:
        size = np.abs(residuals)
        inner = np.minimum(size, self.noise)
        return (self.weights[rows] * inner * (size - 0.5 * inner)).sum(1)

    def _step(self, working: NDArray, residuals: NDArray, rows: NDArray, damping: NDArray) -> NDArray:
        """Newton's step on the rows within the noise, damped by the curvature of Huber's reweighted squares."""
        jacobian = self.problem.jacobian(working, residuals + self.targets[rows])
        weights, size = self.weights[rows], np.abs(residuals)
        gradient = (weights * np.clip(residuals, -self.noise, self.noise))[:, None, :] @ jacobian
        reweighted = weights * self.noise / np.maximum(size, self.noise)
        damped = weights * (size <= self.noise) + damping[:, None] * reweighted
        curvature = (jacobian * damped[..., None]).swapaxes(1, 2) @ jacobian
        diagonal = (reweighted[:, None, :] @ jacobian**2)[:, 0]
        ridge = 1e-3 * damping[:, None] * diagonal + 1e-14 * diagonal.max(1, keepdims=True)
        curvature += ridge[..., None] * np.eye(ridge.shape[1])
        return self._inward(working, curvature, -gradient[:, 0])

    def _inward(self, working: NDArray, curvature: NDArray, downhill: NDArray) -> NDArray:
        """Solve for the step (b, k), holding coefficients at a bound that it would push outward."""
        at_low, at_high = (np.isclose(working, bound, rtol=0, atol=AT_BOUND) for bound in self.problem.bounds)
        free = np.ones(working.shape, bool)
        for _ in range(working.shape[1] + 1):
            held = np.where(free, 0.0, 1.0)[..., None] * np.eye(working.shape[1])
            reduced = curvature * free[:, :, None] * free[:, None, :] + held
            step = np.linalg.solve(reduced, (downhill * free)[..., None])[..., 0]
            outward = (at_low & (step < 0)) | (at_high & (step > 0))
            if not outward.any():
                break
            free &= ~outward
        return step

    def _share_within_bounds(self, working: NDArray, step: NDArray) -> NDArray:
        """How much (b,) of each step stays within the bounds."""
        low, high = self.problem.bounds
        room = np.where(step > 0, high - working, working - low)
        return np.min(room / np.maximum(np.abs(step), 1e-300), axis=1).clip(0.0, 1.0)
