"""Had the test held other queries: they are resampled, the same ones for every model, and the laws fitted again."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .averaging import Average
from .candidates import Candidate
from .pooling import Prior
from .problem import Problem
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


def query_errors(
    averages: Sequence[Average],
    kept: Sequence[Candidate],
    prior: Prior,
    shifts: Sequence[NDArray],
    ats: Sequence[pd.DataFrame],
) -> list[NDArray]:
    """Standard error (n,) that the choice of test queries gives each average at its rows, on the series' scale.

    shifts: of each series' rows, (draws, rows), as `query_shifts` makes them.
    """
    by_law = [_centres(candidate, averages, prior, shifts, ats) for candidate in kept]
    return [robust_sd(np.mean(centres, axis=0)) for centres in zip(*by_law, strict=True)]


def _centres(
    candidate: Candidate,
    averages: Sequence[Average],
    prior: Prior,
    shifts: Sequence[NDArray],
    ats: Sequence[pd.DataFrame],
) -> list[NDArray]:
    """Each series' forecasts (draws, n) by one law, on the series' scale, after every shift."""
    fits, numbers = [average.laws[candidate.name].fit for average in averages], []
    for average, fit, shift in zip(averages, fits, shifts, strict=True):
        series = average.series
        rows = series.table.index.get_indexer(candidate.rows(series).index)
        moved = series.table["value"].to_numpy(float)[rows] + shift[:, rows]
        numbers.append(Problem.of(fit.law, fit.data, fit.law.scale).on_scale(moved))
    coefficients = candidate.refit(fits, numbers, prior)
    return [
        average.series.on_scale(fit.law.predict(drawn, at["N"], at["D"]))
        for average, fit, drawn, at in zip(averages, fits, coefficients, ats, strict=True)
    ]
