"""How many candidates should be reranked, by rung, and whether reranking is worth it at all."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankscale_utils import laws
from rankscale_utils.machine.files import digest, read_parquet
from rankscale_utils.measurements.per_query import mean_with_interval, per_query
from rankscale_utils.measurements.table import INTERPOLATED, RERANK, limits, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .results import write_table

SAMPLES = 400  # of the queries
PLACE = ["objective", "collection", "metric"]
DEPTH_COLUMNS = [
    *PLACE, "rung", "params_non_embedding", "depth", "value", "lo", "hi", "over_first", "over_first_lo",
    "over_first_hi", "forecast", "forecast_lo", "forecast_hi", "best_depth", "best_depth_forecast", "best_depth_lo",
    "best_depth_hi", "worth", "worth_lo", "worth_hi", "verdict", "over_fusion", "over_fusion_lo", "over_fusion_hi",
    "fusion_verdict", "p50_ms",
]  # fmt: skip


def compare_depths(study: Study, timed: pd.DataFrame) -> pd.DataFrame:
    """Write `depths.csv` and return it: every rung at every depth, and what the fitted rungs' law says of the others.

    timed: from `evaluation.speed.measure_study`. Values are means over queries and seeds at the last checkpoint.
    """
    table = pd.concat([read_parquet(paths.run_depths_file(study.run_folder(run))) for run in study.runs])
    table = measured_rows(table)
    fusions = _fusions(study)
    rows = [_of_place(study, mine, fusions) for _, mine in table.groupby(PLACE, sort=False)]
    found = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=DEPTH_COLUMNS)
    found = _with_latency(found, timed).reindex(columns=DEPTH_COLUMNS)
    write_table(paths.depths_file(study.folder), found)
    return found


def _of_place(study: Study, rows: pd.DataFrame, fusions: pd.DataFrame) -> pd.DataFrame:
    """Return one objective's rows on one test, the smallest rung first."""
    by_rung = {
        (rung, size): mine.pivot_table(index="query_id", columns="depth", values="value")
        for (size, rung), mine in rows.groupby(["params_non_embedding", "rung"])
    }
    shared = sorted(set.intersection(*(set(values.index) for values in by_rung.values())))
    by_rung = {rung: values.loc[shared] for rung, values in by_rung.items()}
    first, fusions = next(iter(by_rung.values())), fusions.merge(rows[PLACE].iloc[[0]])
    weights = _resampled(len(shared))
    fitted = [rung for rung in by_rung if rung[0] not in study.held_out.rungs]
    law = _law([by_rung[rung] for rung in fitted], [size for _, size in fitted], weights)
    found = []
    for (rung, size), values in by_rung.items():
        fused = fusions[fusions["rung"] == rung].groupby("query_id")["value"].mean()
        said = _measured(values) | _worth(values, fused)
        if law is not None and rung in study.held_out.rungs:
            said |= _forecast(law, size, first, weights, study.forecasting.level)
        found.append(pd.DataFrame({"depth": values.columns, **said}).assign(rung=rung, params_non_embedding=size))
    return pd.concat(found, ignore_index=True).assign(**rows[PLACE].iloc[0])


def _resampled(queries: int) -> NDArray:
    """Return how often each query counts, (samples, queries): once in the first sample, at random in the others."""
    drawn = np.random.default_rng(0).multinomial(queries, np.full(queries, 1 / queries), SAMPLES)
    return np.concatenate([np.ones((1, queries)), drawn]) / queries


def _law(by_rung: Sequence[pd.DataFrame], sizes: Sequence[float], weights: NDArray) -> laws.DepthLaw | None:
    """Return the law of depth and size of the fitted rungs, a draw for every sample of queries; None of too few."""
    gains = [weights @ (values.to_numpy() - values.to_numpy()[:, :1]) for values in by_rung]
    try:
        return laws.depth_law(np.stack(gains, 1), sizes, by_rung[0].columns)
    except (ValueError, IndexError):
        return None


def _measured(values: pd.DataFrame) -> dict[str, list[float]]:
    """Return the mean over queries at each depth, how far it is above depth 1, both with ends, and the best depth."""
    means = [mean_with_interval(values[depth]) for depth in values]
    over = [mean_with_interval(values[depth] - values.iloc[:, 0]) for depth in values]
    own = dict(zip(("value", "lo", "hi"), np.transpose(means), strict=True))
    above = dict(zip(("over_first", "over_first_lo", "over_first_hi"), np.transpose(over), strict=True))
    return own | above | {"best_depth": int(values.mean().idxmax())}


