"""Which law? Every form is fitted, and what they say is averaged by how well each explains the runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from rankscale_utils.machine.parallel import each

from .forecasting import KINDS, of_largest
from .known import Known
from .local import forms
from .pooling import pooled
from .posterior import Posterior, posterior
from .resampling import Draws
from .series import Series

TRUST = 0.3  # power of a form's evidence: none of the forms is true, so evidence decides less than it would
FIRST_DRAWS = 200  # of a series alone, before it is pooled
FEW, FEWEST = 400, 8  # draws to search by: of all forms, and of one at least
NEIGHBOURHOOD = 0.05  # of the draws' spread: a draw stands for what lies so near
STEPS, CLOSE = 100, 1e-10  # to a quantile: most of them, and how near to its share ends them
BLOCK = 16  # places whose quantiles are sought at once: so few that a core's cache holds them, six times as fast as all
SMALLEST = 1e-12  # standard deviation, and density


@dataclass(frozen=True)
class Average:
    """One series' posteriors by form; their forecasts are a mixture, weighed by the forms' evidence."""

    series: Series
    posteriors: dict[str, Posterior]

    @cached_property
    def weights(self) -> dict[str, float]:
        """Each form's share of the mixture."""
        return dict(zip(self.posteriors, weights_of([*self.posteriors.values()]).tolist(), strict=True))

    @cached_property
    def laws(self) -> dict[str, Draws]:
        """Each form as a law with draws of its coefficients."""
        return {name: made.draws for name, made in self.posteriors.items()}

    def forecast(self, at: pd.DataFrame, level: float = 0.95, kinds: Sequence[str] = KINDS) -> pd.DataFrame:
        """Forecast at the rows' N and D; returns a row of each kind for each, as `laws.forecast` does, by the average.

        The forecast is the mixture's median, lo and hi its quantiles: of the laws and what they are wrong by beyond the
        runs (`mean_law`), and of the noise of one new run besides (`new_run`).
        """
        N, D = at["N"].to_numpy(float), at["D"].to_numpy(float)
        mixture = self.mixture(N, D)
        forecast, tables = self._middle(mixture), []
        unchanged = of_largest(self._first.draws.fit, D)
        for kind in kinds:
            ends = [self.series.off_scale(mixture.quantile(kind, (1 + side * level) / 2)) for side in (-1, 1)]
            lo, hi = np.minimum(*ends), np.maximum(*ends)
            tables.append(at.assign(forecast=forecast, lo=lo, hi=hi, level=level, kind=kind))
        made = pd.concat(tables, ignore_index=True)
        names = " + ".join(name for name, weight in self.weights.items() if weight >= 0.01)
        return made.assign(law="average", status=names, persistence=np.tile(unchanged, len(kinds)))

    def median(self, N: NDArray, D: NDArray) -> NDArray:
        """Forecasts (n,) at sizes and exposures (n,)."""
        return self._middle(self.mixture(N, D))

    def _middle(self, mixture: "Mixture") -> NDArray:
        return self.series.off_scale(mixture.quantile(KINDS[0], 0.5))

    def mixture(self, N: NDArray, D: NDArray) -> "Mixture":
        """What the drawn laws say at sizes and exposures (n,)."""
        parts = [_said(made, N, D) for made in self.posteriors.values()]
        centres, *spreads = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        counts = [len(made.theta) for made in self.posteriors.values()]
        shares = np.concatenate(
            [np.full(count, self.weights[name] / count) for name, count in zip(self.weights, counts, strict=True)]
        )
        near = NEIGHBOURHOOD * np.sqrt(shares @ (centres - shares @ centres) ** 2)
        sds = {kind: np.maximum(spread, near) for kind, spread in zip(KINDS, spreads, strict=True)}
        return Mixture(centres, sds, shares, np.repeat([*self.posteriors], counts))

    def thinned(self, number: int, N: float, D: float) -> "Average":
        """The same average with about so many draws, a form's share of them its weight.

        They are spread evenly over the order of what they say at a size and exposure, so that they say there together
        nearly what all do.
        """
        kept = {}
        for name, made in self.posteriors.items():
            order = np.argsort(made.said(np.array([N]), np.array([D]))[:, 0], kind="stable")
            count = min(len(order), max(FEWEST, round(number * self.weights[name])))
            kept[name] = made.take(order[((np.arange(count) + 0.5) * len(order) / count).astype(int)])
        return Average(self.series, kept)

    @cached_property
    def few(self) -> "Average":
        """Draws enough to search by."""
        return self.thinned(FEW, *self.series.reference)

    @property
    def _first(self) -> Posterior:
        return next(iter(self.posteriors.values()))


