"""Partial pooling: what a series cannot tell alone, the other series of the study and what is known before tell it.

Each of a study's series has its own slopes, exponents and noise, scattered around the study's; the study's are
scattered around what is known of all ladders. A series that disagrees with the others is pulled less, and pulls less
(Student's t).
Source: Gelman et al., Bayesian Data Analysis (2013), chapter 5.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .known import Belief, Known
from .posterior import Posterior
from .series import Series

DEGREES = 4.0  # of Student's t: how readily a series is thought to disagree
ROUNDS = 3  # of the study's centre and the weights that follow from it
LEAST_VARIANCE = 1e-4  # of a logarithm


@dataclass(frozen=True)
class Likelihood:
    """What a series' runs alone say of a logarithm: centre and variance, infinite where they say nothing."""

    centre: float
    variance: float

    @classmethod
    def of(cls, moments: tuple[float, float] | None, belief: Belief) -> "Likelihood":
        """Posterior moments less the belief that went into them."""
        if moments is None:
            return cls(belief.centre, np.inf)
        mean, variance = moments
        precision = 1 / max(variance, LEAST_VARIANCE) - 1 / belief.spread**2
        if precision <= 1e-6:
            return cls(belief.centre, np.inf)
        return cls((mean / max(variance, LEAST_VARIANCE) - belief.centre / belief.spread**2) / precision, 1 / precision)


def pooled(
    all_series: Sequence[Series], fits: Sequence[Sequence[tuple[Posterior, float]]], known: Known
) -> list[Known]:
    """What each series may believe once the others have been seen.

    fits: of each series, its forms' posteriors with their weights, as they follow from `known` alone.
    """
    moments = [_moments(of_series) for of_series in fits]
    sets = [_evidence(series) for series in all_series]
    believed: list[dict[str, Belief]] = [{} for _ in all_series]
    for name, belief in known.beliefs.items():
        likelihoods = [Likelihood.of(of_series.get(name), belief) for of_series in moments]
        for index, beliefs in enumerate(believed):
            beliefs[name] = _seen(index, likelihoods, sets, belief)
    return [replace(known, **beliefs) for beliefs in believed]


def _evidence(series: Series) -> tuple[str, ...]:
    """What a series' evidence comes from: its runs and the test; other metrics of both say nearly the same."""
    test = [str(series.labels.get(name)) for name in ("collection", "task")]
    return (*test, *sorted(series.table["run"].unique()))


def _moments(of_series: Sequence[tuple[Posterior, float]]) -> dict[str, tuple[float, float]]:
    """Mean and variance of every logarithm over the forms."""
    by_form = [(posterior.moments(), weight) for posterior, weight in of_series]
    moments = {}
    for name in by_form[0][0]:
        mean = sum(weight * told[name][0] for told, weight in by_form)
        square = sum(weight * (told[name][1] + told[name][0] ** 2) for told, weight in by_form)
        moments[name] = (float(mean), float(square - mean**2))
    return moments


def _seen(index: int, likelihoods: Sequence[Likelihood], sets: Sequence[tuple[str, ...]], belief: Belief) -> Belief:
    """One series' belief after the others'; metrics of the same runs and test, near copies, count as one together."""
    within = belief.within**2
    shared = max(belief.spread**2 - within, 1e-9)
    copies, centre = Counter(runs for other, runs in enumerate(sets) if other != index), belief.centre
    precision = 1 / shared
    for _ in range(ROUNDS):
        precision, total = 1 / shared, belief.centre / shared
        for other, (likelihood, runs) in enumerate(zip(likelihoods, sets, strict=True)):
            if other != index and np.isfinite(likelihood.variance):
                weight = _robust(likelihood, centre, within) / copies[runs]
                precision, total = precision + weight, total + weight * likelihood.centre
        centre = total / precision
    own = likelihoods[index]
    variance = within + 1 / precision
    if np.isfinite(own.variance):  # far from all others: it may be
        variance *= max(1.0, (DEGREES + _squared_distance(own, centre, variance)) / (DEGREES + 1))
    spread = float(np.sqrt(min(variance, 4 * belief.spread**2)))
    return Belief(float(np.exp(centre)), spread, min(belief.within, spread))


def _robust(likelihood: Likelihood, centre: float, within: float) -> float:
    """Precision that a series lends to the study's centre."""
    distance = _squared_distance(likelihood, centre, within)
    return (DEGREES + 1) / (DEGREES + distance) / (likelihood.variance + within)


def _squared_distance(likelihood: Likelihood, centre: float, variance: float) -> float:
    return (likelihood.centre - centre) ** 2 / (likelihood.variance + variance)
