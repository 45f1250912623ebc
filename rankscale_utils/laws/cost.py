"""What a unit of exposure costs to train on, by model size."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

SLOWEST = 0.05  # growth of a cost with size that is taken where a ladder's own cost falls


@dataclass(frozen=True)
class Cost:
    """Training FLOPs C(N, D) = c(N) · D: c is linear between knots in logarithms and keeps its slope beyond them.

    log_sizes, log_flops: (knots,) natural logarithms of sizes and of FLOPs per unit of exposure, both increasing.
    """

    log_sizes: tuple[float, ...]
    log_flops: tuple[float, ...]

    @classmethod
    def from_ladder(cls, sizes: ArrayLike, flops_per_pair: ArrayLike) -> "Cost":
        """Cost through a ladder's counted FLOPs per training pair, both (rungs,).

        Raises ValueError where there are fewer than two sizes or a larger one costs no more.
        """
        ladder = pd.Series(np.asarray(flops_per_pair, float), np.asarray(sizes, float)).groupby(level=0).mean()
        if len(ladder) < 2:
            raise ValueError(f"flops_per_pair has {len(ladder)} sizes; count at least two rungs, or use Cost.six_n()")
        if not (ladder.index[0] > 0 and ladder.iloc[0] > 0 and (np.diff(ladder) > 0).all()):
            raise ValueError(f"flops_per_pair is {ladder.tolist()}; give positive counts that grow with size")
        return cls(tuple(np.log(ladder.index)), tuple(np.log(ladder)))

    @classmethod
    def through(cls, sizes: ArrayLike, flops_per_pair: ArrayLike) -> "Cost":
        """Cost through a ladder's counts where they grow, and else one power of size through all, both (rungs,).

        A larger sparse model may cost no more. Where costs fall with size the power is `SLOWEST`. Raises ValueError
        where there are fewer than two sizes or a count is not positive.
        """
        ladder = pd.Series(np.asarray(flops_per_pair, float), np.asarray(sizes, float)).groupby(level=0).mean()
        if len(ladder) < 2 or (np.diff(ladder) > 0).all() or not (ladder.index[0] > 0 and (ladder > 0).all()):
            return cls.from_ladder(sizes, flops_per_pair)  # which says what is wrong
        log_sizes, log_flops = np.log(ladder.index.to_numpy()), np.log(ladder.to_numpy())
        growth = max(float(np.polyfit(log_sizes, log_flops, 1)[0]), SLOWEST)
        ends = log_sizes[[0, -1]]
        return cls(tuple(ends), tuple(log_flops.mean() + growth * (ends - log_sizes.mean())))

    @classmethod
    def six_n(cls) -> "Cost":
        """C = 6·N·D: the usual assumption where FLOPs were not counted, with D in tokens (arXiv 2001.08361, 2.1)."""
        return cls((0.0, 1.0), (np.log(6.0), np.log(6.0) + 1.0))

    @property
    def slopes(self) -> NDArray:
        """Growth m of c(N) ∝ N^m between knots (knots − 1,)."""
        return np.diff(self.log_flops) / np.diff(self.log_sizes)

    @property
    def growth(self) -> float:
        """One m for the whole ladder: the least-squares slope through all knots."""
        return float(np.polyfit(self.log_sizes, self.log_flops, 1)[0])

    def flops_per_unit(self, N: ArrayLike) -> NDArray:
        """FLOPs c(N) of one unit of exposure at sizes N."""
        return np.exp(self.log_per_unit(np.log(np.asarray(N, float))))

    def log_per_unit(self, log_N: ArrayLike) -> NDArray:
        """Logarithm of c(N) at logarithms of sizes, which may be too far out for the sizes themselves."""
        knots, slopes = np.array(self.log_sizes), self.slopes
        segment = np.clip(np.searchsorted(knots, log_N) - 1, 0, len(slopes) - 1)
        return np.array(self.log_flops)[segment] + slopes[segment] * (log_N - knots[segment])

    def log_size(self, log_per_unit: ArrayLike) -> NDArray:
        """Logarithm of the size at which a unit costs this much, the inverse of `log_per_unit`."""
        knots, slopes = np.array(self.log_flops), self.slopes
        segment = np.clip(np.searchsorted(knots, log_per_unit) - 1, 0, len(slopes) - 1)
        return np.array(self.log_sizes)[segment] + (log_per_unit - knots[segment]) / slopes[segment]