@dataclass(frozen=True)
class Mixture:
    """Drawn laws at n places: their numbers on the series' scale (parts, n), and the share and form of each, (parts,).

    sds: standard deviations around them, (parts, n), by kind of interval.
    """

    centres: NDArray
    sds: dict[str, NDArray]
    shares: NDArray
    forms: NDArray

    def quantile(self, kind: str, share: float) -> NDArray:
        """Numbers (n,) below which the mixture has this share."""
        return mixture_quantile(self.centres, self.sds[kind], self.shares, share)

    def below(self, kind: str, numbers: NDArray) -> NDArray:
        """Share (n,) of the mixture that lies below numbers (n,)."""
        return self.shares @ ndtr((numbers - self.centres) / np.maximum(self.sds[kind], SMALLEST))


def _said(made: Posterior, N: NDArray, D: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Numbers (draws, n) of a form on the series' scale, and their standard deviations for each kind."""
    centres, (u, v) = made.said(N, D), made.problem.series.away(N, D)
    by_size, by_exposure, noise = (sds[:, None] for sds in made.doubts)
    along = by_exposure * (np.maximum(v, 0) if "D" in made.problem.local.axes else np.abs(v))
    wrong = np.broadcast_to(np.hypot(by_size * np.maximum(u, 0), along), centres.shape)
    return centres, wrong, np.hypot(wrong, noise)


def mixture_quantile(centres: NDArray, sds: NDArray, shares: NDArray, share: float) -> NDArray:
    """Quantiles (n,) of mixtures of normal distributions with centres and standard deviations (parts, n).

    shares: (parts,), of the mixture.
    """
    found = np.empty(centres.shape[1])
    for start in range(0, len(found), BLOCK):
        places = slice(start, start + BLOCK)
        block = (np.ascontiguousarray(numbers[:, places]) for numbers in (centres, sds))
        found[places] = _block_quantile(*block, shares, share)
    return found


def _block_quantile(centres: NDArray, sds: NDArray, shares: NDArray, share: float) -> NDArray:
    """Quantiles by Newton's steps, halving the range in which they must lie where a step leaves it."""
    sds = np.maximum(sds, SMALLEST)
    low, high = (centres - 9 * sds).min(0), (centres + 9 * sds).max(0)
    middle = shares @ centres
    found = middle + ndtri(share) * np.sqrt(shares @ ((centres - middle) ** 2 + sds**2))
    for _ in range(STEPS):
        distance = (found - centres) / sds
        excess = shares @ ndtr(distance) - share
        far = np.abs(excess) > CLOSE
        if not far.any():
            break
        low, high = np.where(excess < 0, found, low), np.where(excess < 0, high, found)
        density = shares @ (np.exp(-0.5 * distance**2) / sds) / np.sqrt(2 * np.pi)
        step = found - excess / np.maximum(density, SMALLEST)
        moved = np.where((low < step) & (step < high), step, (low + high) / 2)
        found = np.where(far, moved, found)
    return found


def averages(all_series: Sequence[Series], known: Known, draws: int, names: Sequence[str] = ()) -> list[Average]:
    """Fit every form to every series, first alone and then pooled; returns an Average for each series.

    names: of the forms that are averaged (none: all). A form that comes nowhere near the values of a series is left
    out of its average.
    """
    first = each(partial(alone, known=known, names=names), all_series)
    if len(all_series) == 1:
        believed = [known]
    else:
        weighed = [[*zip(made.values(), weights_of([*made.values()]), strict=True)] for made in first]
        believed = pooled(all_series, weighed, known)
    return each(partial(_average, draws=draws, names=names), all_series, believed)


def _average(series: Series, known: Known, draws: int, names: Sequence[str]) -> Average:
    return Average(series, _of_series(series, known, draws, names))


def alone(series: Series, known: Known, names: Sequence[str] = ()) -> dict[str, Posterior]:
    """Return every form's posterior for a series before it is pooled."""
    return _of_series(series, known, FIRST_DRAWS, names)


def _of_series(series: Series, known: Known, draws: int, names: Sequence[str]) -> dict[str, Posterior]:
    made, reasons = {}, [f"no form of {', '.join(names)} is a law of {' and '.join(series.axes)}; name another"]
    for name, local in forms(series.axes).items():
        if not names or name in names:
            try:
                made[name] = posterior(local, series, known, draws)
            except ValueError as error:  # also where its linear algebra has no solution
                reasons.append(str(error))
    if not made:
        raise ValueError(reasons[-1])
    return made


def weights_of(posteriors: Sequence[Posterior]) -> NDArray:
    """Return each posterior's share of the mixture, (posteriors,)."""
    evidence = TRUST * np.array([made.log_evidence for made in posteriors])
    weights = np.exp(evidence - evidence.max())
    return weights / weights.sum()
