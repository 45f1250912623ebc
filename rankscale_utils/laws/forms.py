"""Law forms: how a metric depends on the size N and the exposure D.

A form knows nothing of data. The words: *coefficients* are the natural ones, in the order of `coefficient_names`
(asymptote, A, alpha, B, beta); *working* coefficients are what optimisers move (amplitudes A and B as logarithms).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

POWER_TERMS = {"N": ("A", "alpha"), "D": ("B", "beta")}
NAMES = {("N",): "size", ("D",): "data", ("N", "D"): "joint"}
EXPONENTS = (0.01, 4.0)  # flatter is a logarithm, steeper is a step: neither can be told from data
AMPLITUDES = (1e-6, 1e6)  # of a term at the middle of the data, in units of the values' spread


@dataclass(frozen=True)
class AdditiveLaw:
    """y = y∞ ∓ Σ amplitude · axis^−exponent: − for a metric that rises with the axes, + for an entropy that falls.

    axes: ("N",) size law, ("D",) data law or ("N", "D") joint law. limits: the asymptote's (lowest, highest) value.
    Source: arXiv 2603.04816 (rising), arXiv 2203.15556 eq. 10 (joint, falling), arXiv 2403.18684 (falling).
    """

    axes: tuple[str, ...]
    rising: bool
    limits: tuple[float, float]

    def __post_init__(self):
        """Raise ValueError where the axes are unknown or the limits are not in order."""
        if self.axes not in NAMES:
            raise ValueError(f"axes is {self.axes!r}; use one of {', '.join(map(str, NAMES))}")
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"limits is {self.limits!r}; give the asymptote's lowest value, then its highest")

    @property
    def name(self) -> str:
        """size, data or joint."""
        return NAMES[self.axes]

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names in the order of a coefficient array's last axis."""
        return ("asymptote", *(name for axis in self.axes for name in POWER_TERMS[axis]))

    @property
    def between_run_coefficients(self) -> int:
        """How many coefficients only a comparison of runs can tell: the level, and the size term where there is one."""
        return 1 + 2 * ("N" in self.axes)

    @property
    def sign(self) -> float:
        """Sign of the power terms."""
        return -1.0 if self.rising else 1.0

    def predict(self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0) -> NDArray:
        """Values (..., n) of the law for coefficients (..., k) at sizes N and exposures D, each (n,) or one number."""
        coefficients = np.asarray(coefficients, float)
        terms, _ = self._terms(coefficients, N, D)
        return coefficients[..., :1] + self.sign * terms.sum(-2)

    def jacobian(self, coefficients: ArrayLike, N: ArrayLike = 1.0, D: ArrayLike = 1.0) -> NDArray:
        """Derivatives of `predict` (..., n, k) with respect to the working coefficients."""
        terms, x = self._terms(np.asarray(coefficients, float), N, D)
        derivatives = np.empty((*terms.shape[:-2], len(self.coefficient_names), terms.shape[-1]))
        derivatives[..., 0, :] = 1.0
        np.multiply(self.sign, terms, out=derivatives[..., 1::2, :])
        np.multiply(-self.sign * x, terms, out=derivatives[..., 2::2, :])
        return np.swapaxes(derivatives, -1, -2)

    def _terms(self, coefficients: NDArray, N: ArrayLike, D: ArrayLike) -> tuple[NDArray, NDArray]:
        """Power terms (..., axes, n) and the axes' logarithms (axes, n)."""
        N, D = np.broadcast_arrays(np.atleast_1d(np.asarray(N, float)), np.asarray(D, float))
        x = np.log([{"N": N, "D": D}[axis] for axis in self.axes])
        log_amplitudes, exponents = np.log(coefficients[..., 1::2]), coefficients[..., 2::2]
        return np.exp(log_amplitudes[..., None] - exponents[..., None] * x), x

    def to_working(self, coefficients: ArrayLike) -> NDArray:
        """Working coefficients (..., k): amplitudes as natural logarithms."""
        working = np.array(coefficients, float)
        working[..., 1::2] = np.log(working[..., 1::2])
        return working

    def from_working(self, working: ArrayLike) -> NDArray:
        """Natural coefficients (..., k), the inverse of `to_working`."""
        coefficients = np.array(working, float)
        coefficients[..., 1::2] = np.exp(coefficients[..., 1::2])
        return coefficients

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:
        """Coefficients of the same law when each axis is counted in its unit: A' = A · unit^−alpha. units: (axes,)."""
        scaled = np.array(coefficients, float)
        scaled[..., 1::2] *= np.asarray(units, float) ** -scaled[..., 2::2]
        return scaled

    def working_bounds(self, spread: float) -> tuple[NDArray, NDArray]:
        """Lowest and highest working coefficients (k,); spread: the values' range, axes in units of their middle."""
        term = np.stack([np.log(spread * np.array(AMPLITUDES)), EXPONENTS], axis=1)
        low, high = np.concatenate([np.array(self.limits)[:, None], np.tile(term, len(self.axes))], axis=1)
        return low, high


def size_law(rising: bool, limits: tuple[float, float] | None = None) -> AdditiveLaw:
    """y = y∞ ∓ A·N^−alpha; limits of the asymptote default to (0, 1) where rising and (0, inf) where falling."""
    return AdditiveLaw(("N",), rising, limits or _default_limits(rising))


def data_law(rising: bool, limits: tuple[float, float] | None = None) -> AdditiveLaw:
    """y = y∞ ∓ B·D^−beta; limits as in `size_law`."""
    return AdditiveLaw(("D",), rising, limits or _default_limits(rising))


def joint_law(rising: bool, limits: tuple[float, float] | None = None) -> AdditiveLaw:
    """y = y∞ ∓ A·N^−alpha ∓ B·D^−beta; limits as in `size_law`."""
    return AdditiveLaw(("N", "D"), rising, limits or _default_limits(rising))


def _default_limits(rising: bool) -> tuple[float, float]:
    return (0.0, 1.0) if rising else (0.0, np.inf)
