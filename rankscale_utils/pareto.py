"""Quality against latency: the Pareto front, and the best that fits into so many milliseconds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

BEYOND = 4.0  # how many times smaller or larger than the timed sizes a latency is extrapolated to


def mean_with_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over queries and the ends of its t interval, which are NaN for a single query."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, np.nan, np.nan
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - reach, mean + reach


def pareto_front(table: pd.DataFrame, cost: str = "p50_ms", value: str = "value") -> pd.DataFrame:
    """Return the rows that no other row beats or equals at the same or a lower cost, cheapest first."""
    ordered = table.sort_values([cost, value], ascending=[True, False], kind="stable")
    before = ordered[value].cummax().shift(fill_value=-np.inf)
    return ordered[ordered[value] > before]


def best_within(table: pd.DataFrame, budgets_ms: Sequence[float], value: str = "value") -> pd.DataFrame:
    """Return the row of the highest value within each budget of p50_ms; further column budget_ms.

    value: the column, of what was measured or of what is forecast. A budget that nothing meets has no row.
    """
    found = [_best(table, budget, value) for budget in budgets_ms]
    return pd.concat(found, ignore_index=True)


def latency_at(sizes: ArrayLike, p50_ms: ArrayLike, at: ArrayLike) -> NDArray:
    """Return the latency at other sizes (n,), in ms: lines between the logarithms, the outer ones drawn on.

    sizes: of the systems timed, two or more, in any order. Where a larger one was faster, which is the clock's noise,
    both count as their geometric mean, so that latency never falls with size (isotonic regression). NaN where a size is
    more than `BEYOND` times smaller or larger than all of them.
    """
    order = np.argsort(sizes)
    x, to = np.log(np.asarray(sizes, float)[order]), np.log(at)
    y = isotonic_regression(np.log(np.asarray(p50_ms, float)[order])).x
    piece = np.clip(np.searchsorted(x, to) - 1, 0, len(x) - 2)
    slope = np.diff(y) / np.diff(x)
    inside = (to >= x[0] - np.log(BEYOND)) & (to <= x[-1] + np.log(BEYOND))
    return np.where(inside, np.exp(y[piece] + slope[piece] * (to - x[piece])), np.nan)


def at_latencies(forecasts: pd.DataFrame, timed: pd.DataFrame, size: str = "params_non_embedding") -> pd.DataFrame:
    """Return every forecast with what its systems would need: the columns of `forecasts`, name and p50_ms.

    forecasts: family, `size` and what is forecast, one row a size that may be chosen. timed: name, family, `size`,
    p50_ms, one row a system and rung, all at the depth that the forecasts are of. A system whose scores are not those
    that its family's law is of (pooled states) does not belong in it. Systems timed at one size alone are left out, as
    are sizes that `latency_at` does not reach.
    """
    options = [forecasts.iloc[:0].assign(name="", p50_ms=0.0)]
    for (name, family), rows in timed.groupby(["name", "family"], sort=False):
        if rows[size].nunique() > 1:
            mine = forecasts[forecasts["family"] == family]
            options.append(mine.assign(name=name, p50_ms=latency_at(rows[size], rows["p50_ms"], mine[size])))
    return pd.concat(options, ignore_index=True).dropna(subset="p50_ms")


def _best(table: pd.DataFrame, budget_ms: float, value: str) -> pd.DataFrame:
    """Return the row of the highest value within a budget, the faster one of equals, or no row."""
    affordable = table[table["p50_ms"] <= budget_ms].sort_values([value, "p50_ms"], ascending=[False, True])
    return affordable.head(1).assign(budget_ms=budget_ms)
