"""A ladder's laws from its measurements alone: no study, and nothing written to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.measurements.arguments import table_or_file
from rankscale_utils.study.arguments import checked, names

from .coefficients import law_coefficients
from .fit import Fitted, fit_series
from .ladder import Measurements, open_ladder


@dataclass(frozen=True)
class Fits:
    """What was fitted to a ladder.

    series: an objective, metric and collection each, with its measurements and its laws, for `rankscale_utils.laws`.
    """

    series: list[Fitted]

    @property
    def coefficients(self) -> pd.DataFrame:
        """A row for every averaged law of every series: its status, noise and coefficients; see `law_coefficients`."""
        return law_coefficients(self.series)

    @property
    def judged(self) -> pd.DataFrame:
        """How the average, its laws and “no change” fared in the ladder's past, the best first; see `laws.judged`."""
        return laws.judged(self.series[0].past)

    @property
    def past(self) -> pd.DataFrame:
        """What the average and each law said of every fitted rung from the smaller ones, with what was measured."""
        return self.series[0].past


@checked(measurements=table_or_file, held_out=names)
def fit(measurements: Measurements, held_out: Sequence[str] = (), **settings: Any) -> Fits:
    """Fit the laws of size and exposure to a ladder, as a study's page 3_fit does.

    Parameters
    ----------
    measurements
        A CSV's path or a table; see `read_measurements`.
    held_out
        Rungs that no fit may see.
    **settings
        Fields of a study's `forecasting`: metrics (names, or {name: "falls"} and "rises" where a name does not say
        which), size (what N counts), exposure (what D counts), checkpoints, burn_in, prior and draws.

    Returns
    -------
    Fits
        With `coefficients`, `judged` and `past` as tables, and the `series` themselves.

    Raises
    ------
    StudyError
        The measurements or a setting cannot be used; one sentence says why.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> table = pd.DataFrame([
    ...     {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure,
    ...      "collection": "dev", "metric": "nDCG@10", "value": 0.5 - size**-0.5 / 2 - exposure**-0.5}
    ...     for size in (17, 32, 68, 150) for exposure in (1e3, 2e3, 4e3)])
    >>> fits = rankscale.fit(table, held_out=["150m"], draws=100)
    >>> fits.coefficients[["law", "alpha", "beta"]].round(1)
             law  alpha  beta
    0   additive    0.3   0.5
    1  logarithm    0.3   0.5
    2     Kaplan    0.3   0.6
    3    sigmoid    0.3   0.2
    >>> fits.judged["law"].iloc[0]
    'additive'
    """
    ladder = open_ladder(measurements, held_out, settings)
    return Fits(fit_series(ladder.fitted, ladder.settings))
