"""How a ladder's training compute is best spent, from its measurements alone: no study, nothing written to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.arguments import positive_numbers, table_or_file
from rankscale_utils.study.arguments import checked, names, optional
from rankscale_utils.study.forecasting import Allocation
from rankscale_utils.study.loading import read_section

from .compute import best_at_budgets, budgets_asked, compute_exponents, training_costs, usable_measurements
from .fit import fit_series, of_headline_test
from .ladder import Measurements, open_ladder


@dataclass(frozen=True)
class Optima:
    """How training compute is best spent.

    best: a row a series and budget with flops, size, exposure and value, their intervals and the law's status.
    exponents: a row a series with those of the optimal size (a) and exposure (b) in compute, intervals and a verdict.
    counted: a sentence that says how training FLOPs were counted.
    """

    best: pd.DataFrame
    exponents: pd.DataFrame
    counted: str


@checked(measurements=table_or_file, budgets=optional(positive_numbers("training FLOPs")), held_out=names)
def allocate(
    measurements: Measurements,
    budgets: Sequence[float] | None = None,
    held_out: Sequence[str] = (),
    level: float = 0.95,
    tokens_per_pair: int = 128,
    **settings: Any,
) -> Optima:
    """Return how training compute is best divided between size and exposure, as a study's page 5_allocate does.

    Parameters
    ----------
    measurements
        A CSV's path or a table; see `read_measurements`. Asked are series of its first collection, or `headline_test`.
    budgets
        Training FLOPs; None: what the runs spent, and three and ten times the most.
    held_out
        Rungs that no fit may see.
    level
        Of the intervals.
    tokens_per_pair
        Where the measurements bring no column flops, a pair costs 6 × non-embedding parameters × tokens.
    **settings
        Further fields of a study's `forecasting`; see `fit`.

    Returns
    -------
    Optima
        With the tables `best` and `exponents`, and `counted`, a sentence that says how FLOPs were counted.

    Raises
    ------
    StudyError
        The measurements or a setting cannot be used, or there are too few exposures; one sentence says why.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> table = pd.DataFrame([
    ...     {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure,
    ...      "collection": "dev", "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2 - exposure**-0.5}
    ...     for size in (17, 32, 68, 150) for exposure in (1e3, 2e3, 4e3)])
    >>> optima = rankscale.allocate(table, budgets=[1e14, 1e15], draws=100)
    >>> optima.best[["flops", "exposure"]].round(-2)
              flops  exposure
    0  1.000000e+14     700.0
    1  1.000000e+15    1900.0
    >>> optima.exponents[["a", "b", "favours"]].round(1)
         a    b    favours
    0  0.6  0.4  undecided
    """
    ladder = open_ladder(measurements, held_out, settings | {"level": level})
    tokens = read_section(Allocation, {"tokens_per_pair": tokens_per_pair}).tokens_per_pair
    given = ladder.settings
    series = of_headline_test(fit_series(ladder.fitted, given), given)
    usable = usable_measurements(ladder.every, given, series[0])
    costs, counted = training_costs(usable, tokens)
    best = best_at_budgets(series, costs, budgets_asked(usable, costs) if budgets is None else budgets, given.level)
    if best.empty:
        raise StudyError(
            "no metric has a law of size and exposure together, which budgets are divided by: give three exposures or "
            "more of every rung."
        )
    return Optima(best, compute_exponents(series, costs, given.level), counted)
