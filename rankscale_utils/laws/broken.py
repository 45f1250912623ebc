"""A law with one break (Caballero et al., arXiv 2210.14891), fitted on request only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .forms import AMPLITUDES, EXPONENTS, EXPOSURE_GRID, default_limits
from .law import Law
from .scales import Scale


@dataclass(frozen=True)
class BrokenLaw(Law):
    """y = y∞ ∓ A·x^−α·(1 + (x/d)^(1/f))^(−c·f): the exponent changes from α to α + c around the breakpoint d.

    f: how smoothly. Source: arXiv 2210.14891 eq. 1 with one break.
    """

    possible_axes = (("N",), ("D",))
    coefficient_names = ("asymptote", "A", "alpha", "change", "breakpoint", "smoothness")
    logarithmic = (1, 4, 5)
    name = "broken"

    @property
    def between_run_coefficients(self) -> int:
        """All six in size; of exposure the level alone."""
        return 6 if self.axes == ("N",) else 1

    def _parts(self, coefficients: NDArray, N: NDArray, D: NDArray) -> tuple[NDArray, ...]:
        """The term (..., n) and what its derivatives are made of."""
        x = np.log(N if self.axes == ("N",) else D)
        A, alpha, change, breakpoint_, smoothness = (coefficients[..., index, None] for index in range(1, 6))
        beyond = x - np.log(breakpoint_)
        bend = smoothness * np.logaddexp(0, beyond / smoothness)
        return np.exp(np.log(A) - alpha * x - change * bend), x, change, beyond, bend, smoothness

    def _sum(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        return self._parts(coefficients, N, D)[0]

    def _derivatives(self, coefficients: NDArray, N: NDArray, D: NDArray) -> NDArray:
        term, x, change, beyond, bend, smoothness = self._parts(coefficients, N, D)
        side = 1 / (1 + np.exp(-np.clip(beyond / smoothness, -300, 300)))
        rows = [term, term, -term * x, -term * bend, term * change * side, -term * change * (bend - side * beyond)]
        return np.stack(rows, axis=-2)

    def in_units(self, coefficients: ArrayLike, units: ArrayLike) -> NDArray:
        """The amplitude takes up the unit; the breakpoint is counted in it."""
        scaled, unit = np.array(coefficients, float), np.asarray(units, float)[0]
        scaled[..., 1] *= unit ** -scaled[..., 2]
        scaled[..., 4] /= unit
        return scaled

    def term_bounds(self, spread: float) -> list[tuple[float, float]]:
        """Amplitude, exponent, its change, breakpoint and smoothness."""
        amplitude = tuple(np.log(spread * np.array(AMPLITUDES)))
        return [amplitude, EXPONENTS, (-4.0, 20.0), (-12.0, 12.0), (np.log(0.003), np.log(10.0))]

    def shapes(self) -> NDArray:
        """Grid of alpha, change, breakpoint and smoothness."""
        changes, breakpoints = np.array([-1, -0.3, 0.3, 1, 2, 4, 8]), np.geomspace(0.05, 20, 25)
        grids = EXPOSURE_GRID[::3], changes, breakpoints, np.geomspace(0.01, 1, 5)
        return np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, 4)

    def valleys(self, shapes: NDArray) -> NDArray:
        """The changes: a fit seldom gets from one to a very different one, above all to one of the other sign."""
        return shapes[:, 1]

    def terms(self, shapes: NDArray, N: NDArray, D: NDArray) -> NDArray:
        """The term with an amplitude of one."""
        return self._sum(self.assemble(shapes, np.ones((len(shapes), 2))), N, D)[:, None]

    def assemble(self, shapes: NDArray, linear: NDArray) -> NDArray:
        """Asymptote and amplitude, then the shapes."""
        return np.concatenate([linear, shapes], axis=-1)


def broken_law(axis: str, rising: bool, limits: tuple[float, float] | None = None, scale: Scale = "value") -> BrokenLaw:
    """A power law of one axis ("N" or "D") whose exponent changes once; limits as in `size_law`."""
    return BrokenLaw((axis,), rising, limits or default_limits(rising), scale)
