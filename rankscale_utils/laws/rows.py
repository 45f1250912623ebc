"""The measurements that a fit uses, checked."""

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import digest


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
    data = {"run": table["run"].astype(str).array}
    for name, column in list(columns.items())[1:]:
        data[column] = pd.to_numeric(table[name], errors="coerce").to_numpy(float, na_value=np.nan)
        positive = column != "value"
        wrong = ~np.isfinite(data[column]) | ((data[column] <= 0) & positive)
        if wrong.any():
            cell, run = table.loc[wrong, [name, "run"]].iloc[0]
            need = "a positive number" if positive else "a number"
            raise ValueError(f"{name} is {cell} in run {run!r}; give {need} or leave the row out")
    data = pd.DataFrame(data)
    _check_runs(data)
    return data


def hash_of_data(data: pd.DataFrame) -> str:
    """Return the SHA-256 of the columns run, N, D and value, whatever the order of the rows."""
    return digest(data.sort_values(["run", "N", "D"]).to_csv(index=False))


def _check_runs(data: pd.DataFrame) -> None:
    """A run has one size and one row at each exposure."""
    if len(data.drop_duplicates(["run", "N"])) > data["run"].nunique():
        sizes = data.groupby("run")["N"].nunique()
        raise ValueError(f"run {sizes.idxmax()!r} has {sizes.max()} sizes; give each independent run its own id")
    twice = data.duplicated(["run", "D"])
    if twice.any():
        run, exposure = data.loc[twice, ["run", "D"]].iloc[0]
        raise ValueError(f"run {run!r} has exposure {exposure:g} twice; keep one row for each checkpoint")


def best_so_far(table: pd.DataFrame, rising: bool, exposure: str = "exposure") -> pd.DataFrame:
    """Return a series' rows with each run's best value up to each exposure."""
    values = table.sort_values(exposure, kind="stable").groupby("run")["value"]
    return table.assign(value=values.cummax() if rising else values.cummin())


def averaged(table: pd.DataFrame, checkpoints: int, burn_in: float, exposure: str = "exposure") -> pd.DataFrame:
    """Return a row for every full window of so many checkpoints of each run, counted back from its last one.

    checkpoints: 1 keeps every checkpoint. burn_in: the share of a run's largest exposure before which its checkpoints
    are left out: at first a model ranks by chance, which no power law describes. A run with fewer checkpoints than a
    window has one row. Numbers are means (of `exposure` and D geometric ones, as laws are straight in its logarithm);
    words are the first checkpoint's.
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
    exposures = [name for name in (exposure, "D") if name in table]
    logs = table[numbers].assign(**{name: np.log(table[name]) for name in exposures})
    by_window = logs.groupby([table["run"], back], sort=False)
    means = {name: by_window[name].mean().to_numpy() for name in numbers}  # apart: a column's gaps blur the others'
    means |= {name: np.exp(means[name]) for name in exposures}
    return table[by_window.cumcount() == 0].reset_index(drop=True).assign(**means)
