"""The measurements that a fit uses, checked."""

import numpy as np
import pandas as pd


def measurements(table: pd.DataFrame, size: str, exposure: str) -> pd.DataFrame:
    """Return the columns run, N, D and value that a fit uses; raise ValueError naming what is wrong and the remedy."""
    columns = {"run": "run", size: "N", exposure: "D", "value": "value"}
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"column {missing[0]!r} is missing from the measurements; add it, or name the one to use")
    if table.empty:
        raise ValueError("the measurements have no rows; choose an objective, metric and collection that were measured")
    if table["run"].isna().any():
        raise ValueError("run is empty in some rows; give each independent run its own id")
    data = pd.DataFrame({"run": table["run"].astype(str)})
    for name, column in list(columns.items())[1:]:
        data[column] = pd.to_numeric(table[name], errors="coerce").astype(float)
        positive = column != "value"
        wrong = ~np.isfinite(data[column]) | ((data[column] <= 0) & positive)
        if wrong.any():
            cell, run = table.loc[wrong, [name, "run"]].iloc[0]
            need = "a positive number" if positive else "a number"
            raise ValueError(f"{name} is {cell} in run {run!r}; give {need} or leave the row out")
    _check_runs(data)
    return data.reset_index(drop=True)


def _check_runs(data: pd.DataFrame) -> None:
    """A run has one size and one row at each exposure."""
    sizes = data.groupby("run")["N"].nunique()
    if sizes.max() > 1:
        raise ValueError(f"run {sizes.idxmax()!r} has {sizes.max()} sizes; give each independent run its own id")
    twice = data[data.duplicated(["run", "D"])]
    if len(twice):
        run, exposure = twice[["run", "D"]].iloc[0]
        raise ValueError(f"run {run!r} has exposure {exposure:g} twice; keep one row for each checkpoint")


def best_so_far(table: pd.DataFrame, rising: bool, exposure: str = "exposure") -> pd.DataFrame:
    """Return a series' rows with each run's best value up to each exposure."""
    values = table.sort_values(exposure, kind="stable").groupby("run")["value"]
    return table.assign(value=values.cummax() if rising else values.cummin())


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
