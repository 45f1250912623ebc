"""Checkpoints of one run averaged in windows, so that rows carry even noise and a run's end is no single checkpoint."""

import numpy as np
import pandas as pd

from .scales import Scale, to_scale


def averaged(table: pd.DataFrame, checkpoints: int, burn_in: float, exposure: str = "exposure") -> pd.DataFrame:
    """Return a row for every full window of so many checkpoints of each run, counted back from its last one.

    checkpoints: 1 keeps every checkpoint. burn_in: the share of a run's largest exposure before which its checkpoints
    are left out: at first a model ranks by chance, which no power law describes. A run with fewer checkpoints than a
    window has one row. Numbers are means (of `exposure` and D geometric ones, as laws are straight in its logarithm).
    """
    ends = table.groupby("run")[exposure].transform("max")
    table = table[table[exposure] >= burn_in * ends]
    if checkpoints == 1:
        return table.reset_index(drop=True)
    table = table.sort_values(["run", exposure]).reset_index(drop=True)
    back = table.groupby("run").cumcount(ascending=False) // checkpoints
    full = table.groupby(["run", back])["run"].transform("size") == checkpoints
    table, back = table[full | (back == 0)], back[full | (back == 0)]
    numbers = table.select_dtypes("number").columns
    rules = dict.fromkeys(table.columns.difference(["run"], sort=False), "first") | dict.fromkeys(numbers, "mean")
    exposures = [name for name in (exposure, "D") if name in table]
    logs = table.assign(**{name: np.log(table[name]) for name in exposures})
    windows = logs.groupby(["run", -back], sort=False).agg(rules).reset_index("run").reset_index(drop=True)
    return windows.assign(**{name: np.exp(windows[name]) for name in exposures})[[*table.columns]]


def unevenness(
    table: pd.DataFrame, rising: bool, limits: tuple[float, float], scale: Scale, exposure: str = "exposure"
) -> float:
    """How many times the noisiest run's checkpoints scatter as the quietest run's do, on a scale; 1 is even.

    Noise is read off differences of neighbours in the second half of each run, where the trend is small; not a number
    where runs have fewer than eight checkpoints there.
    """
    late = table[table[exposure] > table.groupby("run")[exposure].transform("max") / 2].sort_values(["run", exposure])
    numbers = pd.Series(to_scale(scale, late["value"], rising, limits), late.index)
    if late.groupby("run").size().min() < 8:
        return float("nan")
    noise = numbers.groupby(late["run"]).apply(lambda run: run.diff().std())
    return float(noise.max() / noise.min()) if noise.min() > 0 else float("nan")
