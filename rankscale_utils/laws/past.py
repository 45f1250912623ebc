"""The ladder's own past: every rung forecast from the smaller ones, as if it had been held out."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from rankscale_utils.machine.parallel import each

from .averaging import Average, averages
from .fitting import DISTINCT_NEEDED
from .known import Known
from .series import Series


def expanding(
    all_series: Sequence[Series], known: Known, level: float, draws: int, names: Sequence[str] = (), fewest: int = 2
) -> pd.DataFrame:
    """Forecast every rung from the two or more smaller ones: by the average, with its intervals, and by each form.

    names: of the forms that are averaged (none: all). fewest: smaller rungs that a forecast needs.
    Returns the rows of `Average.forecast` with the series' labels, rung, rungs_fitted, actual (mean over runs, at their
    ends), no_change, error (forecast − actual), relative_error and covered; those of single forms, which have no
    interval, are named after them in the column law.
    """
    sizes = np.unique(np.concatenate([series.table["N"] for series in all_series]))
    tables = []
    for fitted in range(fewest, len(sizes)):
        following = [series.last[series.last["N"] == sizes[fitted]] for series in all_series]
        seen = [
            (series.below(sizes[fitted]), rows)
            for series, rows in zip(all_series, following, strict=True)
            if len(rows) and series.sizes_below(sizes[fitted]) >= fewest
        ]
        made = averages([series for series, _ in seen], known, draws, names) if seen else []
        tables += each(partial(_next_rung, fitted=fitted, level=level), made, [rows for _, rows in seen])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _next_rung(average: Average, rows: pd.DataFrame, fitted: int, level: float) -> pd.DataFrame:
    """What was forecast of a rung's rows, and what came."""
    at = rows[["rung", "N", "D"]].drop_duplicates("rung").assign(D=rows["D"].mean(), rungs_fitted=fitted)
    at = at.assign(**average.series.labels, weight=1.0)
    alone = [
        at.assign(law=name, kind="new_run", forecast=law.fit.predict(at["N"], at["D"]), weight=average.weights[name])
        for name, law in average.laws.items()
    ]
    made = pd.concat([average.forecast(at, level), *alone], ignore_index=True)
    actual, end = rows["value"].mean(), average.series.last
    error = made["forecast"] - actual
    return made.assign(
        actual=actual,
        no_change=end.loc[end["N"] == end["N"].max(), "value"].mean(),
        error=error,
        relative_error=error / actual,
        covered=((made["lo"] <= actual) & (actual <= made["hi"])).where(made["lo"].notna()),
    )


def judged(past: pd.DataFrame) -> pd.DataFrame:
    """How the average and each form fared in the ladder's past, the best first.

    Columns law, loss (mean absolute relative error, the metrics of one objective and rung counting as one observation,
    since they are measured on the same runs), weight (mean share in the averages) and observations; the last row but
    for its place is "no change".
    """
    rows = past[(past["kind"] == "new_run") & (past["rungs_fitted"] >= DISTINCT_NEEDED)]
    rows = rows if len(rows) else past[past["kind"] == "new_run"]
    unchanged = rows[rows["law"] == "average"]
    error = (unchanged["no_change"] - unchanged["actual"]) / unchanged["actual"]
    rows = pd.concat([rows, unchanged.assign(law="no change", relative_error=error, weight=np.nan)])
    observed = rows.assign(loss=rows["relative_error"].abs()).groupby(["law", "objective", "rungs_fitted"])
    by_law = observed[["loss", "weight"]].mean().groupby("law")
    table = by_law.mean().assign(observations=by_law.size()).sort_values("loss", kind="stable")
    table["weight"] = table["weight"].mask(table.index == "average")
    return table.reset_index()
