"""One series of measurements as laws see it."""

from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
from numpy.typing import NDArray

from .scales import Scale, from_scale, to_scale


@dataclass(frozen=True)
class Series:
    """One objective, metric and collection: its labels, its rows (run, rung, N, D, value) and what its metric can be.

    scale: where its noise is even. `numbers` are on that scale, `values` in the metric's own units.
    """

    labels: dict[str, str]
    table: pd.DataFrame
    rising: bool
    limits: tuple[float, float]
    scale: Scale = "arcsine"

    @cached_property
    def last(self) -> pd.DataFrame:
        """The last row of each run."""
        return self.table.loc[self.table.groupby("run", sort=False)["D"].idxmax()]

    @property
    def axes(self) -> tuple[str, ...]:
        """What its laws are of: exposure too, where there are several."""
        return ("N", "D") if self.table["D"].nunique() > 1 else ("N",)

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
