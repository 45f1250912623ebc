"""What training compute costs, the size and exposure that it is best spent on, and what equal compute really bought."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import headline, headlines, measured_rows
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.study import Study

from .fit import Fitted, with_axes

SIZES = {"params_non_embedding": "non-embedding parameters", "params": "parameters", "flops_per_pair": "FLOPs a pair"}
EXPOSURES = {"exposure": "pairs", "queries": "queries", "tokens": "tokens"}
SIZE_AND_EXPOSURE = {"size": "N", "exposure": "D"}
BUDGETS_SHOWN = 5
NOT_GROWING = " As a larger rung need not cost more here, its cost is one power of size through all rungs."
SIDES = ("size", "data", "both")
EVEN = 0.4, 0.6  # shares of growing compute between which it goes into size and data alike
NOT_TO_BE_BELIEVED = ("at a bound", "unidentified")
Costs = Mapping[str, laws.Cost]  # by objective: a rung of one name may be models of several families


def training_costs(table: pd.DataFrame, tokens: int) -> tuple[Costs, str]:
    """Return each objective's training cost of a unit of exposure by size, and a sentence that says how it was counted.

    table: from `all_measurements`; sizes N and exposures D are counted as the study's laws count them. Objectives of a
    single size have none. tokens: of a pair, where the measurements bring no FLOPs.
    """
    counted = "flops" in table
    flops = table["flops"] if counted else 6 * table["params_non_embedding"] * tokens * table["exposure"]
    costs, grows = {}, True
    for objective, rows in table.assign(flops=flops).groupby("objective", sort=False):
        rungs = rows.groupby("rung")
        sizes, per_unit = rungs["N"].first(), rungs["flops"].sum() / rungs["D"].sum()
        if sizes.nunique() > 1:
            costs[objective] = laws.Cost.through(sizes, per_unit)
            grows &= len(costs[objective].log_sizes) == sizes.nunique()
    if counted:
        return costs, (
            "Training FLOPs are those of the measurements; a study that trains counts them from its models' matrix "
            "products and the real pair lengths." + ("" if grows else NOT_GROWING)
        )
    return costs, (
        f"The measurements bring no FLOPs: a pair is assumed to cost 6 × non-embedding parameters × {tokens} tokens. "
        "The exponents do not depend on the number of tokens."
    )


def units_in_words(study: Study) -> tuple[str, str]:
    """Return in words what the study's laws count sizes and exposures in."""
    return SIZES[study.forecasting.size], EXPOSURES[study.forecasting.exposure]


def all_measurements(study: Study, like: Fitted) -> pd.DataFrame:
    """Return the usable measurements of every rung on the test of a series, held-out ones included, with N and D."""
    return usable_measurements(study_measurements(study, fitted_only=False), study.forecasting, like)


def usable_measurements(table: pd.DataFrame, settings: Forecasting, like: Fitted) -> pd.DataFrame:
    """Return the rows of a table that are measurements on the test and task of a series, with N and D."""
    rows = measured_rows(table)
    return with_axes(rows[(rows["collection"] == like.collection) & (rows["task"] == like.task)], settings)


def flops_spent(table: pd.DataFrame, costs: Costs) -> pd.Series:
    """Return the training FLOPs of each row of an objective that has a cost."""
    return pd.concat(
        costs[objective].flops_per_unit(rows["N"]) * rows["D"]
        for objective, rows in table.groupby("objective", sort=False)
        if objective in costs
    )


def training_budgets(table: pd.DataFrame, costs: Costs) -> np.ndarray:
    """Return training budgets in FLOPs, evenly spaced in logarithms over what the runs spent: (budgets,)."""
    low, high = np.quantile(flops_spent(table, costs), [0.1, 1.0])
    return np.geomspace(low, high, BUDGETS_SHOWN)


