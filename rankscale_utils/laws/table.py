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
            found, run = table.loc[wrong, [name, "run"]].iloc[0]
            need = "a positive number" if positive else "a number"
            raise ValueError(f"{name} is {found} in run {run!r}; give {need} or leave the row out")
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
