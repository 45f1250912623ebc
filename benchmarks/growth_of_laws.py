"""How seconds and memory of a forecast grow with the number of series and of runs.

python -m benchmarks.growth_of_laws [--repeats 1]
Ladders of six rungs whose truth is additive; the largest is held out. `rankscale.forecast` answers as a study does.
"""

import argparse
import itertools
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import rankscale_utils as rankscale
from benchmarks import common, growth

RUNGS = 6
EXPOSURES = (1e4, 2e4, 4e4, 8e4)
NOISE = 0.01  # of a value between runs


@dataclass(frozen=True)
class Ladder:
    """So many series (a metric each) of so many runs on six rungs."""

    series: int
    runs: int


BASE = Ladder(series=1, runs=RUNGS)
SERIES = {
    "series": [replace(BASE, series=series) for series in (1, 3, 10, 30, 100, 300)],
    "runs": [replace(BASE, runs=runs) for runs in (6, 12, 30, 60, 150, 300)],
}


def measurements(ladder: Ladder) -> pd.DataFrame:
    """Return what a user would have measured: a row for each series, run and exposure."""
    random = np.random.default_rng(0)
    every = itertools.product(range(ladder.series), range(RUNGS), range(ladder.runs // RUNGS), EXPOSURES)
    table = pd.DataFrame(list(every), columns=["series", "step", "seed", "exposure"])
    table["params"] = 1e6 * 2.5 ** table["step"]
    gap = 0.35 * (table["params"] / 1e6) ** -0.3 + 0.25 * (table["exposure"] / 1e4) ** -0.4
    ceiling = 0.7 + 0.2 * table["series"] / ladder.series
    table["value"] = ceiling - gap * np.exp(NOISE * random.standard_normal(len(table)))
    names = {"rung": "r" + table["step"].astype(str), "metric": "m" + table["series"].astype(str)}
    return table.assign(**names, objective="listwise", collection="dev").drop(columns=["series", "step"])


def measured(ladder: Ladder, repeats: int) -> float:
    """Return the seconds of a forecast of the largest rung."""
    table = measurements(ladder)
    directions = dict.fromkeys(table["metric"].unique(), "rises")
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        rankscale.forecast(table, held_out=[f"r{RUNGS - 1}"], metrics=directions)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    """Measure every ladder and publish its table and slope."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    parts = [growth.of(name, ladders, measured, repeats) for name, ladders in SERIES.items()]
    said = f"`rankscale.forecast` of the largest of {RUNGS} rungs at {len(EXPOSURES)} exposures; what does not vary is"
    common.publish("Growth of forecasts", f"{said} {BASE.series} series of {BASE.runs} runs.\n\n" + "\n\n".join(parts))


if __name__ == "__main__":
    main()
