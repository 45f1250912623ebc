"""What should be trained next: the runs that would narrow the largest forecast most for their FLOPs."""

from collections.abc import Sequence

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.measurements.table import headline
from rankscale_utils.study.study import Study

from .compute import SIZE_AND_EXPOSURE, training_cost
from .design import design_of_series, held_out_design
from .fit import Fitted, fitted_rows, known_of, of_first_collection


def plan_next_runs(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Plan what to train next with as much compute as the largest fitted run took: see `laws.plan_runs`.

    Returns for each objective the runs that narrow the headline metric's forecast of the largest held-out rung most per
    FLOP, in order: columns objective, metric, target (that rung) and those of `laws.plan_runs`. No rows where a law has
    no spare run to judge it by, or where exposure is not counted in pairs, as budgets are.
    """
    if not fitted:
        return pd.DataFrame()
    rows, plans = fitted_rows(fitted), []
    metric, cost = headline(study, rows), training_cost(rows, study.allocation.tokens_per_pair)[0]
    design, prior = held_out_design(study, fitted), known_of(study.forecasting, rows).size_exponent
    for one in of_first_collection(fitted) if study.forecasting.exposure == "exposure" else []:
        if one.metric != metric or one.joint is None or laws.spare_runs(one.joint.fit) < 1:
            continue
        target = design_of_series(one, design).sort_values("N").iloc[[-1]]
        sizes = one.table[["rung", "N", "params_non_embedding"]].drop_duplicates("rung")
        tried = laws.candidate_runs(one.joint.fit, sizes[["rung", "N"]], **SIZE_AND_EXPOSURE)
        by_N = laws.Cost.from_ladder(sizes["N"], cost.flops_per_unit(sizes["params_non_embedding"]))
        budget = float((by_N.flops_per_unit(one.table["N"]) * one.table["D"]).max())
        level = study.forecasting.level
        made = laws.plan_runs(one.joint, by_N, tried, target, budget, level=level, prior=prior, **SIZE_AND_EXPOSURE)
        plans.append(made.assign(objective=one.objective, metric=metric, target=target["rung"].iloc[0]))
    return pd.concat(plans, ignore_index=True) if plans else pd.DataFrame()
