"""Resample a fit. The unit of evidence is an independent run: checkpoints of one run never move apart."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

from .fitting import Fit
from .refitting import DRAWN, refit

# Six weights of variance one: Webb, Queen's Economics Department working paper 1315 (2013).
WEBB = np.outer([-1, 1], np.sqrt([0.5, 1.0, 1.5])).ravel()
WILD = 4.0  # a draw further than this many robust standard deviations counts as this far


@dataclass(frozen=True)
class Draws:
    """A fit's coefficients (draws, k) under resampling, and the noise that resampling found.

    degrees: of freedom that a comparison of runs leaves, at least one. between_sd: of a new run around the law;
    within_sd: of a checkpoint around its run's own level; both on the fit's scale. Where no run has two rows,
    between_sd holds all of the noise.
    """

    fit: Fit
    coefficients: NDArray
    degrees: int
    between_sd: float
    within_sd: float

    def predict(self, N: ArrayLike = 1.0, D: ArrayLike = 1.0) -> NDArray:
        """Values (draws, n) of each drawn law at sizes N and exposures D, each (n,) or one number."""
        return self.fit.law.predict(self.coefficients, N, D)


def resample(fit: Fit, *, by: Literal["run"] = "run", draws: int = 1000, seed: int = 0) -> Draws:
    """Wild cluster bootstrap: all residuals of a run are multiplied by one random number, and the law is refitted.

    Residuals are inflated for the coefficients that only runs can tell. Source: Cameron, Gelbach and Miller, Review
    of Economics and Statistics 90 (2008), with Webb's weights for few clusters. Raises ValueError for another `by`.
    """
    if by != "run":
        raise ValueError(f"by is {by!r}; resample by 'run': checkpoints of one run are not independent")
    targets = wild_targets(fit, fit.residuals, fit.predict(fit.data["N"], fit.data["D"]), draws, seed)
    between, within = noise_sds(fit, fit.residuals)
    return Draws(fit, refit(fit, targets, patience=DRAWN), degrees_of_freedom(fit), float(between), float(within))


def wild_targets(fit: Fit, residuals: NDArray, fitted: NDArray, draws: int, seed: int | np.random.Generator) -> NDArray:
    """Values (..., draws, rows): fitted values plus, on the fit's scale, a run's residuals times one Webb weight a run.

    residuals: (..., rows) on the fit's scale; fitted: (..., rows) values.
    """
    rng = np.random.default_rng(seed)
    runs, _ = _run_of_row(fit)
    weights = rng.choice(WEBB, size=(*residuals.shape[:-1], draws, runs.max() + 1))[..., runs]
    inflation = np.sqrt(fit.runs / degrees_of_freedom(fit))
    return add_on_scale(fit, fitted[..., None, :], inflation * weights * residuals[..., None, :])


def noise_sds(fit: Fit, residuals: NDArray) -> tuple[NDArray, NDArray]:
    """Standard deviation (...) between runs and within a run, from residuals (..., rows) on the fit's scale.

    The spread of run means minus what checkpoints alone would give it; degrees of freedom go to the runs for the
    coefficients that only runs can tell and to the checkpoints for the others.
    """
    runs, counts = _run_of_row(fit)
    means = residuals @ (np.eye(len(counts))[runs] / counts)
    inside = ((residuals - means[..., runs]) ** 2).sum(-1)
    others = len(fit.coefficients) - _between(fit)
    within = inside / max(fit.rows - fit.runs - others, 1)
    between = (means**2).sum(-1) / degrees_of_freedom(fit) - within * (1 / counts).mean()
    return np.sqrt(np.maximum(between, 0.0)), np.sqrt(within)


def degrees_of_freedom(fit: Fit) -> int:
    """Runs less the coefficients that only runs can tell, at least one."""
    return max(1, spare_runs(fit))


def spare_runs(fit: Fit) -> int:
    """Runs beyond the coefficients that only runs can tell; with none the law passes through every run."""
    return fit.runs - _between(fit)


def robust_sd(draws: NDArray) -> NDArray:
    """Standard deviation (..., n) of draws (..., draws, n), on their scale, wild ones pulled in to `WILD` of it."""
    low, centre, high = np.quantile(draws, [norm.cdf(-1), 0.5, norm.cdf(1)], axis=-2, keepdims=True)
    reach = WILD * (high - low) / 2
    return np.clip(draws, centre - reach, centre + reach).std(axis=-2)


def check_level(level: float) -> None:
    """Raise ValueError where a level is no share between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95")


def t_quantile(level: float, degrees: int) -> float:
    """How many standard deviations a central interval of this level reaches to each side (Student's t)."""
    return float(t.ppf((1 + level) / 2, degrees))


def add_on_scale(fit: Fit, values: NDArray, change: NDArray) -> NDArray:
    """Values moved by a change that is stated on the fit's scale."""
    return fit.law.from_scale(fit.law.to_scale(values, fit.scale) + change, fit.scale)


def _between(fit: Fit) -> int:
    """Coefficients that only runs can tell, all of them where every run has one row; a pooled exponent is none."""
    return (len(fit.coefficients) if fit.rows == fit.runs else fit.law.between_run_coefficients) - fit.pooled


def _run_of_row(fit: Fit) -> tuple[NDArray, NDArray]:
    """Index of each row's run (rows,) and each run's number of rows (runs,)."""
    _, runs, counts = np.unique(fit.data["run"], return_inverse=True, return_counts=True)
    return runs, counts
