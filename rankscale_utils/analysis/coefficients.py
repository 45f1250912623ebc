"""The coefficients of fitted laws as a table."""

import math
from collections.abc import Sequence

import pandas as pd

from .fit import Fitted

COEFFICIENTS = ("asymptote", "A", "alpha", "B", "beta")


def law_coefficients(series: Sequence[Fitted]) -> pd.DataFrame:
    """Return a row for every averaged law of every series.

    Columns: the series' labels, law, status (whether its coefficients can be believed), r2, between_sd and within_sd
    (noise of a new run around the law, and of a checkpoint around its own run), and the coefficients, empty where a law
    has no such one, on `scale`: the metric's own (value), or the logarithm of the gap to its limit (gap).
    """
    absent = dict.fromkeys(COEFFICIENTS, math.nan)
    rows = [
        fitted.labels
        | {"law": name, "scale": draws.fit.scale, "status": draws.fit.status, "r2": draws.fit.r2}
        | {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
        | absent
        | draws.fit.coefficients
        for fitted in series
        for name, draws in fitted.laws.items()
    ]
    return pd.DataFrame(rows)
