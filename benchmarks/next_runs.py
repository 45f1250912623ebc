"""Is the advice on what to train next worth following? Runs are chosen from ladders that are measured already.

    RANKSCALE_DATA=../shared/data python -m benchmarks.next_runs      # the table, written to reports/next_runs.md

From three small rungs on, runs are bought for a share of what the run costs that is forecast: of ladders that others
measured, rungs below their largest; of simulated ones, any run that `candidate_runs` suggests. Ways to choose: ours
(narrow that forecast most), the cheapest first, the dearest affordable, at random, by the most uncertain place
(D-optimal), and by the mean uncertainty over all places (V-optimal), the last two for their FLOPs.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rankscale_utils.laws import Average, Cost, Series, averages, candidate_runs, known, plan_runs
from rankscale_utils.laws.design import Doubt

from .bank import ROOT, Family, bank
from .simulations import EXPOSURES, NOISES, RATIO, SMALLEST, World, truth

REPORT = ROOT / "reports" / "next_runs.md"
FIRST, SHARES, DRAWS, RANDOM = 3, (0.2, 0.5), 200, 3
BEYOND, SEEDS, REPEATS = 9, 2, 4  # of simulated ladders: the size forecast, runs on offer alike, how many of each kind
SERIES = 6  # of a family that has more, the first ones

KINDS = ("additive", "Kaplan", "logistic", "saturating")

Chooser = Callable[[Average, pd.DataFrame, pd.DataFrame, float], list[int]]  # places among the runs on offer


def ours(average: Average, offered: pd.DataFrame, target: pd.DataFrame, budget: float) -> list[int]:
    """The plan of `laws.plan_runs`, each run once."""
    chosen, left = [], budget
    while len(rest := offered.drop(index=chosen)) and rest["flops"].min() <= left:
        plan = plan_runs(average, Cost.six_n(), rest.assign(place=rest.index), target, left)
        fresh = [] if plan.empty else [place for place in plan["place"].drop_duplicates() if place not in chosen]
        if not fresh:
            break
        chosen.append(fresh[0])
        left -= offered.loc[fresh[0], "flops"]
    return chosen


def _in_order(order: NDArray, offered: pd.DataFrame, budget: float) -> list[int]:
    chosen, left = [], budget
    for place in order:
        if offered["flops"].iloc[place] <= left:
            chosen.append(offered.index[place])
            left -= offered["flops"].iloc[place]
    return chosen


def cheapest(average: Average, offered: pd.DataFrame, target: pd.DataFrame, budget: float) -> list[int]:
    """The cheapest runs first."""
    return _in_order(np.argsort(offered["flops"].to_numpy(), kind="stable"), offered, budget)


def dearest(average: Average, offered: pd.DataFrame, target: pd.DataFrame, budget: float) -> list[int]:
    """The dearest run that the budget pays, then the dearest of what is left."""
    return _in_order(np.argsort(-offered["flops"].to_numpy(), kind="stable"), offered, budget)


def at_random(seed: int) -> Chooser:
    """Runs in a random order, as far as the budget pays them."""
    return lambda average, offered, target, budget: _in_order(
        np.random.default_rng(seed).permutation(len(offered)), offered, budget
    )


def by_uncertainty(mean: bool) -> Chooser:
    """The run whose own place is most uncertain, or that lowers the mean variance over all places most, per FLOP."""

    def choose(average: Average, offered: pd.DataFrame, target: pd.DataFrame, budget: float) -> list[int]:
        doubt = Doubt.of(average.few, offered["N"].to_numpy(float), offered["D"].to_numpy(float))
        chosen, left, flops = [], budget, offered["flops"].to_numpy()
        while True:
            variance = np.diagonal(doubt.covariance) + doubt.noise
            told = (doubt.covariance**2).mean(0) / variance if mean else np.log(variance / doubt.noise)
            worth = np.where((flops <= left) & ~np.isin(np.arange(len(flops)), chosen), told / flops, -1.0)
            place = int(worth.argmax())
            if worth[place] <= 0:
                return [offered.index[place] for place in chosen]
            chosen.append(place)
            doubt, left = doubt.after(place), left - flops[place]

    return choose


CHOOSERS: dict[str, list[Chooser]] = {
    "ours": [ours],
    "cheapest": [cheapest],
    "dearest": [dearest],
    "random": [at_random(seed) for seed in range(RANDOM)],
    "D-optimal": [by_uncertainty(False)],
    "V-optimal": [by_uncertainty(True)],
}


def simulated(kind: str, noise: tuple[float, float], rng: np.random.Generator) -> list[dict]:
    """Three small rungs of one seed; what is bought is trained, and a rung beyond forecast, a row a way to choose."""
    world = World(kind, "nDCG@10", 0, noise)
    sizes = SMALLEST * RATIO ** np.arange(FIRST)
    begun = [world.run(N, EXPOSURES, f"r{place}", 0, rng) for place, N in enumerate(sizes)]
    series = world.series(begun)
    target = pd.DataFrame({"N": [sizes[-1] * BEYOND], "D": EXPOSURES[-1:]})
    value = truth(kind, "nDCG@10", 0, target["N"].to_numpy(), target["D"].to_numpy())[0]
    target = target.assign(flops=6 * target["N"] * target["D"], value=value)
    offered = candidate_runs(series.table, target)
    offered = pd.concat([offered] * SEEDS, ignore_index=True)
    offered = offered.assign(flops=6 * offered["N"] * offered["D"])
    trained = [
        world.run(row.N, EXPOSURES * (row.D / EXPOSURES[-1]), row.rung, 1 + place, rng)
        for place, row in enumerate(offered.itertuples())
    ]
    offered["run"] = [run["run"].iloc[0] for run in trained]
    table = pd.concat([*begun, *trained], ignore_index=True)
    return _every_way(series, pd.concat(begun), table, offered, target, f"simulated, {kind}")


def measured(name: str, family: Family) -> list[dict]:
    """The dearest rung of every series of a family, a row a series, budget and way to choose."""
    rows = []
    for series in family.series[:SERIES]:
        table = series.table.assign(flops=6 * series.table["N"] * series.table["D"])
        sizes = np.sort(table["N"].unique())
        if len(sizes) < FIRST + 3:
            continue
        target = table[table["N"] == sizes[-1]].sort_values("D").iloc[[-1]]
        ends = table.loc[table.groupby("run")["D"].idxmax()]
        offered = ends[(ends["N"] > sizes[FIRST - 1]) & (ends["N"] < sizes[-1])].reset_index(drop=True)
        rows += _every_way(series, table[table["N"] <= sizes[FIRST - 1]], table, offered, target, name)
    return rows


def _every_way(
    series: Series, begun: pd.DataFrame, table: pd.DataFrame, offered: pd.DataFrame, target: pd.DataFrame, family: str
) -> list[dict]:
    (before,) = averages([replace(series, table=begun)], known(), DRAWS)
    rows = [_after(series, begun, target) | {"way": "nothing bought", "share": 0.0, "family": family, "runs": 0}]
    for share, (way, choosers) in product(SHARES, CHOOSERS.items()):
        budget = max(share * float(target["flops"].iloc[0]), float(offered["flops"].min()))
        for choose in choosers:
            bought = offered.loc[choose(before, offered[["N", "D", "flops"]], target, budget), "run"]
            made = _after(series, pd.concat([begun, table[table["run"].isin(bought)]]), target)
            rows.append(made | {"way": way, "share": share, "family": family, "runs": len(bought)})
    return rows


def _after(series: Series, rows: pd.DataFrame, target: pd.DataFrame) -> dict[str, float]:
    (average,) = averages([replace(series, table=rows)], known(), DRAWS)
    made = average.forecast(target[["N", "D"]]).query("kind == 'new_run'").iloc[0]
    truth_ = float(target["value"].iloc[0])
    return {"error": abs(made["forecast"] / truth_ - 1), "width": (made["hi"] - made["lo"]) / truth_}


def report(rows: pd.DataFrame) -> str:
    """The table as Markdown."""
    lines = ["| family | budget, of the dearest run's cost | way | runs bought | mean error | median width |"]
    lines.append("|---|---|---|---|---|---|")
    for table in (rows, rows.assign(family="all")):
        for (family, share, way), group in table.groupby(["family", "share", "way"], sort=False):
            numbers = f"{group['runs'].mean():.1f} | {group['error'].mean():.1%} | {group['width'].median():.0%}"
            lines.append(f"| {family} | {share:.0%} | {way} | {numbers} |")
    return (
        "# What to train next, judged\n\nFrom three small rungs on, runs are bought in several ways for a share of "
        "what the forecast run costs: rungs of ladders that others trained, or any run of simulated ones, "
        "where the truth is nine times larger than the largest. Written by `python -m benchmarks.next_runs`.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    """Judge every way on every family with rungs enough, and write the report."""
    families = bank(Path(os.environ.get("RANKSCALE_DATA", ROOT.parent / "shared" / "data")))
    with threadpool_limits(limits=1):
        rows = [row for name, family in families.items() for row in measured(name, family)]
        rng = np.random.default_rng(0)
        for kind, noise, _ in product(KINDS, NOISES, range(REPEATS)):
            rows += simulated(kind, noise, rng)
    text = report(pd.DataFrame(rows))
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