def rows_of_series(one: Fitted, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that belong to a series."""
    return table[np.logical_and.reduce([table[name] == value for name, value in one.labels.items()])]


def budgets_asked(table: pd.DataFrame, costs: Costs) -> np.ndarray:
    """Return the training budgets asked about: what the runs spent, and three and ten times the most."""
    levels = training_budgets(table, costs)
    return np.append(levels, levels[-1] * np.array([3, 10]))


def reach(one: Fitted) -> laws.Reach:
    """Return the sizes and exposures that budgets are divided among: within ten times those that were fitted."""
    return laws.Reach.of(one.table)


def best_at_budgets(fitted: list[Fitted], costs: Costs, budgets: np.ndarray, level: float) -> pd.DataFrame:
    """Return the best size and exposure of every series at every training budget (FLOPs), see `laws.optimal`.

    No rows where no series has exposures enough for a law of size and exposure.
    """
    tables = [
        laws.optimal(one.average, costs[one.objective], budgets, reach(one), level=level).assign(**one.labels)
        for one in fitted
        if one.joint is not None
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def compute_exponents(fitted: list[Fitted], costs: Costs, level: float) -> pd.DataFrame:
    """Return the exponents of the optimal size and exposure in compute, a row a series, with intervals and a verdict.

    `favours` is size or data where the whole interval of b, the data's share of growing compute, lies on one side of a
    half, both where it lies within `EVEN`, and the law's own status where its exponents are at a bound or unidentified.
    `law` is that status.
    """
    rows = []
    for one in fitted:
        if one.joint is None:
            continue
        a, b = laws.exponents(one.average, costs[one.objective], level=level).to_dict("records")
        status = one.joint.fit.status
        favours = status if status.startswith(NOT_TO_BE_BELIEVED) else _favoured(b["lo"], b["hi"])
        ends = {f"{name}_{end}": row[end] for name, row in (("a", a), ("b", b)) for end in ("lo", "hi")}
        rows.append(one.labels | {"a": a["value"], "b": b["value"], **ends, "favours": favours, "law": status})
    return pd.DataFrame(rows)


def _favoured(low: float, high: float) -> str:
    """Return what growing compute should go into, by the interval of the data's share of it."""
    if high < 0.5 or low > 0.5:
        return "size" if high < 0.5 else "data"
    return "both" if EVEN[0] <= low and high <= EVEN[1] else "undecided"


def in_every_universe(exponents: pd.DataFrame, multiverse: pd.DataFrame | None) -> pd.DataFrame:
    """Return exponents with `universes`, analyses that differ in one choice, and `agreeing`, those that say the same.

    A series favours size, data, or both alike, only where all of them do. multiverse: from `multiverse.csv`, of the
    headline metric alone; other metrics have no universes, and keep what their interval says.
    """
    if exponents.empty:
        return exponents
    known, counts = multiverse is not None and len(multiverse) > 0, []
    for row in exponents.to_dict("records"):
        same = (multiverse[["objective", "metric"]] == [row["objective"], row["metric"]]).all(axis=1) if known else []
        share = multiverse.loc[same, "exponent"].dropna() if known else pd.Series(dtype=float)
        agreeing = {"size": share < 0.5, "data": share > 0.5}.get(row["favours"], share.between(*EVEN))
        counts.append((len(share), int(agreeing.sum()) if row["favours"] in SIDES else 0))
    counted = exponents.assign(**pd.DataFrame(counts, columns=["universes", "agreeing"], index=exponents.index))
    divided = counted["favours"].isin(SIDES) & (counted["agreeing"] < counted["universes"])
    return counted.assign(favours=counted["favours"].where(~divided, "undecided"))


def compare_at_equal_compute(fitted: list[Fitted], table: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """Compare the law's pick with the best of the rungs really trained, at equal compute, a row a series and budget."""
    tables = [_compared(one, table, costs[one.objective]) for one in fitted if one.joint is not None]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _compared(one: Fitted, table: pd.DataFrame, cost: laws.Cost) -> pd.DataFrame:
    compared = laws.equal_compute(_measured(one, table, cost), one.average, cost).assign(**one.labels)
    sizes = rows_of_series(one, table).groupby("N", sort=False)["rung"]
    rung_of = sizes.agg(lambda rungs: " or ".join(rungs.unique()))
    return compared.assign(picked=compared["picked"].map(rung_of), best=compared["best"].map(rung_of))


def isoflop_tables(
    one: Fitted, table: pd.DataFrame, cost: laws.Cost, levels: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return what the isoFLOP figure draws: the law's curves, their optima, and trained checkpoints at those budgets.

    A rung's checkpoint at a budget is read off its measured curve, linear in log FLOPs, and never beyond its ends.
    """
    mine = rows_of_series(one, table)
    low, high = mine["N"].min() / 3, mine["N"].max() * 3
    curves = laws.isoflop(one.average, cost, levels, np.geomspace(low, high, 60))
    shown = mine["D"].min() / 3, mine["D"].max() * 3
    curves = curves[curves["exposure"].between(*shown)]
    measured = []
    for size, rows in mine.groupby("N"):
        values = rows.groupby("D")["value"].mean()
        spent = values.index.to_numpy() * cost.flops_per_unit(size)
        inside = levels[(levels >= spent[0]) & (levels <= spent[-1])]
        found = np.interp(np.log(inside), np.log(spent), values)
        measured.append(pd.DataFrame({"flops": inside, "size": size, "value": found}))
    optima = laws.optimal(one.average, cost, levels, reach(one))
    return curves, optima[optima["exposure"].between(*shown)], pd.concat(measured)


def _measured(one: Fitted, table: pd.DataFrame, cost: laws.Cost) -> list[laws.Measured]:
    return laws.measured_at_equal_compute(rows_of_series(one, table), cost, **SIZE_AND_EXPOSURE)


def allocated(study: Study, fitted: list[Fitted]) -> list[Fitted]:
    """Return the series with a joint law of the headline metric, then those of the first entropy where there is one."""
    joint = [one for one in fitted if one.joint is not None]
    if not joint:
        return []
    metrics = pd.DataFrame({"metric": [one.metric for one in joint]})
    return [one for metric in headlines(study, metrics) for one in joint if one.metric == metric]


def isoflop_check(study: Study, fitted: list[Fitted], table: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """Compare the law's optimum with the isoFLOP parabola's vertex, a row an objective and budget; headline metric.

    Its columns are those of `laws.parabola` and the series' labels; no rows where no three rungs ever spent
    the same.
    """
    metric = headline(study, table)
    tables = [
        _parabola(one, table, costs[one.objective]).assign(**one.labels)
        for one in fitted
        if one.joint is not None and one.metric == metric
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _parabola(one: Fitted, table: pd.DataFrame, cost: laws.Cost) -> pd.DataFrame:
    return laws.parabola(_measured(one, table, cost), one.average, cost, reach(one))
