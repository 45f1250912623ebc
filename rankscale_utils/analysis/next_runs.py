"""What should be trained next: the runs that would narrow the largest forecast most for their FLOPs."""

from collections.abc import Sequence

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.measurements.table import headline
from rankscale_utils.study.study import Study

from .compute import training_costs
from .design import design_of_series, held_out_design
from .fit import Fitted, fitted_rows, of_headline_test

SHARE = 0.5  # of what the forecast run would cost, that is worth spending to know it better


def plan_next_runs(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Plan what to train next with half the compute of the run that is forecast: see `laws.plan_runs`.

    Returns for each objective the runs that narrow the headline metric's forecast of the largest held-out rung most, in
    order: columns objective, metric, target (that rung) and those of `laws.plan_runs`. No rows of a rung that costs no
    more than what could be trained before it.
    """
    if not fitted:
        return pd.DataFrame()
    rows, plans = fitted_rows(fitted), []
    metric, costs = headline(study, rows), training_costs(rows, study.allocation.tokens_per_pair)[0]
    design = held_out_design(study, fitted)
    for one in of_headline_test(fitted, study.forecasting):
        if one.metric != metric:
            continue
        target, cost = design_of_series(one, design).sort_values("N").iloc[[-1]], costs[one.objective]
        tried = laws.candidate_runs(one.table, target)
        budget = SHARE * float(cost.flops_per_unit(target["N"].iloc[0]) * target["D"].iloc[0])
        if (cost.flops_per_unit(tried["N"]) * tried["D"]).min() > budget:
            continue  # a small rung is forecast, which costs less than knowing it better
        made = laws.plan_runs(one.average, cost, tried, target, budget, level=study.forecasting.level)
        plans.append(made.assign(objective=one.objective, metric=metric, target=target["rung"].iloc[0]))
    return pd.concat(plans, ignore_index=True) if plans else pd.DataFrame()
