"""Two steps: forecast the contrastive entropy, then read the ranking metric off it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .fitting import Fit
from .forms import joint_law
from .law import Curve, Law
from .pooling import Grid, Prior, pool, refit_pooled, squares_fit
from .rows import measurements
from .scales import Scale, to_scale
from .series import Series


@dataclass(frozen=True)
class TwoStepLaw(Curve):
    """log gap = power · log entropy − level, the entropy following its own law of size and exposure.

    No entropy is no gap: a model that always ranks the relevant document first has neither. Two-step forecasts: arXiv
    2403.08540 (a downstream error as a function of the loss).
    """

    entropy: Law | None = None
    name = "two-step"

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Level and power, then the coefficients of the entropy's law."""
        return ("level", "power", *self.entropy.coefficient_names)

    def predict(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """The metric that goes with the entropy's prediction (..., n), on `scale`; arguments as in `Curve`."""
        coefficients = np.asarray(coefficients, float)
        log_entropy = self.entropy.predict(coefficients[..., 2:], N, D, scale="gap")
        numbers = coefficients[..., :1] - coefficients[..., 1:2] * log_entropy
        return self.convert(numbers, "gap", scale)


def link(numbers: NDArray, log_entropy: NDArray) -> NDArray:
    """Level and power (B, 2): least squares of numbers on the gap's scale (B, n) on log entropies (B, n)."""
    centred = log_entropy - log_entropy.mean(1, keepdims=True)
    power = -(centred * numbers).sum(1) / (centred**2).sum(1)
    return np.stack([numbers.mean(1) + power * log_entropy.mean(1), power], axis=1)


def fit_two_step(all_series: Sequence[Series], prior: Prior) -> list[Fit]:
    """Fit entropies by the pooled joint law, every other metric through the entropy of the same runs."""
    entropies = {index: series for index, series in enumerate(all_series) if not series.rising}
    laws = [joint_law(False, series.limits, series.scale) for series in entropies.values()]
    pooled = pool(laws, [series.table for series in entropies.values()], prior, size="N", exposure="D")
    fits = dict(zip(entropies, pooled, strict=True))
    return [
        fits[index] if index in fits else _read_off(fits[series.entropy_among(all_series)], series)
        for index, series in enumerate(all_series)
    ]


def _read_off(entropy: Fit, series: Series) -> Fit:
    """The fit of a metric that is read off the entropy of the same runs."""
    data = measurements(series.table, "N", "D")
    law = TwoStepLaw(("N", "D"), series.rising, series.limits, series.scale, entropy.law)
    numbers = to_scale("gap", data["value"].to_numpy(float), series.rising, series.limits)
    log_entropy = entropy.law.to_scale(entropy.data["value"].to_numpy(float), "gap")
    coefficients = np.concatenate([link(numbers[None], log_entropy[None])[0], entropy.vector])
    return squares_fit(law, data, coefficients, entropy.status)


def refit_two_step(
    fits: Sequence[Fit], numbers: Sequence[NDArray], prior: Prior, seed: int | None = None
) -> list[NDArray]:
    """Coefficients (B, k) of every fit for other numbers (B, rows) on the gap's scale; seed: as in `refit_pooled`."""
    entropies = [index for index, fit in enumerate(fits) if not isinstance(fit.law, TwoStepLaw)]
    grids = [Grid.of(fits[index].law, fits[index].data) for index in entropies]
    refitted = refit_pooled(grids, [numbers[index] for index in entropies], prior, seed)
    coefficients = dict(zip(entropies, refitted, strict=True))
    for index, fit in enumerate(fits):
        if isinstance(fit.law, TwoStepLaw):
            entropy = next(other for other in entropies if np.array_equal(fits[other].vector, fit.vector[2:]))
            linked = link(numbers[index], numbers[entropy])
            coefficients[index] = np.concatenate([linked, coefficients[entropy]], axis=1)
    return [coefficients[index] for index in range(len(fits))]
