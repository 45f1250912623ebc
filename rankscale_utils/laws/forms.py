"""Law forms: how a metric depends on the size N and the exposure D.

A form knows nothing of data. The words: *coefficients* are the natural ones, in the order of `coefficient_names`;
*working* coefficients are what optimisers move (those that must be positive as logarithms). A form adds its terms on
its `scale` (see `scales`): on "gap" it can never pass the limits that the metric is known to have.

Every form here is separable: given its `shapes` (exponents, and what else bends the curve) it is linear in the rest.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import scales
from .scales import SCALES, Scale, slope

EXPONENTS = (0.01, 4.0)  # flatter is a logarithm, steeper is a step: neither can be told from data
AMPLITUDES = (1e-6, 1e6)  # of a term at the middle of the data, in units of the values' spread
SIZE_GRID = np.geomspace(0.03, 3.0, 36)  # exponents of size and of exposure that are tried before a fit
EXPOSURE_GRID = np.geomspace(0.02, 3.0, 16)


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
        """Predictions (..., n) for coefficients (..., k) at sizes N and exposures D, each (n,) or one number."""

    @property
    def between_run_coefficients(self) -> int:
        """How many coefficients only a comparison of runs can tell: the level, and the size term where there is one."""
        return 1 + 2 * ("N" in self.axes)

    def to_scale(self, values: ArrayLike, scale: Scale | None = None) -> NDArray:
        """Values on a scale (None: the form's own)."""
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
            raise ValueError(f"scale is {self.scale!r}; use 'value' or 'gap'")
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
        """Places of the coefficients that work as logarithms."""

    @property
    def sign(self) -> float:
        """Sign of the terms."""
        return -1.0 if self.rising else 1.0

    def predict(  # noqa: D102
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        coefficients = np.asarray(coefficients, float)
        numbers = coefficients[..., :1] + self.sign * self._sum(coefficients, *self._axes(N, D))
        return self.convert(numbers, self.scale, scale)

    def jacobian(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """Derivatives of `predict` (..., n, k) with respect to the working coefficients."""
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


@dataclass(frozen=True)
class AdditiveLaw(Law):
    """y = y∞ ∓ Σ amplitude · axis^−exponent: the size law, the data law and, with both axes, the joint law.

    Source: arXiv 2603.04816 (rising), arXiv 2203.15556 eq. 10 (joint, falling), arXiv 2403.18684 (falling).
    """

    possible_axes = (("N",), ("D",), ("N", "D"))

    @property
    def name(self) -> str:  # noqa: D102
        return {("N",): "size", ("D",): "data"}.get(self.axes, "joint")

    @property
    def coefficient_names(self) -> tuple[str, ...]:  # noqa: D102
        powers = {"N": ("A", "alpha"), "D": ("B", "beta")}
        return ("asymptote", *(name for axis in self.axes for name in powers[axis]))

    @property
    def logarithmic(self) -> tuple[int, ...]:  # noqa: D102
        return tuple(range(1, 2 * len(self.axes), 2))

    def _powers(self, coefficients: NDArray, N: NDArray, D: NDArray) -> tuple[NDArray, NDArray]:
        """Power terms (..., axes, n) and the axes' logarithms (axes, n)."""
        x = np.log([{"N": N, "D": D}[axis] for axis in self.axes])
        log_amplitudes, exponents = np.log(coefficients[..., 1::2]), coefficients[..., 2::2]
        return np.exp(log_amplitudes[..., None] - exponents[..., None] * x), x

    def _sum(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        return self._powers(coefficients, N, D)[0].sum(-2)

    def _derivatives(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        powers, x = self._powers(coefficients, N, D)
        derivatives = np.empty((*powers.shape[:-2], coefficients.shape[-1], powers.shape[-1]))
        derivatives[..., 1::2, :] = powers
        np.multiply(-x, powers, out=derivatives[..., 2::2, :])
        return derivatives

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:  # noqa: D102
        scaled = np.array(coefficients, float)
        scaled[..., 1::2] *= np.asarray(units, float) ** -scaled[..., 2::2]
        return scaled

    def term_bounds(self, spread: float) -> list[tuple[float, float]]:  # noqa: D102
        return [tuple(np.log(spread * np.array(AMPLITUDES))), EXPONENTS] * len(self.axes)

    def shapes(self) -> NDArray:  # noqa: D102
        grids = [{"N": SIZE_GRID, "D": EXPOSURE_GRID}[axis] for axis in self.axes]
        return np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(self.axes))

    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:  # noqa: D102
        x = np.log([{"N": N, "D": D}[axis] for axis in self.axes])
        return np.exp(-shapes[..., None] * x)

    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:  # noqa: D102
        coefficients = np.empty((*linear.shape[:-1], len(self.coefficient_names)))
        coefficients[..., 0], coefficients[..., 1::2], coefficients[..., 2::2] = linear[..., 0], linear[..., 1:], shapes
        return coefficients


@dataclass(frozen=True)
class KaplanLaw(Law):
    """y = y∞ ∓ [(A/N)^(α/β) + B/D]^β: size and exposure limit one another instead of adding up.

    Source: arXiv 2001.08361 eq. 1.5, with an asymptote in arXiv 2403.18684 (joint law).
    """

    possible_axes = (("N", "D"),)
    coefficient_names = ("asymptote", "A", "alpha", "B", "beta")
    logarithmic = (1, 3)
    name = "Kaplan"

    @staticmethod
    def _parts(coefficients: NDArray, N: NDArray, D: NDArray) -> tuple[NDArray, ...]:
        """alpha, beta (..., 1), log(A/N), (A/N)^(α/β) and B/D (..., n)."""
        A, alpha, B, beta = (coefficients[..., place, None] for place in range(1, 5))
        ratio = np.log(A) - np.log(N)
        return alpha, beta, ratio, np.exp(np.minimum(ratio * alpha / beta, 300)), B / D

    def _sum(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        _, beta, _, by_size, by_data = self._parts(coefficients, N, D)
        return (by_size + by_data) ** beta

    def _derivatives(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        alpha, beta, ratio, by_size, by_data = self._parts(coefficients, N, D)
        both = by_size + by_data
        inner = both ** (beta - 1)
        by_alpha = inner * by_size * ratio
        by_beta = both**beta * np.log(both) - alpha / beta * by_alpha
        rows = [np.ones_like(both), alpha * inner * by_size, by_alpha, beta * inner * by_data, by_beta]
        return np.stack(rows, axis=-2)

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:  # noqa: D102
        scaled = np.array(coefficients, float)
        scaled[..., [1, 3]] /= np.asarray(units, float)
        return scaled

    def term_bounds(self, spread: float) -> list[tuple[float, float]]:  # noqa: D102
        return [(-60.0, 60.0), EXPONENTS, (-60.0, 60.0), EXPONENTS]

    def shapes(self) -> NDArray:
        """Grid of alpha, beta and the size's share of both limits at the middle of the data."""
        shares = 1 / (1 + np.exp(-np.linspace(-6, 6, 9)))
        return np.stack(np.meshgrid(SIZE_GRID[4::2], EXPOSURE_GRID[4:], shares, indexing="ij"), -1).reshape(-1, 3)

    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:  # noqa: D102
        alpha, beta, share = (shapes[:, place, None] for place in range(3))
        both = share * N ** -(alpha / beta) + (1 - share) / D
        return (both**beta)[:, None]

    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:  # noqa: D102
        (alpha, beta, share), both = np.moveaxis(shapes, -1, 0), linear[..., 1] ** (1 / shapes[..., 1])
        return np.stack([linear[..., 0], (both * share) ** (beta / alpha), alpha, both * (1 - share), beta], -1)


def size_law(rising: bool, limits: tuple[float, float] | None = None, scale: Scale = "value") -> AdditiveLaw:
    """y = y∞ ∓ A·N^−alpha; limits of the asymptote default to (0, 1) where rising and (0, inf) where falling."""
    return AdditiveLaw(("N",), rising, limits or default_limits(rising), scale)


def data_law(rising: bool, limits: tuple[float, float] | None = None, scale: Scale = "value") -> AdditiveLaw:
    """y = y∞ ∓ B·D^−beta; limits as in `size_law`."""
    return AdditiveLaw(("D",), rising, limits or default_limits(rising), scale)


def joint_law(rising: bool, limits: tuple[float, float] | None = None, scale: Scale = "value") -> AdditiveLaw:
    """y = y∞ ∓ A·N^−alpha ∓ B·D^−beta; limits as in `size_law`."""
    return AdditiveLaw(("N", "D"), rising, limits or default_limits(rising), scale)


def kaplan_law(rising: bool, limits: tuple[float, float] | None = None, scale: Scale = "value") -> KaplanLaw:
    """y = y∞ ∓ [(A/N)^(α/β) + B/D]^β; limits as in `size_law`."""
    return KaplanLaw(("N", "D"), rising, limits or default_limits(rising), scale)


def default_limits(rising: bool) -> tuple[float, float]:
    """Return the limits of a metric of which only the direction is known."""
    return (0.0, 1.0) if rising else (0.0, np.inf)
