"""Had the test held other queries: they are resampled, the same ones for every model, and the laws follow."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .averaging import Average
from .resampling import robust_sd


def query_shifts(values: pd.DataFrame, draws: int, seed: int | Sequence[int] = 0) -> NDArray:
    """Changes (draws, rows) of the means of rows (rows, queries) when the queries are drawn anew, with replacement.

    A row is one model at one exposure, a column one query, empty where a metric leaves a query out. All rows are
    averaged over the same drawn queries, so that what queries do to all models alike is never taken for noise between
    them. Equal seeds draw the same columns. Source: Sakai, SIGIR 2006.
    """
    rng, count = np.random.default_rng(seed), values.shape[1]
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)
    present, numbers = values.notna().to_numpy(float), values.fillna(0.0).to_numpy(float)
    return (weights @ numbers.T) / (weights @ present.T) - numbers.sum(1) / present.sum(1)


def query_errors(averages: Sequence[Average], shifts: Sequence[NDArray], ats: Sequence[pd.DataFrame]) -> list[NDArray]:
    """Standard error (n,) that the choice of test queries gives each average at its rows, on the series' scale.

    shifts: of each series' rows, (draws, rows), as `query_shifts` makes them. The forms follow them to first order.
    """
    errors = []
    for average, shift, at in zip(averages, shifts, ats, strict=True):
        series = average.series
        values = series.table["value"].to_numpy(float)
        changes = series.on_scale(values + shift) - series.on_scale(values)
        changes = changes[:, series.table.index.get_indexer(series.rows.index)]
        moved = 0.0
        for name, made in average.posteriors.items():
            moved = moved + average.weights[name] * made.moved(changes, at["N"], at["D"])
        errors.append(robust_sd(moved))
    return errors
