"""Runs that are unlike the others: far from where these would have them, or past their own best."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from .averaging import Average, alone, averages, weights_of
from .known import Known
from .pooling import pooled
from .series import Series
from .trend import CHANCE, KNOWN_DEGREES, between_neighbours

DRAWS = 300  # of each law that a run is held against
NEEDED_SIZES = 3  # of the other runs


def beliefs_by_others(all_series: Sequence[Series], known: Known) -> list[Known]:
    """Return what each series may believe of its noise and slopes by series of which none has a run of it."""
    fits = [alone(series, known) for series in all_series]
    weighed = [[*zip(made.values(), weights_of([*made.values()]), strict=True)] for made in fits]
    runs, believed = [set(series.table["run"]) for series in all_series], []
    for mine in range(len(all_series)):
        others = [place for place, theirs in enumerate(runs) if not theirs & runs[mine]]
        places = [mine, *others]
        told = pooled([all_series[place] for place in places], [weighed[place] for place in places], known)
        believed.append(told[0] if others else known)
    return believed


def far_runs(series: Series, known: Known, level: float = 0.95) -> pd.DataFrame:
    """Return the runs whose end lies far from what the average of laws fitted to all other runs forecasts of it.

    Far is what one ladder of twenty would have of all its runs together. Columns run, rung, value, and expected, lo and
    hi (of one new run), chance (of lying as far out). Not told are runs without which fewer than three sizes are left,
    or no law comes near the others.
    """
    found = []
    for _, end in series.last.iterrows():
        others = without_run(series, end["run"])
        if others.table["N"].nunique() < NEEDED_SIZES:
            continue
        with suppress(ValueError):
            (average,) = averages([others], known, DRAWS)
            new = average.forecast(end[["N", "D"]].to_frame().T, level, ["new_run"]).iloc[0]
            ends = {"expected": new["forecast"], "lo": new["lo"], "hi": new["hi"]}
            found.append({**end[["run", "rung", "value"]], **ends, "chance": _chance(average, end)})
    table = pd.DataFrame(found, columns=["run", "rung", "value", "expected", "lo", "hi", "chance"])
    return table[table["chance"] < CHANCE / max(len(table), 1)].reset_index(drop=True)


def _chance(average: Average, end: pd.Series) -> float:
    """Chance that a new run's end lies as far out, on either side."""
    mixture = average.mixture(*end[["N", "D"]].to_numpy(float)[:, None])
    below = float(mixture.below("new_run", average.series.on_scale(np.array([end["value"]], float)))[0])
    return 2 * min(below, 1 - below)


def without_run(series: Series, run: str) -> Series:
    """Return the series without one of its runs."""
    return replace(series, table=series.table[series.table["run"] != run])


def past_best(series: Series, known: Known) -> pd.DataFrame:
    """Return the runs whose last checkpoint is worse than an earlier one beyond the noise of checkpoints.

    Beyond noise is what one series of twenty would show in any of its checkpoints. Columns run, rung, value (the last),
    best, best_exposure, exposure (D of both) and noises, how many standard deviations of a checkpoint lie between them.
    """
    runs = [_of_run(series, rows) for _, rows in series.table.groupby("run", sort=False)]
    along = np.concatenate([part for rows in runs for part in _beside_the_best(rows)])
    squares, degrees = KNOWN_DEGREES * known.run_noise.median**2 + (along**2).sum(), KNOWN_DEGREES + len(along)
    noise, earlier = np.sqrt(squares / degrees), len(series.table) - len(runs)
    reach = np.sqrt(2) * t.ppf(1 - CHANCE / max(earlier, 1), degrees)
    found = []
    for rows in runs:
        best, last = rows.loc[rows["better"].idxmax()], rows.iloc[-1]
        noises = float(best["better"] - last["better"]) / noise
        if noises > reach:
            ends = {"best": best["value"], "best_exposure": best["D"], "exposure": last["D"], "noises": noises}
            found.append({**last[["run", "rung", "value"]], **ends})
    return pd.DataFrame(found, columns=["run", "rung", "value", "best", "best_exposure", "exposure", "noises"])


def _of_run(series: Series, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a run's rows in the order of exposures, with numbers on the series' scale, the better the higher."""
    numbers = series.on_scale(rows["value"].to_numpy(float))
    return rows.assign(better=numbers if series.rising else -numbers).sort_values("D").reset_index(drop=True)


def _beside_the_best(rows: pd.DataFrame) -> list[NDArray]:
    """Return a run's noise up to its best checkpoint and from it on, as the bend between them is none."""
    x, y, best = np.log(rows["D"].to_numpy(float)), rows["better"].to_numpy(), int(rows["better"].argmax())
    return [between_neighbours(x[part], y[part]) for part in (slice(best + 1), slice(best, None))]
