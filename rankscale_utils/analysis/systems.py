"""The ladder beside models that exist: what its largest rung was forecast to reach, and reached, less what they do."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import read_parquet
from rankscale_utils.measurements.per_query import mean_with_interval, per_query
from rankscale_utils.measurements.table import measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .forecast import average_forecasts
from .results import read_table, write_table
from .significance import holm, paired

PLACE = ["collection", "task", "metric", "score"]
COLUMNS = ["system", "family", "pretrained", "params", "params_non_embedding", "pair_tokens", "cut", *PLACE, "value",
           "lo", "hi", "first_stage", "over_first_stage", "over_first_stage_lo", "over_first_stage_hi", "objective",
           "rung", "rung_value", "forecast", "forecast_lo", "forecast_hi", "difference", "difference_lo",
           "difference_hi", "p", "p_holm"]  # fmt: skip


def compare_systems(study: Study, scored: pd.DataFrame) -> pd.DataFrame:
    """Write `systems.csv` and return it: every system beside the largest rung of every objective, on every test.

    A row a system, objective, collection and metric; difference is rung less system, query by query, with its interval
    and p of the paired t-test, corrected for all rows of a metric (Holm, 1979). Rungs are those at the last exposure,
    means over seeds. scored: from `forecast.score_study`. Nothing is written of a study without systems.
    """
    if not study.systems:
        return pd.DataFrame(columns=COLUMNS)
    ladder, rows = measured_rows(per_query(study, study.runs)), []
    forecasts = average_forecasts(scored) if len(scored) else scored
    for name in study.systems:
        folder = paths.system_folder(study.folder, name)
        of_queries = measured_rows(read_parquet(paths.per_query_file(folder)))
        for measured in measured_rows(read_parquet(paths.measurements_file(folder))).to_dict("records"):
            place = pd.Series({column: measured[column] for column in PLACE})
            mine = of_queries[(of_queries[PLACE] == place).all(axis=1)].set_index("query_id")
            own, over = mine["value"], (mine["value"] - mine["first_stage"]).dropna()
            ends = dict(zip(("lo", "hi"), mean_with_interval(own)[1:], strict=True))
            if len(over) > 1:
                names = {"difference": "", "lo": "_lo", "hi": "_hi"}
                ends |= {f"over_first_stage{ending}": paired(over)[name] for name, ending in names.items()}
            rungs = ladder[(ladder[PLACE] == place).all(axis=1)]
            rows += [measured | ends | beside for beside in _beside_the_largest(rungs, own, forecasts)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    corrected = [holm(p) for _, p in table.groupby("metric")["p"]]
    table = table.assign(p_holm=pd.concat(corrected) if corrected else np.nan)
    write_table(paths.systems_file(study.folder), table)
    return table


def read_systems(study: Study) -> pd.DataFrame:
    """Return `systems.csv`; no rows where the study has no systems."""
    return read_table(paths.systems_file(study.folder)) if study.systems else pd.DataFrame(columns=COLUMNS)


def _beside_the_largest(ladder: pd.DataFrame, own: pd.Series, forecasts: pd.DataFrame) -> Iterator[dict]:
    """Yield, for each objective, its largest rung's value and forecast, and how far it is from a system's values."""
    for objective, rows in ladder.groupby("objective", sort=False):
        largest = rows[rows["params_non_embedding"] == rows["params_non_embedding"].max()]
        largest = largest[largest["exposure"] == largest["exposure"].max()]
        values, first = largest.groupby("query_id")["value"].mean(), largest.iloc[0]
        apart = paired((values - own).dropna())
        found = {"objective": objective, "rung": first["rung"], "rung_value": values.mean(), "p": apart["p"]}
        found |= {"difference": apart["difference"], "difference_lo": apart["lo"], "difference_hi": apart["hi"]}
        yield found | _forecast(forecasts, first)


def _forecast(forecasts: pd.DataFrame, rung: pd.Series) -> dict[str, float]:
    """Return what a rung was forecast to reach, with the interval of one new run; nothing of a rung that was fitted."""
    columns = ["objective", "rung", *PLACE]
    mine = forecasts[(forecasts[columns] == rung[columns]).all(axis=1)] if len(forecasts) else forecasts
    if mine.empty:
        return {}
    row = mine.iloc[0]
    return {"forecast": row["forecast"], "forecast_lo": row["lo"], "forecast_hi": row["hi"]}
