"""Every rung on every test, beside what its documents score in the order as retrieved and in a random one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils.measurements.per_query import per_query
from rankscale_utils.measurements.table import (
    INTERPOLATED,
    OWN,
    RANK_FUSED,
    SERIES_COLUMNS,
    headline,
    measured_rows,
)
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

from .results import read_table, write_table
from .significance import paired

OTHERS = {"first_stage": "over_first_stage", "random_order": "over_random"}
KEYS = [*SERIES_COLUMNS, "rung"]
ENDS = [f"{name}_{end}" for name in OTHERS.values() for end in ("lo", "hi")]


def rungs_on_tests(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Write `rungs_on_tests.csv` and return it: the headline metric of every rung on every test, smallest rungs first.

    table: measurements of all rungs. A rung's value is the mean over its seeds at their last exposure; `over_…` is how
    far it lies above another order of the same documents, with the paired 95 % interval over queries, not corrected for
    how many there are. Without values of single queries there are no intervals.
    """
    found = on_tests(study, table, study.runs, [headline(study, table)])
    write_table(paths.rungs_on_tests_file(study.folder), found)
    return found


def rungs_with_first_stage(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Write `with_first_stage.csv` and return it: as `rungs_on_tests`, what rungs and the first stage reach together.

    Nothing is written of a study that does not measure it.
    """
    if not study.with_first_stage:
        return pd.DataFrame()
    found = on_tests(study, table, study.runs, reached_together(headline(study, table)))
    write_table(paths.with_first_stage_file(study.folder), found)
    return found


def read_with_first_stage(study: Study) -> pd.DataFrame:
    """Return `with_first_stage.csv`; no rows where the study does not measure it."""
    return read_table(paths.with_first_stage_file(study.folder)) if study.with_first_stage else pd.DataFrame()


def run_with_first_stage(study: Study, run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return what `rungs_with_first_stage` does of one run, whose measurements are `table`."""
    if not study.with_first_stage or table.empty:
        return pd.DataFrame()
    return on_tests(study, table, [run], reached_together(headline(study, table)))


def reached_together(metric: str) -> list[str]:
    """Return the names of what models reach together with the first stage by a metric; none of one that is so."""
    return [] if metric.endswith((INTERPOLATED, RANK_FUSED)) else [metric + INTERPOLATED, metric + RANK_FUSED]


def on_tests(study: Study, table: pd.DataFrame, runs: Sequence[Run], metrics: Sequence[str]) -> pd.DataFrame:
    """Return what `rungs_on_tests` does, of these runs and metrics; table: their measurements."""
    rows = measured_rows(table)
    rows = rows[rows["metric"].isin(metrics) & (rows["score"] == OWN)]
    last = rows[rows["exposure"] == rows.groupby(KEYS)["exposure"].transform("max")]
    last = last.reindex(columns=[*dict.fromkeys([*last, *OTHERS])])
    means = {"params_non_embedding": "first", "exposure": "first", "run": "nunique", "value": "mean"}
    found = last.groupby(KEYS, sort=False).agg(means | dict.fromkeys(OTHERS, "first")).rename(columns={"run": "runs"})
    found = found.assign(**{over: found["value"] - found[other] for other, over in OTHERS.items()})
    told = _intervals(study, last, runs) if len(runs) else None
    found = found.assign(**dict.fromkeys(ENDS, np.nan)) if told is None else found.join(told, on=KEYS)
    return found.sort_values("params_non_embedding", kind="stable").reset_index()


def _intervals(study: Study, last: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """Return how many queries there are, and the ends of every paired interval, by `KEYS`."""
    values = measured_rows(per_query(study, runs)).reindex(
        columns=[*KEYS, "run", "exposure", "query_id", "value", *OTHERS]
    )
    values = values.merge(last[[*KEYS, "run", "exposure"]], on=[*KEYS, "run", "exposure"])
    values = values.groupby([*KEYS, "query_id"], sort=False)[["value", *OTHERS]].mean().reset_index()
    of_rungs = values.groupby(KEYS, sort=False)
    ends = {key: {"queries": len(rows)} | _ends(rows) for key, rows in of_rungs}
    return pd.DataFrame.from_dict(ends, orient="index", columns=["queries", *ENDS]).rename_axis(KEYS)


def _ends(rows: pd.DataFrame) -> dict[str, float]:
    found = {}
    for other, over in OTHERS.items():
        apart = (rows["value"] - rows[other]).dropna()
        told = paired(apart) if len(apart) > 1 else {"lo": np.nan, "hi": np.nan}
        found |= {f"{over}_{end}": told[end] for end in ("lo", "hi")}
    return found
