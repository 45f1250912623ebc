"""What the laws forecast of models of any size, beside how long serving them would take."""

import numpy as np
import pandas as pd

from rankscale_utils.fits import Fitted, converted, held_out_design, of_series
from rankscale_utils.forecasts import open_sealed, sealed_reach
from rankscale_utils.pareto import BEYOND, at_latencies
from rankscale_utils.study import Study
from rankscale_utils.systems import as_evaluated

POINTS = 60  # sizes beside the rungs' own


def forecast_served(study: Study, fitted: list[Fitted], timed: pd.DataFrame) -> pd.DataFrame:
    """Return forecasts of one new run by size with the latency of every way to serve it: see `at_latencies`.

    fitted: all series of the study. timed: from `speed.measure_study`. Sizes are the rungs' own and others, to `BEYOND`
    times the largest; below the smallest a law has no past to judge it by. Forecasts are the averages' at
    the exposure that held-out rungs are forecast at, with intervals that reach as far as the sealed ones. Columns:
    name, family, objective, metric, collection, depth, params_non_embedding, p50_ms, forecast, lo, hi, level, and
    coverage, the share of simulated studies where such an interval of the held-out rungs held the truth. No rows where
    no law was fitted to what was timed.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed, design = open_sealed(study, fitted), held_out_design(study, fitted)
    served = of_the_laws(study, timed)
    made = [
        _of_series(one, study, mine["params_non_embedding"], sealed, design)
        for one in fitted
        if len(mine := of_series(one, served))
    ]
    return at_latencies(pd.concat(made, ignore_index=True), served) if made else served.iloc[:0]


def of_the_laws(study: Study, timed: pd.DataFrame) -> pd.DataFrame:
    """Return the systems that rank as evaluation does, at its depth: those that laws are of."""
    return timed[(timed["depth"] == study.evaluation.depth) & timed["name"].map(as_evaluated)]


def _of_series(one: Fitted, study: Study, rungs: pd.Series, sealed: pd.DataFrame, design: pd.DataFrame) -> pd.DataFrame:
    """Return the average's forecasts of one new run at all sizes; at a held-out rung's they are the sealed ones."""
    others = np.geomspace(rungs.min(), rungs.max() * BEYOND, POINTS)
    at = pd.DataFrame({"params_non_embedding": np.union1d(others, rungs)})
    at = at.assign(N=converted(one.table, "params_non_embedding", "N", at), D=of_series(one, design)["D"].max())
    made = one.average.forecast(at, study.forecasting.level, sealed_reach(sealed))
    simulated = of_series(one, sealed[(sealed["law"] == "average") & (sealed["kind"] == "new_run")])["coverage"].iloc[0]
    return made[made["kind"] == "new_run"].assign(
        **one.labels, family=study.family_of(one.objective), depth=study.evaluation.depth, coverage=simulated
    )
