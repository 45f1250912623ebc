"""A ladder's forecasts from its measurements alone: no study, and nothing written to disk."""

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.arguments import table, table_or_file
from rankscale_utils.measurements.table import reasons_of
from rankscale_utils.study.arguments import checked, flag, names, optional

from .design import measured_design
from .fit import SERIES_COLUMNS, Fitted, fit_series, rows_of_rungs
from .held_out import beside_the_truth, beside_their_past, forecast_held_out, past_of_averages
from .ladder import Measurements, open_ladder
from .planned_runs import design_of_planned, planned_runs
from .predictability import JUDGED, predictability

FORECAST_KEYS = [*SERIES_COLUMNS, "rung", "params", "exposure"]
FORECAST = ["forecast", "lo", "hi", "level", "coverage", "past_coverage", "past_intervals", "predictable"]
TRUTH = ["actual", "error", "relative_error", "covered", "skill", "skill_to_p0"]
BASELINE_COLUMNS = {"no change": "no_change", "P0 size": "p0_size", "P0 joint": "p0_joint"}  # laws, and their columns


@checked(measurements=table_or_file, held_out=names, at=optional(table), every_law=flag)
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
        Further fields of a study's `forecasting`; see `fit`.

    Returns
    -------
    pandas.DataFrame
        A row a series and rung with forecast, lo and hi (of one new run), level; coverage (the share of such intervals
        that held the truth on public ladders of others), past_coverage (the same in the ladder's own past, of
        past_intervals); predictable (whether the fitted runs show an order of sizes that could go on); no_change,
        p0_size and p0_joint (what the baselines say); and, where the rung was measured, actual, error
        (forecast − actual), relative_error, covered, skill (1 − |error| / |error of no change|) and skill_to_p0. A
        warning names each series that is left out or not predictable, as a study's page does, and why, and the runs
        that end below their own best.

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
    >>> row = rankscale.forecast(table, held_out=["150m"], draws=100).iloc[0]
    >>> bool(row["lo"] <= row["actual"] <= row["hi"])
    True
    >>> larger = pd.DataFrame([{"rung": "1b", "params": 1e9, "exposure": 4e3}])
    >>> rankscale.forecast(table, at=larger, draws=100)[["rung", "forecast", "actual"]].round(2)
      rung  forecast  actual
    0   1b      0.49     NaN
    """
    ladder = open_ladder(measurements, held_out, settings | {"level": level}, planned=at is not None)
    if not held_out and at is None:
        raise StudyError("nothing is to be forecast: name rungs in held_out, or give runs to come as a table, at.")
    rows, rungs, given = ladder.table, ladder.held_out, ladder.settings
    designs = [measured_design(rows, rungs, given)] if rungs else []
    planned = None if at is None else planned_runs(at, ladder, designs)
    series = fit_series(ladder.fitted, given)
    designs += [] if planned is None else [design_of_planned(planned, series)]
    made = forecast_held_out(series, pd.concat(designs, ignore_index=True), given)
    forecasts = beside_their_past(made, past_of_averages(series))
    forecasts = forecasts.merge(_judged(series, ladder.fitted)[[*SERIES_COLUMNS, "predictable"]])
    _name_runs_past_their_best(series)
    if rungs:
        forecasts = beside_the_truth(forecasts, rows_of_rungs(rows, rungs, given))
    return forecasts if every_law else _a_row_a_rung(forecasts)


def _judged(series: Sequence[Fitted], fitted: pd.DataFrame) -> pd.DataFrame:
    """Return the verdict on every series (`predictability`), warning of those that cannot be forecast."""
    judged = predictability(series, fitted[fitted["metric"].str.casefold() == JUDGED])
    unable = judged[~judged["predictable"]]
    for sentence, instead in zip(reasons_of(unable), unable["instead"], strict=True):
        other = f"; {instead} is predictable" if instead else ""
        warnings.warn(f"not predictable from these runs: {sentence}{other}", stacklevel=4)
    return judged


def _name_runs_past_their_best(series: Sequence[Fitted]) -> None:
    """Warn of runs that end worse than they were beyond the noise of checkpoints, as no law here turns back."""
    runs = [laws.past_best(one.average.series, laws.known())["run"] for one in series]
    past = [
        one.labels | {"reason": f"{', '.join(names)} end below their best by more than noise"}
        for one, names in zip(series, runs, strict=True)
        if len(names)
    ]
    for sentence in reasons_of(pd.DataFrame(past)):
        warnings.warn(f"past their best: {sentence}; value='best' forecasts the best value so far", stacklevel=4)


def _a_row_a_rung(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' forecasts of one new run, each with what the baselines say."""
    new = forecasts[forecasts["kind"] == "new_run"]
    averages = new[new["law"] == "average"].reindex(columns=[*FORECAST_KEYS, *FORECAST, *TRUTH])
    said = new[new["law"].isin(BASELINE_COLUMNS)].pivot(index=FORECAST_KEYS, columns="law", values="forecast")
    said = said.reindex(pd.MultiIndex.from_frame(averages[FORECAST_KEYS])).reset_index(drop=True)
    averages = averages.reset_index(drop=True)
    for law, name in BASELINE_COLUMNS.items():
        averages.insert(averages.columns.get_loc("actual"), name, said[law])
    return averages
