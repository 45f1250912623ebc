"""The law forms: size, data, joint, Kaplan's and a sigmoid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .law import Curve, Law
from .scales import Scale

EXPONENTS = (0.01, 4.0)  # flatter is a logarithm, steeper is a step: neither can be told from data
AMPLITUDES = (1e-6, 1e6)  # of a term at the middle of the data, in units of the values' spread
SIZE_GRID = np.geomspace(0.03, 3.0, 36)  # exponents of size and of exposure that are tried before a fit
EXPOSURE_GRID = np.geomspace(0.02, 3.0, 16)


@dataclass(frozen=True)
class AdditiveLaw(Law):
    """y = y∞ ∓ Σ amplitude · axis^−exponent: the size law, the data law and, with both axes, the joint law.

    Source: arXiv 2603.04816 (rising), arXiv 2203.15556 eq. 10 (joint, falling), arXiv 2403.18684 (falling).
    """

    possible_axes = (("N",), ("D",), ("N", "D"))

    @property
    def name(self) -> str:
        """The size, data or joint law, after its axes."""
        return {("N",): "size", ("D",): "data"}.get(self.axes, "joint")

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """The asymptote, then amplitude and exponent of each axis."""
        powers = {"N": ("A", "alpha"), "D": ("B", "beta")}
        return ("asymptote", *(name for axis in self.axes for name in powers[axis]))

    @property
    def logarithmic(self) -> tuple[int, ...]:
        """The amplitudes."""
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
        derivatives = np.ones((*powers.shape[:-2], coefficients.shape[-1], powers.shape[-1]))
        derivatives[..., 1::2, :] = powers
        np.multiply(-x, powers, out=derivatives[..., 2::2, :])
        return derivatives

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:
        """Amplitudes take up the units: A · unit^−alpha."""
        scaled = np.array(coefficients, float)
        scaled[..., 1::2] *= np.asarray(units, float) ** -scaled[..., 2::2]
        return scaled

    def term_bounds(self, spread: float) -> list[tuple[float, float]]:
        """Amplitudes relative to the spread of the values; exponents."""
        return [tuple(np.log(spread * np.array(AMPLITUDES))), EXPONENTS] * len(self.axes)

    def shapes(self) -> NDArray:
        """Grid of the exponents."""
        grids = [{"N": SIZE_GRID, "D": EXPOSURE_GRID}[axis] for axis in self.axes]
        return np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(self.axes))

    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """Each axis to its negative exponent."""
        x = np.log([{"N": N, "D": D}[axis] for axis in self.axes])
        return np.exp(-shapes[..., None] * x)

    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:
        """Asymptote, then each amplitude with its exponent."""
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
        A, alpha, B, beta = (coefficients[..., index, None] for index in range(1, 5))
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

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:
        """A and B are counted as size and exposure are."""
        scaled = np.array(coefficients, float)
        scaled[..., [1, 3]] /= np.asarray(units, float)
        return scaled

    def term_bounds(self, spread: float) -> list[tuple[float, float]]:
        """A and B are as good as free; exponents."""
        return [(-60.0, 60.0), EXPONENTS, (-60.0, 60.0), EXPONENTS]

    def shapes(self) -> NDArray:
        """Grid of alpha, beta and the size's share of both limits at the middle of the data."""
        shares = 1 / (1 + np.exp(-np.linspace(-6, 6, 9)))
        return np.stack(np.meshgrid(SIZE_GRID[4::2], EXPOSURE_GRID[4:], shares, indexing="ij"), -1).reshape(-1, 3)

    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """Both limits together, to the power beta."""
        alpha, beta, share = (shapes[:, index, None] for index in range(3))
        both = share * N ** -(alpha / beta) + (1 - share) / D
        return (both**beta)[:, None]

    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:
        """A and B from their sum and the size's share of it."""
        (alpha, beta, share), both = np.moveaxis(shapes, -1, 0), linear[..., 1] ** (1 / shapes[..., 1])
        return np.stack([linear[..., 0], (both * share) ** (beta / alpha), alpha, both * (1 - share), beta], -1)


@dataclass(frozen=True)
class SigmoidLaw(Curve):
    """y = y∞ ∓ A / (1 + B·N^α·D^β): slow, then fast, then slow again in the logarithms of size and exposure.

    Source: sigmoids of compute for downstream scores, arXiv 2401.04757 and 2405.10938.
    """

    name = "sigmoid"

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """The asymptote, A and B, then an exponent of each axis."""
        return ("asymptote", "A", "B", *({"N": "alpha", "D": "beta"}[axis] for axis in self.axes))

    def predict(
        self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0, scale: Scale = "value"
    ) -> NDArray:
        """Predictions (..., n) on `scale`; arguments as in `Curve`."""
        coefficients = np.asarray(coefficients, float)
        N, D = np.broadcast_arrays(np.atleast_1d(np.asarray(N, float)), np.asarray(D, float))
        rise = np.log(coefficients[..., 2:3])
        for place, axis in enumerate(self.axes):
            rise = rise + coefficients[..., 3 + place, None] * np.log({"N": N, "D": D}[axis])
        left = coefficients[..., 1:2] * np.exp(-np.logaddexp(0, rise))
        return self.convert(coefficients[..., :1] + (-left if self.rising else left), "value", scale)


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
