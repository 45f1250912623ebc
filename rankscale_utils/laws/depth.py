"""Quality against the number of candidates reranked, by size.

What reranking the best k candidates gains over the order as retrieved, for a model of size N:

    gain(k) = G_k + S_k·log N, a straight line at every depth k.

The curve over depth is free, as what it looks like is the first stage's and the metric's doing as much as the model's:
it saturates, or peaks and falls, and nDCG@10 begins to rise steeply only beyond the ten that it looks at. At depth 1
the order is as retrieved, and the gain is nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEEDED_SIZES, NEEDED_DEPTHS = 3, 3


@dataclass(frozen=True)
class DepthLaw:
    """Draws of the lines: coefficients (draws, 2, depths), of 1 and of log N less its mean, `middle`.

    residuals: (sizes, depths), of the first draw; spread: sum of squares of the sizes' distances from `middle`.
    """

    coefficients: NDArray
    middle: float
    spread: float
    residuals: NDArray

    def gain(self, N: float) -> NDArray:
        """Gains (draws, depths) of a model of size N."""
        return self.coefficients[:, 0] + (np.log(N) - self.middle) * self.coefficients[:, 1]

    def errors(self, N: float, draws: int, rng: np.random.Generator) -> NDArray:
        """How far one model of size N may lie off the lines, drawn (draws, depths): as the fitted ones do.

        Its variance is a regression's for a new observation, which grows with the distance from the fitted sizes.
        """
        sizes = len(self.residuals)
        leverage = 1 / sizes + (np.log(N) - self.middle) ** 2 / self.spread
        return rng.normal(size=(draws, sizes)) @ self.residuals * np.sqrt((1 + leverage) / (sizes - 2))


def depth_law(gains: NDArray, sizes: ArrayLike, depths: ArrayLike) -> DepthLaw:
    """Fit the lines to gains (draws, sizes, depths), each draw by itself, by least squares.

    Raises ValueError where there are fewer than three sizes, or depths beyond 1, as nothing then tells how far off the
    lines a size may be.
    """
    log_sizes, beyond = np.log(np.asarray(sizes, float)), np.asarray(depths) > 1
    if len(np.unique(log_sizes)) < NEEDED_SIZES or beyond.sum() < NEEDED_DEPTHS:
        few = f"{len(np.unique(log_sizes))} sizes at {beyond.sum()} depths beyond 1"
        raise ValueError(f"{few}: the law of depth needs {NEEDED_SIZES} of each; measure more, or leave it")
    middle = float(log_sizes.mean())
    design = np.stack([np.ones_like(log_sizes), log_sizes - middle], 1)
    coefficients = np.linalg.pinv(design) @ gains
    return DepthLaw(coefficients, middle, float((design[:, 1] ** 2).sum()), gains[0] - design @ coefficients[0])
