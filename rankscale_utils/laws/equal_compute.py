"""What equal training compute really bought, beside what forecasts say of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .allocation import Reach, optimal
from .averaging import Average
from .cost import Cost

Measured = tuple[float, NDArray, NDArray]  # at one budget: its FLOPs, sizes (rungs,) and values (rungs,)


def isoflop(average: Average, cost: Cost, flops: ArrayLike, sizes: ArrayLike) -> pd.DataFrame:
    """The forecast at each size when a budget is spent whole: columns flops, size, exposure, value."""
    budget, size = (grid.ravel() for grid in np.meshgrid(flops, np.asarray(sizes, float), indexing="ij"))
    exposure = budget / cost.flops_per_unit(size)
    return pd.DataFrame({"flops": budget, "size": size, "exposure": exposure, "value": average.median(size, exposure)})


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


def equal_compute(measured: Sequence[Measured], average: Average, cost: Cost) -> pd.DataFrame:
    """At equal training compute, which of the rungs really trained do forecasts pick, and which was best?

    measured: from `measured_at_equal_compute`. Returns columns flops, rungs (compared), picked, best (sizes),
    picked_value, best_value, regret (≥ 0, value lost by the pick), a row a budget.
    """
    rows, sign = [], -1 if average.series.rising else 1
    for flops, sizes, actual in measured:
        predicted = average.median(sizes, flops / cost.flops_per_unit(sizes))
        picked, best = (int(np.argmin(sign * outcome)) for outcome in (predicted, actual))
        rows.append((flops, len(sizes), sizes[picked], sizes[best], actual[picked], actual[best]))
    compared = pd.DataFrame(rows, columns=["flops", "rungs", "picked", "best", "picked_value", "best_value"])
    return compared.assign(regret=(compared["best_value"] - compared["picked_value"]).abs())


def parabola(measured: Sequence[Measured], average: Average, cost: Cost, reach: Reach) -> pd.DataFrame:
    """The isoFLOP parabola beside the laws: a cross-check of the optimum that needs none.

    measured: as in `equal_compute`. At budgets that three rungs or more spent, least squares of the measured value on
    log N and its square; the vertex is the best size. Source: arXiv 2203.15556, approach 2. Returns columns flops,
    rungs, vertex (NaN where there is none inside the measured sizes), law_size, ratio (law_size / vertex) and status:
    `inside`, `bends the wrong way`, or `beyond the smallest rung` or `largest`.
    """
    rows, sign = [], -1 if average.series.rising else 1
    seen = [(flops, sizes, actual) for flops, sizes, actual in measured if len(sizes) >= 3]
    best = optimal(average, cost, [flops for flops, _, _ in seen], reach)["size"] if seen else []
    for (flops, sizes, actual), law_size in zip(seen, best, strict=True):
        vertex, status = _vertex(np.log(sizes), sign * actual)
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
