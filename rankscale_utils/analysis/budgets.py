"""What a budget in dollars buys when it pays for training and serving."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from rankscale_utils.laws import FORWARD, Life, least_cost, within_budget
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.table import headline
from rankscale_utils.study.study import Study

from .compute import Costs, allocated, flops_spent, reach, rows_of_series
from .fit import Fitted

MORE_TRAINING = 10  # a budget that nobody stated trains for this many times what the costliest run spent


def life_of_reranker(study: Study, table: pd.DataFrame) -> Life:
    """Return what a reranker costs over its life: it is trained once, and scores every candidate of every query.

    Scoring a pair costs a third of training on it, whatever the laws count exposure in.
    """
    given = study.allocation
    of_a_pair = FORWARD * table["D"].sum() / table["exposure"].sum()
    return Life(
        annotation=0.0,
        training_price=given.training_price,
        serving_price=given.serving_price,
        texts=given.queries * given.depth,
        text_share=of_a_pair,
    )


def total_budget(study: Study, table: pd.DataFrame, costs: Costs) -> float:
    """Return the dollars for training and serving together: the study's own, or such as it would take to go on.

    Absent: ten times what the costliest run spent on training, and what serving its model would cost.
    """
    if study.allocation.budget is not None:
        return study.allocation.budget
    flops, life = flops_spent(table, costs), life_of_reranker(study, table)
    costliest = table.loc[flops.idxmax()]
    training = MORE_TRAINING * flops.max() * life.training_price / 1e18
    return float(training + np.exp(life.log_fixed(costs[costliest["objective"]], np.log(costliest["N"]))))


def wanted_value(study: Study, series: Fitted, table: pd.DataFrame) -> float:
    """Return the value to be reached: the study's own of its headline metric, or the largest rung's best measured one.

    A rung's value at an exposure is the mean over its runs.
    """
    if study.allocation.wanted is not None and series.metric == headline(study, table):
        return study.allocation.wanted
    rows = rows_of_series(series, table)
    largest = rows[rows["N"] == rows["N"].max()]
    means = largest.groupby("D")["value"].mean()
    return float(means.max() if rising(series.metric, study.forecasting.directions) else means.min())


def best_within_budget(study: Study, fitted: list[Fitted], table: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """Return the best size and exposure when one budget pays for training and serving, a row a series shown.

    Values are forecasts. `share` is serving's share of the budget; `size_beyond` and `exposure_beyond` are in units of
    the largest size and longest exposure that were fitted; `status` says where the reach of the runs ends it.
    """
    budget, life = total_budget(study, table, costs), life_of_reranker(study, table)
    level = study.forecasting.level
    return _served(
        study,
        fitted,
        table,
        lambda series: within_budget(series.average, costs[series.objective], life, budget, reach(series), level=level),
    )


def least_total_cost(study: Study, fitted: list[Fitted], table: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """Return the cheapest size and exposure that are forecast to reach the wanted value, a row a series shown.

    Further columns as in `best_within_budget`.
    """
    life, level = life_of_reranker(study, table), study.forecasting.level
    return _served(
        study,
        fitted,
        table,
        lambda series: least_cost(
            series.average,
            costs[series.objective],
            life,
            wanted_value(study, series, table),
            reach(series),
            level=level,
        ),
    )


def _served(
    study: Study, fitted: list[Fitted], table: pd.DataFrame, solve: Callable[[Fitted], pd.DataFrame]
) -> pd.DataFrame:
    tables = []
    for series in allocated(study, fitted):
        best, seen = solve(series).assign(**series.labels), series.table
        total = best["total"] if "total" in best else best["budget"]
        tables.append(
            best.assign(
                share=best["serving"] / total,
                size_beyond=best["size"] / seen["N"].max(),
                exposure_beyond=best["exposure"] / seen["D"].max(),
            )
        )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
