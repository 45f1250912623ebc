"""The laws of a series as lines to be drawn."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.study.study import Study

from .fit import Fitted, convert_counts, design_of_series, held_out_design
from .forecast import sealed_reach


def series_curves(one: Fitted, design: pd.DataFrame, level: float, reach: Sequence[float] | None, points: int = 40):
    """Return every law of a series as lines, the average with its band (kind mean_law), to be drawn.

    Rows: along size at the end (`along` = size), and along exposure at every fitted and held-out rung (`along` =
    exposure) for the laws that know exposure.
    """
    design = design_of_series(one, design)
    rungs = pd.concat([one.table, design])[["rung", "params_non_embedding", "N"]].drop_duplicates("rung")
    ends = one.average.series.end
    sizes = np.geomspace(rungs["params_non_embedding"].min(), rungs["params_non_embedding"].max(), points)
    along_size = pd.DataFrame({"params_non_embedding": sizes})
    along_size = along_size.assign(N=convert_counts(rungs, "params_non_embedding", "N", along_size), D=ends["D"].mean())
    made = [one.average.forecast(along_size, level, reach).assign(along="size")]
    made += [
        along_size.assign(forecast=draws.fit.predict(along_size["N"], along_size["D"]), law=name, kind="mean_law",
                          along="size")
        for name, draws in one.laws.items()
    ]  # fmt: skip
    knowing = {name: draws for name, draws in one.laws.items() if "D" in draws.fit.law.axes}
    if not knowing and one.joint is not None:
        knowing = {"joint": one.joint}
    if knowing:
        first, last = one.table["exposure"].min(), max(one.table["exposure"].max(), design["exposure"].max())
        exposures = pd.DataFrame({"exposure": np.geomspace(first, last, points)})
        along = rungs.merge(exposures, how="cross")
        along = along.assign(D=convert_counts(one.table, "exposure", "D", along))
        average = laws.Average(one.average.series, knowing)
        made.append(average.forecast(along, level, reach).assign(along="exposure"))
    table = pd.concat(made, ignore_index=True)
    return table[table["kind"] == "mean_law"].assign(**one.labels)


def all_curves(study: Study, fitted: Sequence[Fitted], sealed: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of several series, their bands as wide as the sealed intervals' reach makes them."""
    design, reach = held_out_design(study, fitted), sealed_reach(sealed)
    made = [series_curves(one, design, study.forecasting.level, reach) for one in fitted]
    return pd.concat(made, ignore_index=True)
