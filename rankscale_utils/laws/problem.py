"""What optimisers work on: a law, the rows it is fitted to, and where a fit starts."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .law import Law
from .scales import Scale, gap, slope

SMALLEST = 1e-3  # an amplitude at the start, in units of the values' spread: positive, so that its logarithm exists


@dataclass(frozen=True)
class Problem:
    """A law, the axes it is fitted on and the scale of its residuals; optimisers work on this.

    Sizes and exposures are counted in units of their geometric mean, which keeps amplitudes and exponents apart.
    """

    law: Law
    N: NDArray
    D: NDArray
    value: NDArray
    scale: Scale

    @classmethod
    def of(cls, law: Law, data: pd.DataFrame, scale: Scale) -> "Problem":
        """The problem of fitting `law` to the columns N, D and value."""
        return cls(law, *(data[name].to_numpy(float) for name in ("N", "D", "value")), scale)

    @cached_property
    def units(self) -> NDArray:
        """Geometric mean of each axis (axes,)."""
        return np.exp([np.log(getattr(self, axis)).mean() for axis in self.law.axes])

    @cached_property
    def axes(self) -> dict[str, NDArray]:
        """Sizes and exposures (n,), the law's axes in their units."""
        units = dict(zip(self.law.axes, self.units, strict=True))
        return {axis: getattr(self, axis) / units.get(axis, 1.0) for axis in ("N", "D")}

    @cached_property
    def spread(self) -> float:
        """How far the values reach on the law's scale, or their size where they are all the same."""
        numbers = self.law.to_scale(self.value)
        return float(np.ptp(numbers) or np.abs(numbers).max() or 1.0)

    @cached_property
    def bounds(self) -> tuple[NDArray, NDArray]:
        """Lowest and highest working coefficients, each (k,)."""
        return self.law.working_bounds(self.spread)

    @cached_property
    def nearest(self) -> float:
        """A hundredth of the smallest measured gap: a law that comes nearer to the limit, or passes it, counts so."""
        return 1e-2 * float(gap(self.value, self.law.rising, self.law.limits).min())

    def on_scale(self, values: NDArray) -> NDArray:
        """Values as numbers on the residuals' scale, none nearer to the limit than `nearest`."""
        if self.scale == "gap":
            limit = self.law.limits[1] - self.nearest if self.law.rising else self.law.limits[0] + self.nearest
            values = np.minimum(values, limit) if self.law.rising else np.maximum(values, limit)
        return self.law.to_scale(values, self.scale)

    def predict(self, working: NDArray) -> NDArray:
        """Predictions (..., n) on the scale, for working coefficients (..., k)."""
        coefficients = self.law.from_working(working)
        if self.scale == self.law.scale:
            return self.law.predict(coefficients, **self.axes, scale=self.scale)
        return self.on_scale(self.law.predict(coefficients, **self.axes))

    def jacobian(self, working: NDArray, predicted: NDArray | None = None) -> NDArray:
        """Derivatives (..., n, k) of `predict`; predicted: what it returned, where that is known already."""
        coefficients = self.law.from_working(working)
        if self.scale == self.law.scale:
            return self.law.jacobian(coefficients, **self.axes, scale=self.scale)
        derivatives = self.law.jacobian(coefficients, **self.axes)
        values = self.law.from_scale(self.predict(working) if predicted is None else predicted, self.scale)
        return derivatives * slope(self.scale, values, self.law.rising, self.law.limits)[..., None]

    def to_working(self, coefficients: NDArray) -> NDArray:
        """Working coefficients in the problem's units, from natural ones in the table's."""
        return self.law.to_working(self.law.in_units(coefficients, self.units))

    def from_working(self, working: NDArray) -> NDArray:
        """Natural coefficients in the table's units."""
        return self.law.in_units(self.law.from_working(working), 1 / self.units)

    def starts(self) -> NDArray:
        """Working coefficients (starts, k) of the variable projection, best first, strictly inside the bounds."""
        weights = slope(self.scale, self.value, self.law.rising, self.law.limits)
        weights /= slope(self.law.scale, self.value, self.law.rising, self.law.limits)
        starts = variable_projection(self.law, **self.axes, y=self.law.to_scale(self.value), weights=weights**2)
        low, high = self.bounds
        margin = 1e-3 * np.minimum(high - low, np.r_[self.spread, np.ones(len(low) - 1)])
        return np.clip(self.law.to_working(starts), low + margin, high - margin)

    def start(self) -> NDArray:
        """The best start (k,)."""
        return self.starts()[0]


def variable_projection(law: Law, N: NDArray, D: NDArray, y: NDArray, weights: NDArray) -> NDArray:
    """Best coefficients (valleys, k) on a grid of shapes, one of each of the law's valleys, best first.

    Given the shapes, the rest is weighted linear least squares. N, D: (n,) sizes and exposures in units of their
    middle; y: (n,) on the law's scale; weights: (n,). The asymptote is clipped to the law's limits and the amplitudes
    are kept positive, so a start always exists.
    """
    shapes = law.shapes()
    terms = law.sign * law.terms(shapes, N, D)  # (choices, terms, n)
    design = np.concatenate([np.ones_like(terms[:, :1]), terms], axis=1)
    gram, moment = (design * weights) @ design.swapaxes(1, 2), design @ (weights * y)

    linear = _solve(gram, moment)
    linear[:, 0] = np.clip(linear[:, 0], *(law.limits if law.scale == "value" else (-np.inf, np.inf)))
    linear[:, 1:] = _solve(gram[:, 1:, 1:], moment[:, 1:] - gram[:, 1:, 0] * linear[:, :1])
    linear[:, 1:] = np.maximum(linear[:, 1:], SMALLEST * (np.ptp(y) or 1.0))

    losses = np.einsum("ci,cij,cj->c", linear, gram, linear) - 2 * (linear * moment).sum(1)
    order = losses.argsort(kind="stable")
    best = order[np.sort(np.unique(law.valleys(shapes[order]), return_index=True)[1])]
    return law.assemble(shapes[best], linear[best])


def _solve(gram: NDArray, moment: NDArray) -> NDArray:
    """Solve every system, each made just regular enough to have a solution."""
    ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(gram.shape[-1]) + 1e-300
    return np.linalg.solve(gram + ridge, moment[..., None])[..., 0]