def _worth(values: pd.DataFrame, fused: pd.Series) -> dict[str, float | str]:
    """Say whether reranking beats the order as retrieved, and what the model and the first stage reach together.

    Each half of the queries counts at the depth beyond 1 that is best for the other half, so that no query has a say in
    the depth that it is judged at; halves go by the hash of their ids. fused: values of the tuned fusion by query, none
    where it was not measured.
    """
    half = np.array([int(digest(query, length=8), 16) % 2 == 0 for query in values.index.astype(str)], bool)
    if half.all() or not half.any() or values.shape[1] < 2:
        return {}
    beyond = values.iloc[:, 1:]
    reached = pd.concat([beyond.loc[half == side, beyond[half != side].mean().idxmax()] for side in (True, False)])
    worth, lo, hi = mean_with_interval(reached - values.iloc[:, 0])
    found = {"worth": worth, "worth_lo": lo, "worth_hi": hi, "verdict": _verdict(lo, hi)}
    if fused.empty:
        return found
    over, lo, hi = mean_with_interval((reached - fused).dropna())
    ends = {"over_fusion": over, "over_fusion_lo": lo, "over_fusion_hi": hi}
    return found | ends | {"fusion_verdict": _verdict(lo, hi)}


def _verdict(lo: float, hi: float) -> str:
    return "worth it" if lo > 0 else "not worth it" if hi <= 0 else "undecided"


def _fusions(study: Study) -> pd.DataFrame:
    """Return what runs' last checkpoints and the first stage reach together, by query; no rows where not measured."""
    columns = ["objective", "collection", "metric", "rung", "query_id", "value"]
    if not study.with_first_stage:
        return pd.DataFrame(columns=columns)
    rows = measured_rows(per_query(study, study.runs))
    rows = rows[rows["exposure"] == rows.groupby("run")["exposure"].transform("max")]
    fused = rows[(rows["task"] == RERANK) & rows["metric"].str.endswith(INTERPOLATED)]
    return fused.assign(metric=fused["metric"].str.removesuffix(INTERPOLATED))[columns]


def _forecast(
    law: laws.DepthLaw, size: float, first: pd.DataFrame, weights: NDArray, level: float
) -> dict[str, NDArray | float]:
    """Return what the law says of a rung: its value at every depth and its best depth, with intervals.

    These are over queries, and over what one model may lie off the law. first: values of any rung, whose first depth is
    the order as retrieved, the same for all.
    """
    depths, shares = first.columns.to_numpy(), [(1 - level) / 2, (1 + level) / 2]
    gains, retrieved = law.gain(size), weights @ first.to_numpy()[:, 0]
    drawn = gains + law.errors(size, len(weights), np.random.default_rng(1))
    lo, hi = np.clip(np.quantile((retrieved[:, None] + drawn)[1:], shares, axis=0), *limits(rises=True))
    best = depths[gains[0].argmax()]
    ends = np.quantile(depths[drawn[1:].argmax(1)], shares, method="inverted_cdf")
    said = {"forecast": retrieved[0] + gains[0], "forecast_lo": lo, "forecast_hi": hi}
    return said | {"best_depth_forecast": int(best), "best_depth_lo": int(ends[0]), "best_depth_hi": int(ends[1])}


def _with_latency(table: pd.DataFrame, timed: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the median latency of a query, on a line through the depths that were timed.

    Of each objective the first way to serve a rung as it was evaluated; depths at which the line is no time have none.
    """
    timed = timed[timed["as_evaluated"].astype(bool)]
    found = pd.Series(np.nan, table.index)
    for (objective, rung), rows in table.groupby(["objective", "rung"], sort=False):
        mine = timed[(timed["objective"] == objective) & (timed["rung"] == rung)]
        mine = mine[mine["name"] == mine["name"].iloc[0]] if len(mine) else mine
        if mine["depth"].nunique() > 1:
            slope, start = np.polyfit(mine["depth"], mine["p50_ms"], 1)
            milliseconds = start + slope * rows["depth"]
            found[rows.index] = milliseconds.where(milliseconds > 0)
    return table.assign(p50_ms=found)
