"""Compute-optimal size and exposure, and what equal compute really bought."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .cost import Cost
from .fitting import Fit
from .forecasting import interval
from .forms import KaplanLaw
from .law import Law
from .resampling import Draws, robust_sd, t_quantile

Measured = tuple[float, NDArray, NDArray]  # at one budget: its FLOPs, sizes (rungs,) and values (rungs,)


def optimal(law: Fit | Draws, cost: Cost, flops: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Size and exposure with the best value of a joint law at each training budget.

    Where c(N) = κ·N^m, setting the derivative of A·N^−α + B·(C/c(N))^−β to zero gives
    N = (αA / βmB)^(1/(α+βm)) · (C/κ)^(β/(α+βm)) and D = C / c(N); arXiv 2203.15556 eq. 4 is m = 1, κ = 6. Where c(N)
    has several slopes the best of the segments' optima is exact, as the sum is convex on each. Kaplan's law is such a
    sum inside a power (`terms`), and a law on the gap such a sum inside a logarithm: neither moves the optimum.
    flops: (n,). Returns columns flops, size, exposure, value; from draws also level, and _lo and _hi of each, which
    are estimate ± t · sd of the draws, sizes and exposures in logarithms. Raises ValueError for a law without N or D.
    """
    fit = law if isinstance(law, Fit) else law.fit
    flops = np.atleast_1d(np.asarray(flops, float))
    best = _optimum(fit, fit.vector, cost, flops)
    table = {"flops": flops, "size": np.exp(best[0]), "exposure": np.exp(best[1]), "value": best[2]}
    if isinstance(law, Draws):
        drawn = _optimum(fit, law.coefficients[:, None, :], cost, flops)
        table |= log_ends(law, "size", best[0], drawn[0], level) | log_ends(law, "exposure", best[1], drawn[1], level)
        table |= value_ends(law, best[2], drawn[2], level) | {"level": level}
    return pd.DataFrame(table)


def terms(law: Law, coefficients: ArrayLike) -> tuple[NDArray, ...]:
    """A joint law's sum as (A·N^−α + B·D^−β)^power: log A, α, log B, β and power, each (...).

    The power is 1 but for Kaplan's law, whose A^(α/β), α/β and 1 stand for A, α and β, and whose power is β.
    """
    log_A, alpha, log_B, beta = np.moveaxis(law.to_working(coefficients)[..., 1:], -1, 0)
    unity = np.ones_like(beta)
    if isinstance(law, KaplanLaw):
        return alpha / beta * log_A, alpha / beta, log_B, unity, beta
    return log_A, alpha, log_B, beta, unity


def log_sum(parts: tuple[NDArray, ...], log_N: ArrayLike, log_D: ArrayLike) -> NDArray:
    """Logarithm of a joint law's sum, from its `terms` and logarithms of size and exposure."""
    log_A, alpha, log_B, beta, power = parts
    return power * np.logaddexp(log_A - alpha * log_N, log_B - beta * log_D)


def values(law: Law, coefficients: ArrayLike, logarithm: ArrayLike) -> NDArray:
    """Values of a joint law (...) whose sum has this logarithm (...)."""
    with np.errstate(over="ignore"):
        return law.from_scale(np.asarray(coefficients, float)[..., 0] + law.sign * np.exp(logarithm))


def log_ends(draws: Draws, name: str, estimate: NDArray, drawn: NDArray, level: float) -> dict[str, NDArray]:
    """Columns name_lo and name_hi (n,) of a positive quantity whose logarithms are estimate (n,) and drawn (draws, n).

    An estimate of zero, whose logarithm is −∞, has no width.
    """
    none = np.isneginf(estimate)
    with np.errstate(over="ignore"):
        reach = t_quantile(level, draws.degrees) * robust_sd(np.where(none, 0.0, drawn))
        return {f"{name}_{end}": np.exp(estimate + side * reach) for side, end in ((-1, "lo"), (1, "hi"))}


def value_ends(draws: Draws, estimate: NDArray, drawn: NDArray, level: float) -> dict[str, NDArray]:
    """Columns value_lo and value_hi (n,) around values (n,), from drawn ones (draws, n), as forecasts have them."""
    sd = robust_sd(draws.fit.law.to_scale(drawn, draws.fit.scale))
    return dict(zip(("value_lo", "value_hi"), interval(draws.fit, estimate, sd, level, draws.degrees), strict=True))


def exponents(draws: Draws, cost: Cost, *, level: float = 0.95) -> pd.DataFrame:
    """How the optimum grows with compute: N ∝ C^a and D ∝ C^b, a = β/(α+βm), b = α/(α+βm), m the cost's growth.

    Returns two rows (exponent a of size, b of exposure) with value, lo, hi, level; intervals are value ± t · sd of the
    draws, clipped to what any law allows.
    """
    check_joint(draws.fit)
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
    check_joint(fit)
    budget, size = (grid.ravel() for grid in np.meshgrid(flops, np.asarray(sizes, float), indexing="ij"))
    exposure = budget / cost.flops_per_unit(size)
    return pd.DataFrame({"flops": budget, "size": size, "exposure": exposure, "value": fit.predict(size, exposure)})


