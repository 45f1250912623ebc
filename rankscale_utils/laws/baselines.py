"""Baselines that forecasts are put beside: the protocol of P0 (arXiv 2603.04816), and no change.

Both laws of P0 are fitted by least squares on raw values from one start, and their intervals come from checkpoints
resampled as if each were a run of its own. That is P0's choice, kept as it is so that it can be compared; `resample`
and `forecast` are this project's.
"""

import warnings
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from .fitting import DISTINCT_NEEDED, Fit
from .forms import AdditiveLaw, joint_law, size_law
from .problem import Problem
from .refitting import DRAWN, refit
from .resampling import check_level
from .rows import measurements

LETTERS = "abcde"  # P0's names, in the order of the law's coefficients
EXPONENT_START = 0.5
EVALUATIONS = 5000  # of the law before a fit is given up
NEAR = 1e-4  # of a bound, in units of the values' spread; exponents as they are
NEVER = 1e6  # spreads at which Huber's loss turns: plain squares


def p0_forecast(
    form: Literal["size", "joint"],
    table: pd.DataFrame,
    at: pd.DataFrame,
    *,
    rising: bool,
    last: int = 10,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Forecast by P0's size law y = a + b·N^c or its joint law y = a + b·N^c + d·D^e.

    table: one objective's, metric's and collection's measurements of the fitted rungs, columns run, params_nominal
    (or params, where it has no complete params_nominal), step (or else exposure) and value in the metric's own units.
    at: a row for each forecast, with the same size column and, for the joint law, the same exposure column; where a
    cell of it holds several exposures, the forecast is the mean over them (P0 forecasts the held-out run's last step).
    Other columns are carried along. rising: whether the metric grows with N, which gives b its sign, and a the bounds 0
    to 1 rather than 0 to ∞; the others have the bounds of `AdditiveLaw`, which no published fit touches. last: how
    many checkpoints of each run the size law is fitted to, each as one row; the joint law is fitted to all of them.

    Returns `at` with forecast, lo, hi (values in the metric's units), level, law and status: "converged", "at a bound:
    " and P0's letters, or "did not converge: " and why, with an empty forecast. The fit is `scipy.optimize.curve_fit`.
    The interval is a percentile one over `draws` samples of rows with replacement, each refitted from that fit by
    `refit`, which finds the same least squares in a batch. Raises ValueError where a column, a value or an argument
    cannot be used.

    Source: arXiv 2603.04816. On the values read from its figures, the size law's public forecasts are met to 1.3e-4
    for retrieval metrics and 2.4e-4 for contrastive entropy, and its intervals' ends to 7e-4 and 1e-2; the joint law's
    to 9e-5 and 3e-4, and so, to 1.1e-4 and 2.4e-4, are its biases (mean actual − forecast over all checkpoints of a
    held-out run). Its listwise intervals' ends are met to 3e-3 and 6e-3; its pointwise intervals reach up to 0.044
    further, as resamples refitted to the least squares do not.
    """
    data = _rows(table)
    if form == "size":
        law, data, places = size_law(rising), _latest(data, last), _places(table, at, exposure=None)
    else:
        law, places = joint_law(rising), _places(table, at, _exposure_column(table))
    return _forecast(law, data, at, places, level, draws, seed)


def persistence(table: pd.DataFrame, at: pd.DataFrame, *, last: int = 10, level: float = 0.95) -> pd.DataFrame:
    """Forecast no change: the mean over the last checkpoints of the largest fitted size's runs.

    table, last: as in `p0_forecast`. Returns `at` with forecast (the same in every row), lo and hi (empty: no change
    has no interval), level, law and status ("not fitted"). Raises ValueError as `p0_forecast` does.
    """
    check_level(level)
    data = _latest(_rows(table), last)
    value = data.loc[data["N"] == data["N"].max(), "value"].mean()
    return at.assign(forecast=value, lo=np.nan, hi=np.nan, level=level, law="no change", status="not fitted")


def _size_column(table: pd.DataFrame) -> str:
    return _complete(table, "params_nominal", "params")


def _exposure_column(table: pd.DataFrame) -> str:
    return _complete(table, "step", "exposure")


def _complete(table: pd.DataFrame, preferred: str, otherwise: str) -> str:
    """The preferred column where every row has it: tables joined from several studies may have it in some."""
    return preferred if preferred in table and table[preferred].notna().all() else otherwise


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    return measurements(table, _size_column(table), _exposure_column(table))


def _latest(data: pd.DataFrame, last: int) -> pd.DataFrame:
    """The last checkpoints of each run."""
    if last < 1:
        raise ValueError(f"last is {last}; give how many checkpoints of each run count, at least 1")
    return data.sort_values(["run", "D"]).groupby("run").tail(last).reset_index(drop=True)


def _places(table: pd.DataFrame, at: pd.DataFrame, exposure: str | None) -> list[tuple[float, NDArray]]:
    """Each forecast's size and exposures (n,); without an exposure column one stands in, which no size law reads."""
    if at.empty:
        raise ValueError("there are no rows to forecast; give one for each held-out rung")
    size = _size_column(table)
    for name in (size, exposure):
        if name is not None and name not in at:
            raise ValueError(f"column {name!r} is missing from the rows to forecast; add it, as the table has it")
    exposures = [1.0] * len(at) if exposure is None else at[exposure]
    return [(float(N), np.atleast_1d(np.asarray(D, float))) for N, D in zip(at[size], exposures, strict=True)]


def _forecast(
    law: AdditiveLaw,
    data: pd.DataFrame,
    at: pd.DataFrame,
    places: list[tuple[float, NDArray]],
    level: float,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of `at` with the law's forecast and interval at each place."""
    check_level(level)
    forecast, lo, hi, status = np.nan, np.nan, np.nan, _too_little(law, data)
    if status is None:
        try:
            fit = _least_squares(law, data)
        except RuntimeError:
            status = f"did not converge: no least squares after {EVALUATIONS} evaluations of the law"
        else:
            status, forecast = fit.status, _predict(law, fit.vector, places)
            tails = (1 - level) / 2, (1 + level) / 2
            lo, hi = np.quantile(_predict(law, _resampled_rows(fit, draws, seed), places), tails, axis=0)
    return at.assign(forecast=forecast, lo=lo, hi=hi, level=level, law=f"P0 {law.name}", status=status)


def _too_little(law: AdditiveLaw, data: pd.DataFrame) -> str | None:
    """Say why the law cannot be fitted to so few measurements, where it cannot."""
    for axis, word in (("N", "sizes"), ("D", "exposures")):
        distinct = data[axis].nunique()
        if axis in law.axes and distinct < DISTINCT_NEEDED:
            return f"did not converge: {distinct} distinct {word}, {DISTINCT_NEEDED} needed"
    needed = len(law.coefficient_names)
    return f"did not converge: {len(data)} checkpoints, {needed} needed" if len(data) < needed else None


def _least_squares(law: AdditiveLaw, data: pd.DataFrame) -> Fit:
    """Fit by `curve_fit` from one start; raise RuntimeError where it gives up.

    Sizes and exposures are in units of their geometric mean, where steps of equal length in every coefficient make
    sense. The start is the best value, reached along terms that share the values' spread.
    """
    problem, axes = Problem.of(law, data, "value"), len(law.axes)
    y, spread = problem.value, problem.spread
    best = np.clip(y.max() if law.rising else y.min(), *law.limits)
    start = np.r_[best, [spread / axes, EXPONENT_START] * axes]
    low, high = (law.from_working(bound) for bound in problem.bounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # about a covariance that goes unused
        working, _ = curve_fit(
            lambda _, *coefficients: law.predict(coefficients, **problem.axes),
            problem.N,
            y,
            p0=start,
            bounds=(low, high),
            max_nfev=EVALUATIONS,
        )
    near = NEAR * np.r_[spread, [spread, 1.0] * axes]
    bound = (working - low < near) | (high - working < near)
    letters = [letter for letter, pinned in zip(LETTERS, bound, strict=False) if pinned]
    residuals = y - law.predict(working, **problem.axes)
    return Fit.of(
        law,
        data,
        law.in_units(working, 1 / problem.units),
        "at a bound: " + ", ".join(letters) if letters else "converged",
        residuals=residuals,
        scale="value",
        noise=NEVER * spread,
    )


def _resampled_rows(fit: Fit, draws: int, seed: int) -> NDArray:
    """Coefficients (draws, k) of the law refitted to rows drawn with replacement, whichever run they are from."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(fit.rows, np.full(fit.rows, 1 / fit.rows), size=draws)
    values = np.broadcast_to(fit.data["value"].to_numpy(), counts.shape)
    return refit(fit, values, weights=counts.astype(float), patience=DRAWN)


def _predict(law: AdditiveLaw, coefficients: NDArray, places: list[tuple[float, NDArray]]) -> NDArray:
    """Mean over each place's exposures (..., places), for coefficients (..., k)."""
    return np.stack([law.predict(coefficients, N, D).mean(-1) for N, D in places], axis=-1)
