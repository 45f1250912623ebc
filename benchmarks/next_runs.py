"""Is the advice on what to train next worth following? Runs are chosen from ladders that are measured already.

    RANKSCALE_DATA=../shared/data python -m benchmarks.next_runs      # the table, written to reports/next_runs.md

From the three smallest rungs on, runs are bought from the measured ones below the most expensive, which is forecast,
for a share of what it cost. Ways to choose: ours (narrow that forecast most), the cheapest first, the dearest
affordable, at random, by the most uncertain place (D-optimal), and by the mean uncertainty over all places (V-optimal),
the last two for their FLOPs.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rankscale_utils.laws import Average, Cost, Series, averages, known, plan_runs
from rankscale_utils.laws.design import Doubt

from .bank import ROOT, Family, bank

REPORT = ROOT / "reports" / "next_runs.md"
FIRST, SHARES, DRAWS, RANDOM = 3, (0.1, 0.3), 200, 5
SERIES = 6  # of a family that has more, the first ones

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


def judged(name: str, family: Family) -> list[dict]:
    """Error and width of the dearest rung's forecast, a row a series, budget and way to choose."""
    rows = []
    for series in family.series[:SERIES]:
        table = series.table.assign(flops=6 * series.table["N"] * series.table["D"])
        sizes = np.sort(table["N"].unique())
        if len(sizes) < FIRST + 2:
            continue
        target = table[table["N"] == sizes[-1]].sort_values("D").iloc[[-1]]
        ends = table.loc[table.groupby("run")["D"].idxmax()]
        offered = ends[(ends["N"] > sizes[FIRST - 1]) & (ends["N"] < sizes[-1])].reset_index(drop=True)
        begun = table[table["N"] <= sizes[FIRST - 1]]
        for share in SHARES:
            budget = max(share * float(target["flops"].iloc[0]), float(offered["flops"].min()))
            (before,) = averages([replace(series, table=begun)], known(), DRAWS)
            for way, choosers in CHOOSERS.items():
                for choose in choosers:
                    bought = offered.loc[choose(before, offered[["N", "D", "flops"]], target, budget), "run"]
                    rows.append(_after(series, begun, table, bought, target) | {"way": way, "share": share})
    return [row | {"family": name} for row in rows]


def _after(
    series: Series, begun: pd.DataFrame, table: pd.DataFrame, bought: pd.Series, target: pd.DataFrame
) -> dict[str, float]:
    rows = pd.concat([begun, table[table["run"].isin(bought)]])
    (average,) = averages([replace(series, table=rows)], known(), DRAWS)
    made, truth = (
        average.forecast(target[["N", "D"]]).query("kind == 'new_run'").iloc[0],
        float(target["value"].iloc[0]),
    )
    return {
        "error": abs(made["forecast"] / truth - 1),
        "width": (made["hi"] - made["lo"]) / truth,
        "runs": len(bought),
    }


def report(rows: pd.DataFrame) -> str:
    """The table as Markdown."""
    lines = ["| family | budget, of the dearest run's cost | way | runs bought | mean error | median width |"]
    lines.append("|---|---|---|---|---|---|")
    every = rows.assign(family="all")
    for table in (rows, every):
        for (family, share, way), group in table.groupby(["family", "share", "way"], sort=False):
            numbers = f"{group['runs'].mean():.1f} | {group['error'].mean():.1%} | {group['width'].median():.0%}"
            lines.append(f"| {family} | {share:.0%} | {way} | {numbers} |")
    return (
        "# What to train next, judged\n\nFrom the three smallest rungs of ladders that others trained, runs are bought "
        "in several ways, and the dearest run of all is forecast. Written by `python -m benchmarks.next_runs`.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> None:
    """Judge every way on every family with rungs enough, and write the report."""
    families = bank(Path(os.environ.get("RANKSCALE_DATA", ROOT.parent / "shared" / "data")))
    with threadpool_limits(limits=1):
        rows = [row for name, family in families.items() for row in judged(name, family)]
    text = report(pd.DataFrame(rows))
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
