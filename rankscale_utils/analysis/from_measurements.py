"""A ladder's laws, forecasts and allocation from its measurements alone: no study, and nothing written to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.reading import check_held_out, read_measurements
from rankscale_utils.study.forecasting import Allocation, Forecasting
from rankscale_utils.study.loading import read_section

from .coefficients import law_coefficients
from .compute import best_at_budgets, budgets_asked, compute_exponents, training_cost, usable_measurements
from .fit import (
    COUNTS,
    SERIES_COLUMNS,
    Fitted,
    convert_counts,
    fit_series,
    fitted_rows,
    measured_design,
    of_first_collection,
    rows_of_rungs,
)
from .held_out import beside_the_truth, beside_their_past, forecast_held_out, forecast_past

Measurements = pd.DataFrame | Path | str

FORECAST_KEYS = [*SERIES_COLUMNS, "rung", "params", "exposure"]
FORECAST = ["forecast", "lo", "hi", "level", "coverage", "past_coverage", "past_intervals"]
TRUTH = ["actual", "error", "relative_error", "covered", "skill", "skill_to_p0"]
BASELINE_COLUMNS = {"no change": "no_change", "P0 size": "p0_size", "P0 joint": "p0_joint"}  # laws, and their columns
# Counts of size, and the count that tells each for a rung that nobody has trained.
FOLLOWS_FROM = {"params_non_embedding": "params", "params_nominal": "params", "N": "params_non_embedding"}


@dataclass(frozen=True)
class Fits:
    """What was fitted to a ladder.

    series: an objective, metric and collection each, with its measurements and its laws, for `rankscale_utils.laws`.
    """

    series: list[Fitted]

    @property
    def coefficients(self) -> pd.DataFrame:
        """A row for every averaged law of every series: its status, noise and coefficients; see `law_coefficients`."""
        return law_coefficients(self.series)

    @property
    def candidates(self) -> pd.DataFrame:
        """A row for every candidate law, the best first: its mean relative error in the ladder's past (`loss`), how far
        it is `behind` the best and the standard error of that (`doubt`), and whether it is `kept`, that is averaged.
        """
        return self.series[0].choice

    @property
    def past(self) -> pd.DataFrame:
        """Every candidate's forecast of every fitted rung from the smaller ones, with what was measured."""
        return self.series[0].past


@dataclass(frozen=True)
class Optima:
    """How training compute is best spent.

    best: a row a series and budget with flops, size, exposure and value, their intervals and the law's status.
    exponents: a row a series with those of the optimal size (a) and exposure (b) in compute, intervals and a verdict.
    counted: a sentence that says how training FLOPs were counted.
    """

    best: pd.DataFrame
    exponents: pd.DataFrame
    counted: str


def fit(measurements: Measurements, held_out: Sequence[str] = (), **settings: Any) -> Fits:
    """Fit the laws of size and exposure to a ladder, as a study's page 3_fit does.

    Parameters
    ----------
    measurements
        A CSV's path or a table; see `read_measurements`.
    held_out
        Rungs that no fit may see.
    **settings
        Fields of a study's `forecasting`: metrics, size (what N counts), exposure (what D counts), checkpoints,
        burn_in, prior and draws.

    Returns
    -------
    Fits
        With `coefficients`, `candidates` and `past` as tables, and the `series` themselves.

    Raises
    ------
    StudyError
        The measurements or a setting cannot be used; one sentence says why.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> table = pd.DataFrame([
    ...     {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure,
    ...      "collection": "dev", "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2 - exposure**-0.5}
    ...     for size in (17, 32, 68, 150) for exposure in (1e3, 2e3, 4e3)])
    >>> fits = rankscale.fit(table, held_out=["150m"], draws=100)
    >>> fits.candidates[["candidate", "kept"]].head(1)
          candidate  kept
    0  size, pooled  True
    >>> fits.coefficients[["law", "alpha", "beta"]].round(1).head(2)
                 law  alpha  beta
    0   size, pooled    0.4   NaN
    1  joint, pooled    0.4   0.4
    """
    return Fits(fit_series(*_fitted_part(measurements, held_out, settings)[:2]))


