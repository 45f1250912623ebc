"""Quality against the number of candidates reranked: it saturates, or peaks and falls, by size.

What reranking the best k candidates gains over the order as retrieved, for a model of size N:

    gain(k) = G(N)·(1 − k^−γ) − B(N)·log k,    G and B straight in log N.

Of further candidates ever fewer are relevant, and each may be put above a relevant one by mistake: where B is positive,
the gain peaks at k = (γG/B)^(1/γ). At depth 1 the order is as retrieved, and the gain is nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

POWERS = np.geomspace(0.3, 3.0, 12)  # γ that are tried
NEEDED_SIZES, NEEDED_DEPTHS = 3, 3


@dataclass(frozen=True)
class DepthLaw:
    """Draws of the law: coefficients (draws, 4) of G, its slope, B and its slope; power (draws,); N0, the unit of N.

    misfit: root mean square (draws,) of what the law is wrong by at the depths and sizes that it was fitted to.
    """

    coefficients: NDArray
    power: NDArray
    N0: float
    misfit: NDArray

    def gain(self, N: float, depths: ArrayLike) -> NDArray:
        """Gains (draws, depths) of a model of size N."""
        u, log_k = np.log(N / self.N0), np.log(np.asarray(depths, float))
        grows, falls = self.coefficients[:, :2] @ [1, u], self.coefficients[:, 2:] @ [1, u]
        return grows[:, None] * -np.expm1(-self.power[:, None] * log_k) - falls[:, None] * log_k

    def best_depth(self, N: float, depths: ArrayLike) -> NDArray:
        """The best of some depths for a model of size N, (draws,)."""
        return np.asarray(depths)[self.gain(N, depths).argmax(1)]


def depth_law(gains: NDArray, sizes: ArrayLike, depths: ArrayLike) -> DepthLaw:
    """Fit the law to gains (draws, sizes, depths), each draw by itself, by least squares with the best γ.

    Raises ValueError where there are fewer than three sizes, or depths beyond 1, as the law then follows anything.
    """
    sizes, depths = np.asarray(sizes, float), np.asarray(depths, float)
    beyond = depths > 1
    if len(np.unique(sizes)) < NEEDED_SIZES or beyond.sum() < NEEDED_DEPTHS:
        few = f"{len(np.unique(sizes))} sizes at {beyond.sum()} depths beyond 1"
        raise ValueError(f"{few}: the law of depth needs {NEEDED_SIZES} of each; measure more, or leave it")
    N0 = sizes.max()
    u, log_k = np.repeat(np.log(sizes / N0), beyond.sum()), np.tile(np.log(depths[beyond]), len(sizes))
    y = gains[..., beyond].reshape(len(gains), -1)
    tried = []
    for power in POWERS:
        grows = -np.expm1(-power * log_k)
        design = np.stack([grows, u * grows, -log_k, -u * log_k], 1)
        coefficients = y @ np.linalg.pinv(design).T
        tried.append((coefficients, ((y - coefficients @ design.T) ** 2).mean(1)))
    squares = np.array([square for _, square in tried])
    best, draws = squares.argmin(0), np.arange(len(y))
    coefficients = np.array([found for found, _ in tried])[best, draws]
    return DepthLaw(coefficients, POWERS[best], float(N0), np.sqrt(squares[best, draws]))
