"""Quality against latency: the Pareto front, and what the laws forecast within a latency."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from rankscale_utils import laws
from rankscale_utils.study.study import Study

from .design import convert_counts, design_of_series, held_out_design
from .fit import Fitted
from .forecast import open_sealed_forecasts

BEYOND = 4.0  # how many times smaller or larger than the timed sizes a latency is extrapolated to
SIZES_BETWEEN = 60  # sizes beside the rungs' own


def beside_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return `fixed_lengths` of one depth with ratios of time and, beside them, of counted FLOPs.

    Further columns: faster and faster_counted, how many times less than the slowest system at that length; grown and
    grown_counted, how many times more than at the shortest length.
    """
    slowest = table.loc[table.groupby("document_tokens")["p50_ms"].idxmax()].set_index("document_tokens")
    shortest = table[table["document_tokens"] == table["document_tokens"].min()].set_index("name")
    for cost, ending in (("p50_ms", ""), ("flops_per_pair", "_counted")):
        faster = table["document_tokens"].map(slowest[cost]) / table[cost]
        grown = table[cost] / table["name"].map(shortest[cost])
        table = table.assign(**{f"faster{ending}": faster, f"grown{ending}": grown})
    return table


def pareto_front(table: pd.DataFrame, cost: str = "p50_ms", value: str = "value") -> pd.DataFrame:
    """Return the rows that no other row beats or equals at the same or a lower cost, cheapest first."""
    ordered = table.sort_values([cost, value], ascending=[True, False], kind="stable")
    before = ordered[value].cummax().shift(fill_value=-np.inf)
    return ordered[ordered[value] > before]


def best_within_latency(table: pd.DataFrame, budgets_ms: Sequence[float], value: str = "value") -> pd.DataFrame:
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


def forecast_served(study: Study, fitted: list[Fitted], timed: pd.DataFrame) -> pd.DataFrame:
    """Return forecasts of one new run by size with the latency of every way to serve it: see `at_latencies`.

    fitted: all series of the study. timed: from `speed.measure_study`. Sizes are the rungs' own and others, to `BEYOND`
    times the largest; below the smallest a law has no past to judge it by. Forecasts are the averages' at
    the exposure that held-out rungs are forecast at. Columns:
    name, family, objective, metric, collection, depth, params_non_embedding, p50_ms, forecast, lo, hi, level, and
    coverage, the share of such intervals that held the truth on public ladders of others. No rows where
    no law was fitted to what was timed.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    served = of_the_laws(study, timed)
    if not fitted:
        return served.iloc[:0]
    sealed, design = open_sealed_forecasts(study, fitted), held_out_design(study, fitted)
    made = [
        _of_series(one, study, mine["params_non_embedding"], sealed, design)
        for one in fitted
        if len(mine := design_of_series(one, served))
    ]
    return at_latencies(pd.concat(made, ignore_index=True), served) if made else served.iloc[:0]


def of_the_laws(study: Study, timed: pd.DataFrame) -> pd.DataFrame:
    """Return the systems that rank as evaluation does, at its depth: those that laws are of."""
    return timed[(timed["depth"] == study.evaluation.depth) & timed["as_evaluated"]]


def _of_series(one: Fitted, study: Study, rungs: pd.Series, sealed: pd.DataFrame, design: pd.DataFrame) -> pd.DataFrame:
    """Return the average's forecasts of one new run at all sizes; at a held-out rung's they are the sealed ones."""
    others = np.geomspace(rungs.min(), rungs.max() * BEYOND, SIZES_BETWEEN)
    at = pd.DataFrame({"params_non_embedding": np.union1d(others, rungs)})
    at = at.assign(
        N=convert_counts(one.table, "params_non_embedding", "N", at), D=design_of_series(one, design)["D"].max()
    )
    made = one.average.forecast(at, study.forecasting.level, ["new_run"])
    return made.assign(
        **one.labels,
        family=study.family_of(one.objective),
        depth=study.evaluation.depth,
        coverage=laws.held_elsewhere(study.forecasting.level),
    )
