"""What all law forms share: a metric as a function of the size N and the exposure D.

A form knows nothing of data. The words: *coefficients* are the natural ones, in the order of `coefficient_names`;
*working* coefficients are what optimisers move (those that must be positive as logarithms). A form adds its terms on
its `scale` (see `scales`): on "gap" it can never pass the limits that the metric is known to have. *Numbers* are on a
scale, *values* in the metric's own units.

Every `Law` is separable: given its `shapes` (exponents, and what else bends the curve) it is linear in the rest.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import scales
from .scales import SCALES, Scale, slope


@dataclass(frozen=True)
class Curve(ABC):
    """What every forecast needs: a metric as a function of size and exposure, on a scale of its own.

    axes: ("N",), ("D",) or ("N", "D"). limits: the metric's (lowest, highest) value; on the scale "value" they bound
    the asymptote, on "gap" the whole curve.
    """

    axes: tuple[str, ...]
    rising: bool
    limits: tuple[float, float]
    scale: Scale = "value"

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables and figures call the form."""

    @property
    @abstractmethod
    def coefficient_names(self) -> tuple[str, ...]:
        """Names in the order of a coefficient array's last axis."""

    @abstractmethod
    def predict(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """Predictions (..., n) for coefficients (..., k) at sizes N and exposures D, each (n,) or one number.

        scale: of what is returned: values in the metric's units by default, else numbers on that scale.
        """

    @property
    def between_run_coefficients(self) -> int:
        """How many coefficients only a comparison of runs can tell: the level, and the size term where there is one."""
        return 1 + 2 * ("N" in self.axes)

    def to_scale(self, values: ArrayLike, scale: Scale | None = None) -> NDArray:
        """Values as numbers on a scale (None: the form's own)."""
        return scales.to_scale(scale or self.scale, values, self.rising, self.limits)

    def from_scale(self, numbers: ArrayLike, scale: Scale | None = None) -> NDArray:
        """Values from numbers on a scale (None: the form's own)."""
        return scales.from_scale(scale or self.scale, numbers, self.rising, self.limits)

    def convert(self, numbers: NDArray, of: Scale, to: Scale) -> NDArray:
        """Numbers on one scale as numbers on another."""
        return numbers if of == to else self.to_scale(self.from_scale(numbers, of), to)


@dataclass(frozen=True)
class Law(Curve):
    """What separable forms share: y = y∞ ∓ terms, − for a metric that rises with the axes, + for an entropy that falls.

    Axes, limits and scale as in `Curve`; the asymptote is the first coefficient.
    """

    def __post_init__(self):
        """Raise ValueError where the axes or the scale are unknown or the limits are not in order."""
        if self.axes not in self.possible_axes:
            known = ", ".join(map(str, self.possible_axes))
            raise ValueError(f"axes is {self.axes!r}; use one of {known}")
        if self.scale not in SCALES:
            raise ValueError(f"scale is {self.scale!r}; use one of {', '.join(SCALES)}")
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"limits is {self.limits!r}; give the asymptote's lowest value, then its highest")
        if self.scale == "gap" and not np.isfinite(self.limits[1 if self.rising else 0]):
            raise ValueError(f"limits is {self.limits!r}; the gap needs a finite limit on the better side")

    @property
    @abstractmethod
    def possible_axes(self) -> tuple[tuple[str, ...], ...]:
        """Which axes the form can have."""

    @property
    @abstractmethod
    def logarithmic(self) -> tuple[int, ...]:
        """Indices of the coefficients that work as logarithms."""

    @property
    def sign(self) -> float:
        """Sign of the terms."""
        return -1.0 if self.rising else 1.0

    def predict(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """The asymptote and the signed terms (..., n), on `scale`; arguments as in `Curve`."""
        coefficients = np.asarray(coefficients, float)
        numbers = coefficients[..., :1] + self.sign * self._sum(coefficients, *self._axes(N, D))
        return self.convert(numbers, self.scale, scale)

    def jacobian(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """Derivatives (..., n, k) of `predict`, on `scale`, with respect to the working coefficients."""
        coefficients = np.asarray(coefficients, float)
        derivatives = self.sign * self._derivatives(coefficients, *self._axes(N, D))
        derivatives[..., 0, :] = 1.0
        if scale != self.scale:
            values = self.predict(coefficients, N, D)
            bend = slope(scale, values, self.rising, self.limits) / slope(self.scale, values, self.rising, self.limits)
            derivatives *= bend[..., None, :]
        return np.swapaxes(derivatives, -1, -2)

    def _axes(self, N: ArrayLike, D: ArrayLike) -> tuple[NDArray, NDArray]:
        return np.broadcast_arrays(np.atleast_1d(np.asarray(N, float)), np.asarray(D, float))

    @abstractmethod
    def _sum(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """The terms (..., n), without their sign."""

    @abstractmethod
    def _derivatives(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """Derivatives of the terms (..., k, n) with respect to working coefficients; the asymptote's row is unused."""

    def to_working(self, coefficients: ArrayLike) -> NDArray:
        """Working coefficients (..., k): the positive ones as natural logarithms."""
        working, logs = np.array(coefficients, float), list(self.logarithmic)
        working[..., logs] = np.log(working[..., logs])
        return working

    def from_working(self, working: ArrayLike) -> NDArray:
        """Natural coefficients (..., k), the inverse of `to_working`."""
        coefficients, logs = np.array(working, float), list(self.logarithmic)
        coefficients[..., logs] = np.exp(coefficients[..., logs])
        return coefficients

    @abstractmethod
    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:
        """Coefficients of the same law when each axis is counted in its unit. units: (axes,)."""

    @abstractmethod
    def term_bounds(self, spread: float) -> list[tuple[float, float]]:
        """Lowest and highest working coefficient of each but the asymptote; axes in units of their middle."""

    def working_bounds(self, spread: float) -> tuple[NDArray, NDArray]:
        """Lowest and highest working coefficients (k,); spread: the values' range on the form's scale."""
        asymptote = self.limits if self.scale == "value" else (-np.inf, np.inf)
        low, high = np.array([asymptote, *self.term_bounds(spread)], float).T
        return low, high

    @abstractmethod
    def shapes(self) -> NDArray:
        """Grid (choices, s) of what the form is not linear in, axes in units of their middle; alpha first."""

    def valleys(self, shapes: NDArray) -> NDArray:
        """Which valley of the loss each of the shapes (choices, s) lies in, (choices,): a fit starts once in each."""
        return np.zeros(len(shapes))

    @abstractmethod
    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """What the linear coefficients multiply, (choices, terms, n), for shapes (choices, s)."""

    @abstractmethod
    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:
        """Coefficients (..., k) from shapes (..., s) and linear ones (..., 1 + terms): asymptote, then amplitudes."""
