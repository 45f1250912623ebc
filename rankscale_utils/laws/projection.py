"""Where a fit starts: variable projection over the exponents (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973)."""

import numpy as np
from numpy.typing import NDArray

from .forms import AdditiveLaw

GRID = np.geomspace(0.02, 3.0, 24)  # exponents tried on each axis
SMALLEST = 1e-3  # an amplitude at the start, in units of the values' spread: positive, so that its logarithm exists


def variable_projection(law: AdditiveLaw, axes: NDArray, y: NDArray, weights: NDArray) -> NDArray:
    """Best coefficients (k,) on a grid of exponents: given the exponents, the rest is weighted linear least squares.

    axes: (axes, n) sizes and exposures in units of their middle; y, weights: (n,). The asymptote is clipped to the
    law's limits and the amplitudes are kept positive, so a start always exists.
    """
    choices = np.stack(np.meshgrid(*[np.arange(len(GRID))] * len(axes), indexing="ij"), -1).reshape(-1, len(axes))
    powers = law.sign * axes[:, None, :] ** -GRID[:, None]  # (axes, grid, n)
    terms = [power[choice] for power, choice in zip(powers, choices.T, strict=True)]
    design = np.stack([np.ones_like(terms[0]), *terms], axis=1)  # (choices, 1 + axes, n)
    gram, moment = (design * weights) @ design.swapaxes(1, 2), design @ (weights * y)

    linear = _solve(gram, moment)
    linear[:, 0] = np.clip(linear[:, 0], *law.limits)
    linear[:, 1:] = _solve(gram[:, 1:, 1:], moment[:, 1:] - gram[:, 1:, 0] * linear[:, :1])
    linear[:, 1:] = np.maximum(linear[:, 1:], SMALLEST * (np.ptp(y) or 1.0))

    losses = np.einsum("ci,cij,cj->c", linear, gram, linear) - 2 * (linear * moment).sum(1)
    best = losses.argmin()
    coefficients = np.empty(len(law.coefficient_names))
    coefficients[0], coefficients[1::2], coefficients[2::2] = linear[best, 0], linear[best, 1:], GRID[choices[best]]
    return coefficients


def _solve(gram: NDArray, moment: NDArray) -> NDArray:
    """Solve every system, each made just regular enough to have a solution."""
    ridge = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(gram.shape[-1])
    return np.linalg.solve(gram + ridge, moment[..., None])[..., 0]
