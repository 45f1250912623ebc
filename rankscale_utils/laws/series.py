"""One series of measurements as laws see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from numpy.typing import NDArray

from .scales import Scale, from_scale, to_scale


@dataclass(frozen=True)
class Series:
    """One objective, metric and collection: its labels, its rows (run, rung, N, D, value) and what its metric can be.

    scale: where its noise is even, and where all candidates are fitted and averaged. `numbers` are on that scale,
    `values` in the metric's own units.
    """

    labels: dict[str, str]
    table: pd.DataFrame
    rising: bool
    limits: tuple[float, float]
    scale: Scale = "gap"

    @cached_property
    def end(self) -> pd.DataFrame:
        """The rows at the largest exposure that every rung has; where they share none, the last one of each run."""
        shared = set.intersection(*(set(exposures) for _, exposures in self.table.groupby("N")["D"]))
        if shared:
            return self.table[self.table["D"] == max(shared)]
        return self.table.loc[self.table.groupby("run")["D"].idxmax()]

    def below(self, N: float) -> "Series":
        """The series without the sizes from N on."""
        return replace(self, table=self.table[self.table["N"] < N])

    def sizes_below(self, N: float) -> int:
        """How many of its sizes are smaller than N."""
        return self.table.loc[self.table["N"] < N, "N"].nunique()

    def on_scale(self, values: NDArray) -> NDArray:
        """Values as numbers on the series' scale."""
        return to_scale(self.scale, values, self.rising, self.limits)

    def off_scale(self, numbers: NDArray) -> NDArray:
        """Values from numbers on the series' scale."""
        return from_scale(self.scale, numbers, self.rising, self.limits)

    def entropy_among(self, all_series: Sequence["Series"]) -> int | None:
        """Index of the first entropy that was measured on the same runs at the same exposures, if there is one."""
        for index, other in enumerate(all_series):
            same = all(other.labels.get(name) == self.labels.get(name) for name in ("collection", "task"))
            if not other.rising and same and self._checkpoints.equals(other._checkpoints):
                return index
        return None

    @property
    def _checkpoints(self) -> pd.DataFrame:
        """Run and exposure of every row."""
        return self.table[["run", "D"]].round({"D": 6}).reset_index(drop=True)
