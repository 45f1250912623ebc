"""Two steps: forecast the contrastive entropy, then read the ranking metric off it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .fitting import Fit
from .forms import Curve, Law
from .pooling import Grid, Prior, refit_pooled
from .scales import Scale


@dataclass(frozen=True)
class TwoStepLaw(Curve):
    """log gap = power · log entropy − level, the entropy following its own law of size and exposure.

    No entropy is no gap: a model that always ranks the relevant document first has neither. Two-step forecasts: arXiv
    2403.08540 (a downstream error as a function of the loss).
    """

    entropy: Law | None = None
    name = "two-step"

    @property
    def coefficient_names(self) -> tuple[str, ...]:  # noqa: D102
        return ("level", "power", *self.entropy.coefficient_names)

    def predict(  # noqa: D102
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        coefficients = np.asarray(coefficients, float)
        log_entropy = self.entropy.predict(coefficients[..., 2:], N, D, scale="gap")
        numbers = coefficients[..., :1] - coefficients[..., 1:2] * log_entropy
        return self.convert(numbers, "gap", scale)


def link(numbers: NDArray, log_entropy: NDArray) -> NDArray:
    """Level and power (B, 2): least squares of numbers on the gap's scale (B, n) on log entropies (B, n)."""
    centred = log_entropy - log_entropy.mean(1, keepdims=True)
    power = -(centred * numbers).sum(1) / (centred**2).sum(1)
    return np.stack([numbers.mean(1) + power * log_entropy.mean(1), power], axis=1)


def partners(fits: Sequence[Fit]) -> list[int | None]:
    """For each two-step fit the place of the entropy of the same runs and exposures; None for the entropies."""
    keys = [tuple(zip(fit.data["run"], fit.data["D"].round(6), strict=True)) for fit in fits]
    entropies = {key: place for place, (key, fit) in enumerate(zip(keys, fits, strict=True)) if not fit.law.rising}
    return [entropies[key] if fit.law.rising else None for key, fit in zip(keys, fits, strict=True)]


def refit_two_step(
    fits: Sequence[Fit], numbers: Sequence[NDArray], prior: Prior, seed: int | None = None
) -> list[NDArray]:
    """Coefficients (B, k) of every fit for other numbers (B, rows) on the gap's scale; seed: as in `refit_pooled`."""
    places = partners(fits)
    own = [place for place, partner in enumerate(places) if partner is None]
    grids = [Grid.of(fits[place].law, fits[place].data) for place in own]
    entropy = dict(zip(own, refit_pooled(grids, [numbers[place] for place in own], prior, seed), strict=True))
    return [
        entropy[place]
        if partner is None
        else np.concatenate([link(numbers[place], numbers[partner]), entropy[partner]], axis=1)
        for place, partner in enumerate(places)
    ]
