"""Forecasts of held-out rungs, from fitted series alone: no file is read or written."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from rankscale_utils import laws
from rankscale_utils.machine.parallel import each
from rankscale_utils.study.forecasting import Forecasting

from .design import design_of_series
from .fit import SERIES_COLUMNS, Fitted, fitted_rows, known_of, last_rows
from .left_out import NEEDED_RUNGS

SEALED_COLUMNS = ["objective", "metric", "rung", "params", "exposure", "forecast", "lo", "hi", "level", "kind", "law"]
DRAWS_ALONE = 300  # of a law without what is known
BASELINES = ("P0 size", "P0 joint", "no change")


@threadpool_limits.wrap(limits=1)  # last digits depend on the number of threads
def forecast_held_out(fitted: Sequence[Fitted], design: pd.DataFrame, settings: Forecasting) -> list[pd.DataFrame]:
    """Forecast every row of a design: for each series the average, each law in it, and the named baselines.

    Beside an average's interval stand lo_alone and hi_alone, what it would be had next to nothing been known before the
    runs, and `coverage`: how many such intervals held the truth on public ladders of others (`laws.held_elsewhere`).
    """
    known = known_of(settings, fitted_rows(fitted)).wide()
    alone = laws.averages([one.average.series for one in fitted], known, DRAWS_ALONE)
    designs = [design_of_series(one, design) for one in fitted]
    return each(partial(_of_series, settings=settings), fitted, alone, designs)


def _of_series(one: Fitted, unled: laws.Average, at: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    ends = unled.forecast(at, settings.level)
    made = one.average.forecast(at, settings.level).assign(
        lo_alone=ends["lo"], hi_alone=ends["hi"], coverage=laws.held_elsewhere(settings.level)
    )
    by_law = [
        laws.forecast(draws, at, level=settings.level, size="N", exposure="D").assign(
            law=name, weight=one.average.weights[name]
        )
        for name, draws in one.laws.items()
    ]
    return pd.concat([made, *by_law, _baselines(one, at, settings)], ignore_index=True)


def _baselines(one: Fitted, at: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """P0's own protocol and “no change”, for the same rows (kind new_run)."""
    last, level = settings.checkpoints, settings.level
    up = {"rising": one.average.series.rising, "draws": 200}
    made = [
        laws.p0_forecast("size", one.raw, at, last=last, level=level, **up),
        laws.p0_forecast("joint", one.raw, at, last=last, level=level, **up),
        laws.persistence(one.raw, at, last=last, level=level),
    ]
    unchanged = made[-1]["forecast"].to_numpy()
    return pd.concat([table.assign(kind="new_run", persistence=unchanged) for table in made], ignore_index=True)


def past_of_averages(fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return what the averages said of fitted rungs from the three or more smaller ones; no rows where too few."""
    past = fitted[0].past
    if past.empty:
        return past
    rows = past[(past["law"] == "average") & (past["rungs_fitted"] >= NEEDED_RUNGS)]
    return rows.drop(columns=["weight", "relative_error", "no_change"])


def beside_their_past(made: Sequence[pd.DataFrame], past: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of all series, and beside each average how often its like held the truth in the ladder."""
    forecasts = pd.concat(made, ignore_index=True)
    forecasts = forecasts[[*SEALED_COLUMNS, *(column for column in forecasts if column not in SEALED_COLUMNS)]]
    if past.empty:
        return forecasts.assign(past_coverage=np.nan, past_intervals=0)
    covered = past.astype({"covered": float}).groupby("kind")["covered"]
    kinds = forecasts["kind"].where(forecasts["law"] == "average")
    return forecasts.assign(
        past_coverage=kinds.map(covered.mean()), past_intervals=kinds.map(covered.size()).fillna(0).astype(int)
    )


def beside_the_truth(forecasts: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return forecasts with what was measured at the end of each run; see `laws.score_forecasts`.

    rows: of held-out rungs, as laws would see them; what a forecast says of a rung at an exposure stands beside what
    that rung's runs reached there, whatever N and D count. `skill_to_p0` is 1 − |error| / |error of P0's size law|.
    """
    scored = laws.score_forecasts(forecasts, _counted_alike(last_rows(rows), forecasts), size="N", exposure="D")
    keys = [*SERIES_COLUMNS, "rung"]
    theirs = scored[scored["law"] == "P0 size"].set_index(keys)["error"].abs()
    theirs = theirs[~theirs.index.duplicated()].reindex(pd.MultiIndex.from_frame(scored[keys])).to_numpy()
    return scored.assign(skill_to_p0=1 - scored["error"].abs().to_numpy() / np.where(theirs > 0, theirs, np.nan))


def _counted_alike(rows: pd.DataFrame, forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return measured rows with the N and D of the forecasts of their rung and exposure; others are left out.

    Tokens and FLOPs of a run that was not trained yet are forecast themselves, so that no measured one equals them.
    """
    keys = [*SERIES_COLUMNS, "rung"]
    forecast = forecasts[[*keys, "exposure", "N", "D"]].drop_duplicates()
    pairs = rows.drop(columns=["N", "D"]).merge(forecast, on=keys, suffixes=("", "_forecast"))
    return pairs[np.isclose(pairs["exposure"], pairs["exposure_forecast"])]
