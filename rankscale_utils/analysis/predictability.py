"""Can a series be forecast from its fitted runs at all? A verdict before any forecast, with its reason.

Three questions, of the fitted rungs alone: does the metric improve with size beyond its noise (`laws.trend`); do fewer
of a ranking's first ten have a judgment the better models get, so that the metric cannot tell (Moffat and Zobel, ACM
TOIS 27, 2008: what is not judged bounds what a value means); and would the smallest rung order objectives as the
largest does (decision accuracy: Magnusson et al., arXiv 2504.11393)? The last decides nothing about a single series.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import SERIES_COLUMNS
from rankscale_utils.study.study import Study

from .fit import Fitted, last_rows

JUDGED = "judged@10"  # a column of measurements, or a metric among them
DECIDED = 2.0  # standard deviations of noise by which objectives have to differ to count as a pair
PREDICTABILITY_COLUMNS = [
    *SERIES_COLUMNS, "rungs", "smallest", "largest", "signal_to_noise", "chance", "judged_smallest", "judged_largest",
    "decision_accuracy", "pairs", "predictable", "reason", "instead",
]  # fmt: skip


def judge_study(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return `predictability` of a study's series; the files of held-out rungs are not opened."""
    table = study_measurements(study, fitted_only=True)
    return predictability(fitted, table[table["metric"].str.casefold() == JUDGED])


def predictability(fitted: Sequence[Fitted], judged: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a verdict on every series, of fitted runs alone; the columns of `predictability.csv`.

    judged: rows of judged@10 where it is a metric of its own, as in a user's CSV; else the column of that name is read.
    """
    trends = [laws.trend(one.average.series, laws.known()) for one in fitted]
    order = _decision_accuracy(fitted, trends)
    rows = []
    for one, found in zip(fitted, trends, strict=True):
        smallest, largest = _ends_of_ladder(one.average.series.last)
        thinned, judged_ends = _judged(one, judged, largest - smallest)
        reason = _reason(one, found) or thinned
        rows.append(
            one.labels
            | {"rungs": one.table["N"].nunique(), "smallest": smallest, "largest": largest}
            | {"signal_to_noise": found.signal_to_noise, "chance": found.chance}
            | dict(zip(("judged_smallest", "judged_largest"), judged_ends, strict=True))
            | dict(zip(("decision_accuracy", "pairs"), order[_place(one)], strict=True))
            | {"predictable": not reason, "reason": reason}
        )
    table = pd.DataFrame(rows, columns=PREDICTABILITY_COLUMNS[:-1])
    return _with_suggestions(table)


def _reason(one: Fitted, found: laws.Trend) -> str:
    """Say why the runs show no order of sizes that could go on, or nothing."""
    improves = "rises" if one.average.series.rising else "falls"
    if found.turns:
        ends = one.average.series.last
        best = ends.loc[ends["value"].idxmax() if one.average.series.rising else ends["value"].idxmin(), "rung"]
        largest = ends.loc[ends["N"].idxmax(), "rung"]
        return f"it {improves} up to {best} and is worse on {largest} by more than its noise"
    if found.chance > laws.CHANCE:
        return (
            f"it {improves} with size by {found.signal_to_noise:.1f} times the noise of one run, and pure noise looks "
            f"like that in {found.chance:.1%} of such ladders"
        )
    return ""


def _judged(one: Fitted, table: pd.DataFrame | None, gained: float) -> tuple[str, tuple[float, float]]:
    """Say where fewer of the first ten are judged on larger rungs, by as much as the metric gained; and both shares."""
    series, shares = one.average.series, _judged_shares(one, table)
    if shares["N"].nunique() < 2 or not series.rising or shares["value"].isna().any():
        return "", (np.nan, np.nan)
    smallest, largest = _ends_of_ladder(shares)
    thinned = laws.trend(laws.Series(series.labels, shares, rising=False, limits=(0.0, 1.0)), laws.known())
    if thinned.chance > laws.CHANCE or smallest - largest < gained:
        return "", (smallest, largest)
    said = (
        f"fewer of a ranking's first ten have a judgment on larger rungs ({smallest:.0%} on the smallest, "
        f"{largest:.0%} on the largest), and what is not judged counts as not relevant"
    )
    return said, (smallest, largest)


def _judged_shares(one: Fitted, table: pd.DataFrame | None) -> pd.DataFrame:
    """Return run, rung, N, D and the judged share as value, of each run's end; no rows where it is not known."""
    rows = last_rows(one.raw)
    if table is not None and len(table):
        keys = ["run", "exposure", "collection", "task"]
        told = table[[*keys, "value"]].rename(columns={"value": JUDGED})
        rows = rows.drop(columns=JUDGED, errors="ignore").merge(told)
    sizes = one.table.drop_duplicates("rung").set_index("rung")["N"]
    shares = rows[JUDGED].clip(0, 1) if JUDGED in rows else np.nan
    return rows.assign(N=rows["rung"].map(sizes), D=rows["exposure"], value=shares)


def _ends_of_ladder(ends: pd.DataFrame) -> tuple[float, float]:
    """Return the mean value of the smallest and of the largest rung."""
    means = ends.groupby("N")["value"].mean()
    return float(means.iloc[0]), float(means.iloc[-1])


def _place(one: Fitted) -> tuple[str, ...]:
    """Return what objectives are compared on."""
    return one.metric, one.collection, one.task, one.score


def _decision_accuracy(fitted: Sequence[Fitted], trends: Sequence[laws.Trend]) -> dict[tuple, tuple[float, int]]:
    """Return for each metric which share of the pairs of objectives the smallest rung orders as the largest does.

    Second comes how many pairs there are: those that the largest rung tells apart beyond noise.
    """
    agreed: dict[tuple, list[bool]] = {_place(one): [] for one in fitted}
    for (one, noise), (other, others) in combinations(zip(fitted, trends, strict=True), 2):
        if _place(one) == _place(other) and (ends := _of_both(one, other)) is not None:
            first, last, runs = ends
            if abs(last) > DECIDED * np.hypot(noise.noise / np.sqrt(runs[0]), others.noise / np.sqrt(runs[1])):
                agreed[_place(one)].append(first * last > 0)
    return {place: (float(np.mean(pairs)) if pairs else np.nan, len(pairs)) for place, pairs in agreed.items()}


def _of_both(one: Fitted, other: Fitted) -> tuple[float, float, tuple[int, int]] | None:
    """Return how two objectives differ on the smallest and largest rung of both, and how many runs the latter has."""
    ends = [each.average.series.last for each in (one, other)]
    shared = sorted(set(ends[0]["N"]) & set(ends[1]["N"]))
    if len(shared) < 2:
        return None
    numbers = [
        [
            one.average.series.on_scale(rows.loc[rows["N"] == N, "value"].to_numpy(float))
            for N in (shared[0], shared[-1])
        ]
        for rows in ends
    ]
    first, last = (numbers[0][place].mean() - numbers[1][place].mean() for place in (0, 1))
    return first, last, (len(numbers[0][1]), len(numbers[1][1]))


def _with_suggestions(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `instead`: the predictable metric of most signal on the same runs and test; or nothing."""
    place = ["objective", "collection", "task"]
    able = table[table["predictable"]].sort_values("signal_to_noise", ascending=False, kind="stable")
    best = able.drop_duplicates(place).set_index(place)["metric"]
    named = [best.get(tuple(row), "") for row in table[place].itertuples(index=False)]
    return table.assign(instead=np.where(table["predictable"], "", named))
