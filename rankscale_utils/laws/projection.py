"""Where a fit starts: variable projection over the shapes (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973)."""

import numpy as np
from numpy.typing import NDArray

from .forms import Law

SMALLEST = 1e-3  # an amplitude at the start, in units of the values' spread: positive, so that its logarithm exists


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
