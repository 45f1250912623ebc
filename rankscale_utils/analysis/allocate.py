"""How a study's compute and money should be spent: all that the page 5_allocate shows, written as tables."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from rankscale_utils.machine.parallel import each
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .budgets import best_within_budget, least_total_cost, total_budget
from .compute import (
    Costs,
    all_measurements,
    best_at_budgets,
    budgets_asked,
    compare_at_equal_compute,
    compute_exponents,
    in_every_universe,
    isoflop_check,
    training_costs,
)
from .fit import Fitted, fit_study, of_headline_test
from .next_runs import plan_next_runs
from .results import write_table


@dataclass(frozen=True)
class AllocationResults:
    """What a study's laws say of spending, and what they were asked with.

    fitted: the series of the headline test; table: their measurements on every rung, with N and D. costs: training
    FLOPs of a unit of exposure by size; counted: a sentence that says how. budget: dollars for training and serving.
    The other tables are described in `docs/results.md`, under the names of their files.
    """

    fitted: list[Fitted]
    table: pd.DataFrame
    costs: Costs
    counted: str
    budget: float
    optima: pd.DataFrame
    exponents: pd.DataFrame
    equal_compute: pd.DataFrame
    parabolas: pd.DataFrame
    within_budget: pd.DataFrame
    least_cost: pd.DataFrame
    next_runs: pd.DataFrame


def allocate_study(study: Study) -> AllocationResults | None:
    """Ask a study's laws how to spend compute and money; write the answers as tables and return them.

    Tables have no rows where no series has exposures enough for a law of size and exposure; without any series nothing
    is returned.
    """
    every_series = fit_study(study)
    if not every_series:
        for file in paths.ALLOCATION_FILES.values():
            write_table(file(study.folder), pd.DataFrame())
        return None
    fitted = of_headline_test(every_series, study.forecasting)
    table = all_measurements(study, fitted[0])
    costs, counted = training_costs(table, study.allocation.tokens_per_pair)
    asked, level = (fitted, table, costs), study.forecasting.level
    exponents = in_every_universe(compute_exponents(fitted, costs, level), study.results().get("multiverse"))
    questions: dict[str, Callable[[], pd.DataFrame]] = {
        "optima": lambda: best_at_budgets(fitted, costs, budgets_asked(table, costs), level),
        "equal_compute": lambda: compare_at_equal_compute(*asked),
        "parabolas": lambda: isoflop_check(study, *asked),
        "within_budget": lambda: best_within_budget(study, *asked),
        "least_cost": lambda: least_total_cost(study, *asked),
        "next_runs": lambda: plan_next_runs(study, every_series),
    }
    answers = dict(zip(questions, each(lambda question: question(), [*questions.values()]), strict=True))
    budget = total_budget(study, table, costs)
    allocation = AllocationResults(*asked, counted, budget, exponents=exponents, **answers)
    for name, file in paths.ALLOCATION_FILES.items():
        write_table(file(study.folder), getattr(allocation, name))
    return allocation
