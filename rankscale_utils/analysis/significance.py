"""Whether a larger rung is better than the next smaller one on these queries, and not only on average."""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rankscale_utils.measurements import per_query as per_query_module
from rankscale_utils.measurements.table import OWN, RERANK, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .results import write_table

COMPARED_COLUMNS = ["objective", "collection", "task", "metric", "score", "smaller", "larger", "difference", "lo", "hi",
                    "p", "p_holm"]  # fmt: skip


def compare_study(study: Study, metric: str) -> pd.DataFrame:
    """Write `rung_differences.csv` and return it: `compare_rungs` on every collection and task.

    It has no rows where a study brings its measurements, as these hold no values of single queries.
    """
    table = pd.DataFrame(columns=COMPARED_COLUMNS)
    if study.runs:
        values = per_query_module.per_query(study, study.runs)
        places = values[["collection", "task"]].drop_duplicates().itertuples(index=False)
        compared = [compare_rungs(values, metric, *place) for place in places]
        table = pd.concat(compared, ignore_index=True)
    write_table(paths.rung_differences_file(study.folder), table)
    return table


def compare_rungs(
    per_query: pd.DataFrame, metric: str, collection: str, task: str = RERANK, level: float = 0.95
) -> pd.DataFrame:
    """Return a paired t-test over queries for every pair of neighbouring rungs of an objective at the last exposure.

    Columns: objective, collection, task, metric, score (the objective's own), smaller, larger (rungs), difference
    (larger less smaller, in the metric's unit), lo, hi (its interval at `level`, not corrected), p, and p_holm,
    corrected for all rows of the table (Holm, 1979). A rung's value on a query is the mean over its seeds, and failed
    runs do not count; the test speaks of these trained models on queries like these, not of what other seeds would
    give.
    """
    rows = measured_rows(per_query)
    place = {"collection": collection, "task": task, "metric": metric, "score": OWN}
    rows = rows[(rows[list(place)] == pd.Series(place)).all(axis=1)]
    rows = rows[rows["exposure"] == rows["exposure"].max()]
    found = [
        _compared(mine, smaller, larger, level) | {"objective": objective}
        for objective, mine in rows.groupby("objective", sort=False)
        for smaller, larger in _neighbours(mine)
    ]
    table = pd.DataFrame(found, columns=COMPARED_COLUMNS).assign(**place)
    return table.assign(p_holm=holm(table["p"]))


def holm(p: pd.Series) -> pd.Series:
    """Return p values corrected for all that are known (Holm, 1979); NaN where there is none."""
    known = p.dropna().astype(float)
    return pd.Series(multipletests(known, method="holm")[1], known.index).reindex(p.index) if len(known) else p


def _neighbours(rows: pd.DataFrame) -> list[tuple[str, str]]:
    by_size = rows.groupby("rung")["params_non_embedding"].first().sort_values(kind="stable").index
    return list(pairwise(by_size))


def _compared(rows: pd.DataFrame, smaller: str, larger: str, level: float) -> dict:
    values = rows.pivot_table(index="query_id", columns="rung", values="value")[[smaller, larger]].dropna()
    return {"smaller": smaller, "larger": larger} | paired(values[larger] - values[smaller], level)


def paired(difference: ArrayLike, level: float = 0.95) -> dict[str, float]:
    """Return the mean difference over queries, the ends of its t interval and p of the paired t-test.

    Keys: difference, lo, hi, p.
    """
    difference = np.asarray(difference, float)
    mean = difference.mean()
    if np.ptp(difference) == 0:  # the t statistic is 0 / 0, or infinite
        return {"difference": mean, "lo": mean, "hi": mean, "p": float(mean == 0)}
    tested = stats.ttest_1samp(difference, 0)
    lo, hi = tested.confidence_interval(level)
    return {"difference": mean, "lo": lo, "hi": hi, "p": tested.pvalue}