def measured_at_equal_compute(
    table: pd.DataFrame,
    cost: Cost,
    *,
    levels: int = 12,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> list[Measured]:
    """What the rungs really trained measured at equal training compute: FLOPs, sizes and values of each budget.

    A rung's curve is its mean over runs, linear in log FLOPs between its own checkpoints and never beyond them; budgets
    are `levels` evenly spaced logarithms, kept where two or more rungs were measured. Sizes and values are (rungs,),
    from the smallest size.
    """
    curves = {float(N): _curve(rung.groupby(exposure)["value"].mean(), N, cost) for N, rung in table.groupby(size)}
    ends = [(curve.index.min(), curve.index.max()) for curve in curves.values()]
    measured = []
    for log_flops in np.linspace(min(low for low, _ in ends), max(high for _, high in ends), levels):
        trained = [N for N, (low, high) in zip(curves, ends, strict=True) if low <= log_flops <= high]
        if len(trained) >= 2:
            values = np.array([np.interp(log_flops, curves[N].index, curves[N]) for N in trained])
            measured.append((float(np.exp(log_flops)), np.array(trained), values))
    return measured


def equal_compute(measured: Sequence[Measured], fit: Fit, cost: Cost) -> pd.DataFrame:
    """At equal training compute, which of the rungs really trained does the law pick, and which was best?

    measured: from `measured_at_equal_compute`. Returns columns flops, rungs (compared), picked, best (sizes),
    picked_value, best_value, regret (≥ 0, value lost by the law's choice), a row a budget.
    """
    check_joint(fit)
    rows = []
    for flops, sizes, actual in measured:
        predicted = fit.predict(sizes, flops / cost.flops_per_unit(sizes))
        picked, best = (int(np.argmin(fit.law.sign * outcome)) for outcome in (predicted, actual))
        rows.append((flops, len(sizes), sizes[picked], sizes[best], actual[picked], actual[best]))
    compared = pd.DataFrame(rows, columns=["flops", "rungs", "picked", "best", "picked_value", "best_value"])
    return compared.assign(regret=(compared["best_value"] - compared["picked_value"]).abs())


def parabola(measured: Sequence[Measured], fit: Fit, cost: Cost) -> pd.DataFrame:
    """The isoFLOP parabola beside the law: a cross-check of the optimum that needs no law.

    measured: as in `equal_compute`. At budgets that three rungs or more spent, least squares of the measured value on
    log N and its square; the vertex is the best size. Source: arXiv 2203.15556, approach 2. Returns columns flops,
    rungs, vertex (NaN where there is none inside the measured sizes), law_size, ratio (law_size / vertex) and status:
    `inside`, `bends the wrong way`, or `beyond the smallest rung` or `largest`.
    """
    check_joint(fit)
    rows = []
    for flops, sizes, actual in measured:
        if len(sizes) >= 3:
            vertex, status = _vertex(np.log(sizes), fit.law.sign * actual)
            law_size = optimal(fit, cost, flops)["size"].iloc[0]
            rows.append((flops, len(sizes), vertex, law_size, law_size / vertex, status))
    return pd.DataFrame(rows, columns=["flops", "rungs", "vertex", "law_size", "ratio", "status"])


def _vertex(log_sizes: NDArray, falling: NDArray) -> tuple[float, str]:
    """Size at the minimum of a parabola through values (rungs,) that are better when lower, NaN without one inside."""
    bend, slope, _ = np.polyfit(log_sizes, falling, 2)
    if bend <= 0:
        return np.nan, "bends the wrong way"
    vertex = -slope / (2 * bend)
    if not log_sizes[0] <= vertex <= log_sizes[-1]:
        return np.nan, f"beyond the {'smallest' if vertex < log_sizes[0] else 'largest'} rung"
    return float(np.exp(vertex)), "inside"


def _curve(values: pd.Series, N: float, cost: Cost) -> pd.Series:
    """A rung's values by exposure, by log FLOPs instead."""
    return values.set_axis(np.log(values.index * cost.flops_per_unit(N)))


def check_joint(fit: Fit) -> None:
    """Raise ValueError for a law that lacks size or exposure."""
    if fit.law.axes != ("N", "D"):
        raise ValueError(f"the law is a {fit.law.name} law; allocate with a joint law of size and exposure")


def _optimum(fit: Fit, coefficients: NDArray, cost: Cost, flops: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Logarithms of the best size and exposure, and the value there, each (..., n).

    coefficients: (..., 1, k) or (k,). flops: (n,).
    """
    check_joint(fit)
    parts = log_A, alpha, log_B, beta, _ = terms(fit.law, coefficients)
    knots, log_flops = np.array(cost.log_sizes), np.array(cost.log_flops)
    ends = np.r_[-np.inf, knots[1:-1], np.inf]
    sizes = []
    for i, m in enumerate(cost.slopes):
        log_kappa = log_flops[i] - m * knots[i]
        ratio = np.log(alpha / (beta * m)) + log_A - log_B
        log_N = (ratio + beta * (np.log(flops) - log_kappa)) / (alpha + beta * m)
        sizes.append(np.clip(log_N, ends[i], ends[i + 1]))
    log_N = np.stack(sizes)
    log_D = np.log(flops) - cost.log_per_unit(log_N)
    left = log_sum(parts, log_N, log_D)
    best = left.argmin(0)[None]
    log_N, log_D, left = (np.take_along_axis(part, best, 0)[0] for part in (log_N, log_D, left))
    return log_N, log_D, values(fit.law, coefficients, left)