def forecast(
    measurements: Measurements,
    held_out: Sequence[str] = (),
    at: pd.DataFrame | None = None,
    level: float = 0.95,
    every_law: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Forecast rungs that no fit may see, as a study's sealed forecasts do, to every digit.

    Parameters
    ----------
    measurements
        A CSV's path or a table; see `read_measurements`.
    held_out
        Rungs of the measurements to forecast at the end of their training; their values serve as the truth alone.
    at
        Runs that nobody has trained yet: a table with rung, params and exposure, and where known
        params_non_embedding. Other counts follow from the ladder's own.
    level
        Of the intervals.
    every_law
        Whether to return all rows as they are sealed: both kinds of intervals, each averaged law and each baseline.
    **settings
        Further fields of a study's `forecasting`; see `fit`. simulations: how many simulated studies say how far
        intervals must reach.

    Returns
    -------
    pandas.DataFrame
        A row a series and rung with forecast, lo and hi (of one new run), level; coverage (the share of such intervals
        that held the truth in simulated studies), past_coverage (the same in the ladder's past, of past_intervals);
        no_change, p0_size and p0_joint (what the baselines say); and, where the rung was measured, actual, error
        (forecast − actual), relative_error, covered, skill (1 − |error| / |error of no change|) and skill_to_p0.

    Raises
    ------
    StudyError
        The measurements or a setting cannot be used, or nothing is to be forecast; one sentence says why.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> table = pd.DataFrame([
    ...     {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": 4e3,
    ...      "collection": "dev", "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2}
    ...     for size in (17, 32, 68, 150)])
    >>> row = rankscale.forecast(table, held_out=["150m"], draws=100, simulations=10).iloc[0]
    >>> bool(row["lo"] <= row["actual"] <= row["hi"])
    True
    >>> larger = pd.DataFrame([{"rung": "1b", "params": 1e9, "exposure": 4e3}])
    >>> rankscale.forecast(table, at=larger, draws=100, simulations=10)[["rung", "forecast", "actual"]].round(2)
      rung  forecast  actual
    0   1b      0.49     NaN
    """
    rows, given, table, rungs = _fitted_part(measurements, held_out, settings | {"level": level})
    if not rungs and at is None:
        raise StudyError("nothing is to be forecast: name rungs in held_out, or give runs to come as a table, at.")
    series = fit_series(rows, given)
    designs = [measured_design(table, rungs, given)] if rungs else []
    designs += [planned_design(at, series)] if at is not None else []
    made = forecast_held_out(series, pd.concat(designs, ignore_index=True), given)
    forecasts = beside_their_past(made, forecast_past(series, given))
    if rungs:
        forecasts = beside_the_truth(forecasts, rows_of_rungs(table, rungs, given))
    return forecasts if every_law else _a_row_a_rung(forecasts)


def allocate(
    measurements: Measurements,
    budgets: Sequence[float] | None = None,
    held_out: Sequence[str] = (),
    level: float = 0.95,
    tokens_per_pair: int = 128,
    **settings: Any,
) -> Optima:
    """Return how training compute is best divided between size and exposure, as a study's page 5_allocate does.

    Parameters
    ----------
    measurements
        A CSV's path or a table; see `read_measurements`. Series of its first collection are asked.
    budgets
        Training FLOPs; None: what the runs spent, and ten and a hundred times the most.
    held_out
        Rungs that no fit may see.
    level
        Of the intervals.
    tokens_per_pair
        Where the measurements bring no column flops, a pair costs 6 × non-embedding parameters × tokens.
    **settings
        Further fields of a study's `forecasting`; see `fit`.

    Returns
    -------
    Optima
        With the tables `best` and `exponents`, and `counted`, a sentence that says how FLOPs were counted.

    Raises
    ------
    StudyError
        The measurements or a setting cannot be used, or there are too few exposures; one sentence says why.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> table = pd.DataFrame([
    ...     {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure,
    ...      "collection": "dev", "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2 - exposure**-0.5}
    ...     for size in (17, 32, 68, 150) for exposure in (1e3, 2e3, 4e3)])
    >>> optima = rankscale.allocate(table, budgets=[1e15, 1e16], draws=100)
    >>> optima.best[["flops", "exposure"]].round(-2)
              flops  exposure
    0  1.000000e+15    1900.0
    1  1.000000e+16    6100.0
    >>> optima.exponents[["a", "b", "favours"]].round(1)
         a    b    favours
    0  0.5  0.5  undecided
    """
    rows, given, table, _ = _fitted_part(measurements, held_out, settings | {"level": level})
    tokens = read_section(Allocation, {"tokens_per_pair": tokens_per_pair}).tokens_per_pair
    asked = None if budgets is None else _budgets(budgets)
    series, usable = of_first_collection(fit_series(rows, given)), usable_measurements(table, given)
    cost, counted = training_cost(usable, tokens)
    best = best_at_budgets(series, cost, budgets_asked(usable, cost) if asked is None else asked, given.level)
    if best.empty:
        raise StudyError(
            "no metric has a law of size and exposure together, which budgets are divided by: give three exposures or "
            "more of every rung."
        )
    return Optima(best, compute_exponents(series, cost, given.level), counted)


def planned_design(at: pd.DataFrame, series: Sequence[Fitted]) -> pd.DataFrame:
    """Return runs to come as rows to forecast, for every series.

    Sizes that they do not name follow from those of the fitted rungs, exposures from the largest fitted rung's.

    Raises:
        StudyError: a column is missing, or a count is not a positive number.
    """
    if missing := [name for name in ("rung", "params", "exposure") if name not in at]:
        raise StudyError(f"at lacks {', '.join(missing)}: it has {', '.join(map(str, at))}; add what is missing.")
    design = at[[name for name in ("rung", *COUNTS) if name in at]].reset_index(drop=True)
    for name in design.columns.drop("rung"):
        numbers = pd.to_numeric(design[name], errors="coerce")
        if (wrong := ~(numbers > 0) | ~np.isfinite(numbers)).any():
            raise StudyError(f"at: {name} = {design.loc[wrong, name].iloc[0]}: must be a positive, finite number.")
        design[name] = numbers.astype(float)
    seen = fitted_rows(series)
    known = [name for name in seen if name not in design and seen[name].notna().all()]
    for count in [count for count in FOLLOWS_FROM if count in known]:
        design[count] = convert_counts(seen, FOLLOWS_FROM[count], count, design)
    longest = seen[seen["N"] == seen["N"].max()].sort_values("exposure").iloc[-1]
    for count in [count for count in ("step", "D") if count in known]:
        design[count] = design["exposure"] * (longest[count] / longest["exposure"])
    return pd.concat([design.assign(**one.labels) for one in series], ignore_index=True)


def _fitted_part(
    measurements: Measurements, held_out: Sequence[str], settings: dict[str, Any]
) -> tuple[pd.DataFrame, Forecasting, pd.DataFrame, list[str]]:
    """Return the rows that a fit may see, the settings, all rows, and the rungs that are held out."""
    given, rungs = read_section(Forecasting, settings), [held_out] if isinstance(held_out, str) else list(held_out)
    table = read_measurements(measurements)
    check_held_out(table, rungs)
    if unknown := [metric for metric in given.metrics if metric not in set(table["metric"])]:
        known = ", ".join(table["metric"].unique())
        raise StudyError(f"metrics {unknown} have no row in the measurements: name some of {known}.")
    return table[~table["rung"].isin(rungs)], given, table, rungs


def _budgets(budgets: Sequence[float]) -> np.ndarray:
    asked = np.atleast_1d(np.asarray(budgets, float))
    if not len(asked) or not (np.isfinite(asked) & (asked > 0)).all():
        raise StudyError(f"budgets = {list(budgets)}: each must be a positive, finite number of training FLOPs.")
    return asked


def _a_row_a_rung(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' forecasts of one new run, each with what the baselines say."""
    new = forecasts[forecasts["kind"] == "new_run"]
    table = new[new["law"] == "average"].reindex(columns=[*FORECAST_KEYS, *FORECAST, *TRUTH])
    said = new[new["law"].isin(BASELINE_COLUMNS)].pivot(index=FORECAST_KEYS, columns="law", values="forecast")
    said = said.reindex(pd.MultiIndex.from_frame(table[FORECAST_KEYS])).reset_index(drop=True)
    table = table.reset_index(drop=True)
    for law, name in BASELINE_COLUMNS.items():
        table.insert(table.columns.get_loc("actual"), name, said[law])
    return table
