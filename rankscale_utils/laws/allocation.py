"""Compute-optimal size and exposure, and what equal compute really bought."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .fitting import Fit
from .resampling import Draws, robust_sd, t_quantile


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
        x, knots, slopes = np.log(np.asarray(N, float)), np.array(self.log_sizes), self.slopes
        segment = np.clip(np.searchsorted(knots, x) - 1, 0, len(slopes) - 1)
        return np.exp(np.array(self.log_flops)[segment] + slopes[segment] * (x - knots[segment]))


def optimal(law: Fit | Draws, cost: Cost, flops: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure with the best value of a joint law at each training budget.

    Where c(N) = κ·N^m, setting the derivative of A·N^−α + B·(C/c(N))^−β to zero gives
    N = (αA / βmB)^(1/(α+βm)) · (C/κ)^(β/(α+βm)) and D = C / c(N); arXiv 2203.15556 eq. 4 is m = 1, κ = 6. Where c(N)
    has several slopes the best of the segments' optima is exact, as the sum is convex on each.
    flops: (n,). Returns columns flops, size, exposure, value; from draws also level, and _lo and _hi of each, which
    are estimate ± t · sd of the draws, sizes and exposures in logarithms. Raises ValueError for a law without N or D.
    """
    fit = law if isinstance(law, Fit) else law.fit
    flops = np.atleast_1d(np.asarray(flops, float))
    best = _optimum(fit, fit.vector, cost, flops)
    table = pd.DataFrame({"flops": flops, "size": best[0], "exposure": best[1], "value": best[2]})
    if isinstance(law, Draws):
        drawn = _optimum(fit, law.coefficients[:, None, :], cost, flops)
        for name, centre, values in zip(("size", "exposure", "value"), best, drawn, strict=True):
            logs = name != "value"
            reach = t_quantile(level, law.degrees) * robust_sd(np.log(values) if logs else values)
            for side, end in ((-1, "lo"), (1, "hi")):
                moved = centre * np.exp(side * reach) if logs else np.clip(centre + side * reach, *fit.law.limits)
                table[f"{name}_{end}"] = moved
        table["level"] = level
    return table


def exponents(draws: Draws, cost: Cost, *, level: float = 0.95) -> pd.DataFrame:
    """How the optimum grows with compute: N ∝ C^a and D ∝ C^b, a = β/(α+βm), b = α/(α+βm), m the cost's growth.

    Returns two rows (exponent a of size, b of exposure) with value, lo, hi, level; intervals are value ± t · sd of the
    draws, clipped to what any law allows.
    """
    _joint(draws.fit)
    m = cost.growth

    def of(coefficients: NDArray) -> NDArray:
        alpha, beta = coefficients[..., 2], coefficients[..., 4]
        return np.stack([beta, alpha], -1) / (alpha + beta * m)[..., None]

    value, reach = of(draws.fit.vector), t_quantile(level, draws.degrees) * robust_sd(of(draws.coefficients))
    lo, hi = (np.clip(value + side * reach, 0.0, [1 / m, 1.0]) for side in (-1, 1))
    return pd.DataFrame(
        {"exponent": ["a", "b"], "of": ["size", "exposure"], "value": value, "lo": lo, "hi": hi}
    ).assign(level=level)


def isoflop(fit: Fit, cost: Cost, flops: ArrayLike, sizes: ArrayLike) -> pd.DataFrame:
    """The law's value at each size when a budget is spent whole: columns flops, size, exposure, value."""
    _joint(fit)
    budget, size = (grid.ravel() for grid in np.meshgrid(flops, np.asarray(sizes, float), indexing="ij"))
    exposure = budget / cost.flops_per_unit(size)
    return pd.DataFrame({"flops": budget, "size": size, "exposure": exposure, "value": fit.predict(size, exposure)})


def equal_compute(
    table: pd.DataFrame,
    fit: Fit,
    cost: Cost,
    *,
    levels: int = 12,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """At equal training compute, which of the rungs really trained does the law pick, and which was best?

    A rung's curve is its mean over runs, linear in log FLOPs between its own checkpoints and never beyond them; budgets
    are `levels` evenly spaced logarithms, kept where two or more rungs were measured. Returns columns flops, rungs
    (compared), picked, best (sizes), picked_value, best_value, regret (≥ 0, value lost by the law's choice).
    """
    _joint(fit)
    curves = {float(N): _curve(rung.groupby(exposure)["value"].mean(), N, cost) for N, rung in table.groupby(size)}
    ends = [(curve.index.min(), curve.index.max()) for curve in curves.values()]
    rows = []
    for log_flops in np.linspace(min(low for low, _ in ends), max(high for _, high in ends), levels):
        trained = [N for N, (low, high) in zip(curves, ends, strict=True) if low <= log_flops <= high]
        if len(trained) < 2:
            continue
        sizes, flops = np.array(trained), np.exp(log_flops)
        measured = np.array([np.interp(log_flops, curves[N].index, curves[N]) for N in trained])
        predicted = fit.predict(sizes, flops / cost.flops_per_unit(sizes))
        picked, best = (int(np.argmin(fit.law.sign * values)) for values in (predicted, measured))
        rows.append((flops, len(trained), sizes[picked], sizes[best], measured[picked], measured[best]))
    compared = pd.DataFrame(rows, columns=["flops", "rungs", "picked", "best", "picked_value", "best_value"])
    return compared.assign(regret=(compared["best_value"] - compared["picked_value"]).abs())


def _curve(values: pd.Series, N: float, cost: Cost) -> pd.Series:
    """A rung's values by exposure, by log FLOPs instead."""
    return values.set_axis(np.log(values.index * cost.flops_per_unit(N)))


def _joint(fit: Fit) -> None:
    if fit.law.axes != ("N", "D"):
        raise ValueError(f"the law is a {fit.law.name} law; allocate with a joint law of size and exposure")


def _optimum(fit: Fit, coefficients: NDArray, cost: Cost, flops: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Best size, exposure and value, each (..., n), for coefficients (..., 1, k) or (k,) and budgets (n,)."""
    _joint(fit)
    log_A, alpha, log_B, beta = np.moveaxis(fit.law.to_working(coefficients)[..., 1:], -1, 0)
    knots, log_flops = np.array(cost.log_sizes), np.array(cost.log_flops)
    ends = np.r_[-np.inf, knots[1:-1], np.inf]
    sizes = []
    for i, m in enumerate(cost.slopes):
        log_kappa = log_flops[i] - m * knots[i]
        ratio = np.log(alpha / (beta * m)) + log_A - log_B
        log_N = (ratio + beta * (np.log(flops) - log_kappa)) / (alpha + beta * m)
        sizes.append(np.exp(np.clip(log_N, ends[i], ends[i + 1])))
    N = np.stack(sizes)
    D = flops / cost.flops_per_unit(N)
    A, B = np.exp(log_A), np.exp(log_B)
    left = A * N**-alpha + B * D**-beta
    best = left.argmin(0)[None]
    N, D, left = (np.take_along_axis(part, best, 0)[0] for part in (N, D, left))
    return N, D, coefficients[..., 0] + fit.law.sign * left
