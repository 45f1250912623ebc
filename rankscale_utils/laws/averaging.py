"""Which law? Candidates are judged by the fitted rungs' own past, and those that it cannot tell apart are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .candidates import Candidate
from .forecasting import KINDS, of_largest, standard_errors
from .pooling import Prior
from .resampling import Draws, spare_runs, t_quantile
from .series import Series


@dataclass(frozen=True)
class Average:
    """The laws of one series that were kept, resampled; their forecasts are averaged with equal weights."""

    series: Series
    laws: dict[str, Draws]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the law that has fewest."""
        return min(draws.degrees for draws in self.laws.values())

    @property
    def identified(self) -> bool:
        """Whether some law does not simply pass through every run."""
        return any(spare_runs(draws.fit) > 0 for draws in self.laws.values())

    def forecast(self, at: pd.DataFrame, level: float = 0.95, reach: Sequence[float] | None = None) -> pd.DataFrame:
        """Forecast at the rows' N and D; returns two rows for each, as `laws.forecast` does, of the law "average".

        reach: standard errors to each side, one for each kind (None: Student's t at the fewest degrees of freedom).
        The variance of the law's mean is the mean of the laws' own variances plus that of their forecasts; a new run
        adds the mean of the laws' noise. Source: Hoeting et al., Statistical Science 14 (1999), eq. 3.
        """
        N, D = at["N"].to_numpy(float), at["D"].to_numpy(float)
        reach = reach if reach is not None else [t_quantile(level, self.degrees)] * len(KINDS)
        centres = np.stack([self.series.on_scale(draws.fit.predict(N, D)) for draws in self.laws.values()])
        errors = [standard_errors(d.fit, d.predict(N, D), d.between_sd, d.within_sd) for d in self.laws.values()]
        unchanged = of_largest(next(iter(self.laws.values())).fit, D)
        tables, half = [], np.zeros(len(N))
        for index, kind in enumerate(KINDS):
            centre, sd = combined(centres, np.stack([kinds[index] for kinds in errors]))
            half = np.maximum(half, reach[index] * sd)  # a new run is never surer than the law's mean
            ends = [self.series.off_scale(centre + side * half) for side in (-1, 1)]
            lo, hi = ends if self.identified else [np.full_like(centre, limit) for limit in self.series.limits]
            table = at.assign(forecast=self.series.off_scale(centre), lo=lo, hi=hi, level=level, kind=kind)
            table[["lo", "hi"]] = table[["lo", "hi"]].clip(*self.series.limits)
            tables.append(table.assign(law="average", status=" + ".join(self.laws), persistence=unchanged))
        return pd.concat(tables, ignore_index=True)


def combined(centres: NDArray, sds: NDArray) -> tuple[NDArray, NDArray]:
    """Average and standard error (..., n) of the laws' centres and standard errors (laws, ..., n)."""
    return centres.mean(0), np.sqrt((sds**2).mean(0) + centres.var(0))


def kept_averages(
    all_series: Sequence[Series], kept: Sequence[Candidate], prior: Prior, draws: int, seed: int = 0
) -> list[Average]:
    """Fit and resample the kept candidates; returns an Average for each series."""
    resampled = {
        candidate.name: candidate.resample(candidate.fit(all_series, prior), prior, draws, seed) for candidate in kept
    }
    return [
        Average(series, {name: drawn[index] for name, drawn in resampled.items()})
        for index, series in enumerate(all_series)
    ]
