"""One series of measurements as laws see it: from the end of its largest rung, where forecasts start."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .rows import hash_of_data, measurements
from .scales import Scale, from_scale, to_scale

INDEPENDENT = 2  # checkpoints of a run that count as independent: neighbours share what the law is wrong by


@dataclass(frozen=True)
class Series:
    """One objective, metric and collection: its labels, its rows (run, rung, N, D, value) and what its metric can be.

    scale: where its noise is even. `numbers` are on that scale, `values` in the metric's own units. Arrays of n are of
    `rows`; u and v are logarithms of size and exposure in units of the `reference`.
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

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """What its laws are of: exposure too, where there are several."""
        return ("N", "D") if self.table["D"].nunique() > 1 else ("N",)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows that its laws are fitted to: all, or where laws know no exposure those where runs end."""
        return self.table if "D" in self.axes else self.last

    @cached_property
    def data(self) -> pd.DataFrame:
        """Run, N, D and value of these rows, checked."""
        return measurements(self.rows, "N", "D")

    @cached_property
    def data_sha256(self) -> str:
        """The hash of `data`, whatever the order of its rows."""
        return hash_of_data(self.data)

    @cached_property
    def numbers(self) -> NDArray:
        """Measured numbers (n,) on the series' scale."""
        return self.on_scale(self.rows["value"].to_numpy(float))

    @cached_property
    def reference(self) -> tuple[float, float]:
        """Size of the largest rung, and its largest exposure."""
        N, D = (self.rows[axis].to_numpy(float) for axis in ("N", "D"))
        largest = N.max()
        return float(largest), float(D[largest == N].max())

    def away(self, N: ArrayLike, D: ArrayLike) -> tuple[NDArray, NDArray]:
        """Return u and v of sizes and exposures (n,)."""
        return np.log(np.asarray(N, float) / self.reference[0]), np.log(np.asarray(D, float) / self.reference[1])

    @cached_property
    def places(self) -> tuple[NDArray, NDArray]:
        """Where the rows are: u and v, each (n,)."""
        return self.away(self.rows["N"], self.rows["D"])

    @cached_property
    def runs(self) -> NDArray:
        """1 where a row is of a run, (runs, n)."""
        _, run = np.unique(self.rows["run"], return_inverse=True)
        return (np.arange(run.max() + 1)[:, None] == run).astype(float)

    @cached_property
    def u_of_runs(self) -> NDArray:
        """Each run's u, (runs,)."""
        return (self.runs * self.places[0]).sum(1) / self.runs.sum(1)

    @cached_property
    def before_end(self) -> NDArray:
        """Logarithm of exposure in units of the run's own end (n,)."""
        ends = self.rows.groupby("run")["D"].transform("max")
        return np.log(self.rows["D"].to_numpy(float) / ends.to_numpy(float))

    @cached_property
    def share(self) -> float:
        """What a checkpoint beside those of its run counts as evidence; 0 where no run has two."""
        spare = self.runs.shape[1] - len(self.runs)
        return min(1.0, INDEPENDENT * len(self.runs) / spare) if spare else 0.0

    @cached_property
    def end(self) -> float:
        """Mean number at the reference."""
        u, v = self.places
        return float(self.numbers[(u == 0) & (v >= v[u == 0].max() - 1e-9)].mean())

    @cached_property
    def moved_by_size(self) -> float:
        """How far runs' ends move a factor e in size, on the series' scale."""
        u, _ = self.away(self.last["N"], self.last["D"])
        return float(np.polyfit(u, self.on_scale(self.last["value"]), 1)[0]) if np.ptp(u) > 0 else 0.0

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
