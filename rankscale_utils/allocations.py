"""How a study's compute should be spent: the optimum of every series, and what equal compute really bought."""

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.files import whole_file
from rankscale_utils.forecasts import Fitted
from rankscale_utils.measurements import of_runs, usable
from rankscale_utils.study import Study

BUDGETS = 5


def training_cost(study: Study, table: pd.DataFrame) -> tuple[laws.Cost, str]:
    """Return the training cost of a pair by size, and a sentence that says how it was counted."""
    rungs = table.groupby("rung")
    sizes = rungs["params_non_embedding"].first()
    if "flops" in table:
        return laws.Cost.from_ladder(sizes, rungs["flops"].sum() / rungs["exposure"].sum()), (
            "Training FLOPs are the runs' own: counted from the models' matrix products and the real pair lengths."
        )
    tokens = study.allocation.tokens_per_pair
    return laws.Cost.from_ladder(sizes, 6 * sizes * tokens), (
        f"The measurements bring no FLOPs: a pair is assumed to cost 6 × non-embedding parameters × {tokens} tokens. "
        "The exponents do not depend on the number of tokens."
    )


def all_measurements(study: Study) -> pd.DataFrame:
    """Return the usable measurements of every rung, held-out ones included."""
    return usable(of_runs(study, fitted_only=False))


def budgets(table: pd.DataFrame, cost: laws.Cost) -> np.ndarray:
    """Return training budgets in FLOPs, evenly spaced in logarithms over what the runs spent: (budgets,)."""
    spent = cost.flops_per_unit(table["params_non_embedding"]) * table["exposure"]
    low, high = np.quantile(spent, [0.1, 1.0])
    return np.geomspace(low, high, BUDGETS)


def rows_of(one: Fitted, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to a series."""
    return table[np.logical_and.reduce([table[name] == value for name, value in one.labels.items()])]


def allocate_study(study: Study, fitted: list[Fitted], table: pd.DataFrame, cost: laws.Cost) -> pd.DataFrame:
    """Write `allocation.csv` and return it: the best size and exposure of every series at every budget.

    Budgets are those that the runs spent, and ten and a hundred times the largest.
    """
    levels = budgets(table, cost)
    levels = np.append(levels, levels[-1] * np.array([10, 100]))
    tables = [
        laws.optimal(one.joint, cost, levels, level=study.forecasting.level).assign(
            **one.labels, status=one.joint.fit.status
        )
        for one in fitted
        if one.joint is not None
    ]
    allocation = pd.concat(tables, ignore_index=True)
    with whole_file(study.folder / "allocation.csv") as temporary:
        allocation.to_csv(temporary, index=False)
    return allocation


def exponents(fitted: list[Fitted], cost: laws.Cost, level: float) -> pd.DataFrame:
    """Return the exponents of the optimal size and exposure in compute, a row a series, with intervals and a verdict.

    `favours` is size or data where the whole interval of size's share of compute, a·m, lies on one side of a half, and
    the law's own status where that is not `converged`.
    """
    rows = []
    for one in fitted:
        if one.joint is None:
            continue
        a, b = laws.exponents(one.joint, cost, level=level).to_dict("records")
        half = 0.5 / cost.growth
        favours = "size" if a["lo"] > half else "data" if a["hi"] < half else "undecided"
        favours = favours if one.joint.fit.status == "converged" else one.joint.fit.status
        ends = {f"{name}_{end}": row[end] for name, row in (("a", a), ("b", b)) for end in ("lo", "hi")}
        rows.append(one.labels | {"a": a["value"], "b": b["value"], **ends, "favours": favours})
    return pd.DataFrame(rows)


def equal_compute(fitted: list[Fitted], table: pd.DataFrame, cost: laws.Cost) -> pd.DataFrame:
    """Compare the law's pick with the best of the rungs really trained, at equal compute, a row a series and budget."""
    tables = [
        laws.equal_compute(rows_of(one, table), one.joint.fit, cost).assign(**one.labels)
        for one in fitted
        if one.joint is not None
    ]
    compared = pd.concat(tables, ignore_index=True)
    rung_of = table.drop_duplicates("rung").set_index("params_non_embedding")["rung"]
    return compared.assign(picked=compared["picked"].map(rung_of), best=compared["best"].map(rung_of))


def isoflop_tables(
    one: Fitted, table: pd.DataFrame, cost: laws.Cost, levels: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return what the isoFLOP figure draws: the law's curves, their optima, and trained checkpoints at those budgets.

    A rung's checkpoint at a budget is read off its measured curve, linear in log FLOPs, and never beyond its ends.
    """
    mine = rows_of(one, table)
    low, high = mine["params_non_embedding"].min() / 3, mine["params_non_embedding"].max() * 3
    curves = laws.isoflop(one.joint.fit, cost, levels, np.geomspace(low, high, 60))
    reach = mine["exposure"].min() / 3, mine["exposure"].max() * 3
    curves = curves[curves["exposure"].between(*reach)]
    measured = []
    for size, rows in mine.groupby("params_non_embedding"):
        values = rows.groupby("exposure")["value"].mean()
        spent = values.index.to_numpy() * cost.flops_per_unit(size)
        inside = levels[(levels >= spent[0]) & (levels <= spent[-1])]
        found = np.interp(np.log(inside), np.log(spent), values)
        measured.append(pd.DataFrame({"flops": inside, "size": size, "value": found}))
    optima = laws.optimal(one.joint.fit, cost, levels)
    return curves, optima[optima["exposure"].between(*reach)], pd.concat(measured)
