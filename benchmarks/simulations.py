"""Do intervals hold where the truth is known? Ladders simulated from four kinds of law, forecast far beyond them.

    python -m benchmarks.simulations            # the tables, written to reports/simulations.md; some minutes
    python -m benchmarks.simulations --repeats 1

Two objectives with two metrics each, pooled as a study's are; runs and checkpoints have noise of their own. P0 is the
size law of arXiv 2603.04816. Exponents and best sizes are judged where the truth has them.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from rankscale_utils import laws
from rankscale_utils.laws import Average, Cost, Reach, Series, averages, known

REPORT = Path(__file__).resolve().parents[1] / "reports" / "simulations.md"
SMALLEST, RATIO, BEYOND = 4e6, 2.5, (3, 9, 30)
EXPOSURES = 1e4 * 2.0 ** np.arange(6)
CEILING = 0.67
METRICS = {"nDCG@10": (True, (0.0, CEILING), "arcsine"), "CE64": (False, (0.0, np.inf), "gap")}
DESIGNS = ((4, 1), (4, 3), (6, 3))  # rungs and seeds
NOISES = ((0.005, 0.003), (0.03, 0.02))  # of a run and of a checkpoint, shares of the value
ALPHA, BETA, KAPLAN_BETA = 0.45, 0.5, 0.6
BEST = {"additive": BETA / (ALPHA + BETA), "Kaplan": KAPLAN_BETA / (ALPHA + KAPLAN_BETA)}  # N ∝ C^a where C = 6ND
DRAWS, LATER = 1000, 10  # a budget so many times what the dearest run spent


@dataclass(frozen=True)
class Ladder:
    """One simulated study: its series and the values of further runs by series, rung beyond and repeat."""

    kind: str
    seeds: int
    series: list[Series]
    held_out: list[pd.DataFrame]


def closed(kind: str, N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """How much of a metric's way is left at sizes and exposures, from 1 on downwards."""
    n, d = N / SMALLEST, D / EXPOSURES[-1]
    if kind == "additive":
        return 0.8 * n**-ALPHA + 0.2 * d**-BETA
    if kind == "Kaplan":
        return (n ** (-ALPHA / KAPLAN_BETA) + 0.1 / d) ** KAPLAN_BETA
    if kind == "logistic":
        return 1 / (1 + 0.35 * n**0.8 * d**0.45)
    return 0.5 * n**-2.2 + 0.2 * d**-0.5  # saturates from the third rung on


def truth(kind: str, metric: str, objective: int, N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Expected values of a metric."""
    left = closed(kind, N, D)
    return 0.47 + 0.02 * objective - 0.25 * left if metric == "nDCG@10" else 1.4 + 1.8 * left


@dataclass(frozen=True)
class World:
    """One kind of truth for one objective and metric, and how noisy its runs and their checkpoints are."""

    kind: str
    metric: str
    objective: int
    noise: tuple[float, float]

    def run(self, N: float, D: np.ndarray, rung: str, seed: int, rng: np.random.Generator) -> pd.DataFrame:
        """A run's rows."""
        level = 1 + rng.normal(0, self.noise[0]) + rng.normal(0, self.noise[1], len(D))
        values = truth(self.kind, self.metric, self.objective, np.full(len(D), N), D) * level
        values = np.clip(values, 1e-3, CEILING - 1e-3) if self.metric == "nDCG@10" else values
        return pd.DataFrame({"rung": rung, "run": f"{rung}-{seed}", "N": N, "D": D, "value": values})

    def series(self, runs: Sequence[pd.DataFrame]) -> Series:
        """Runs as laws see them."""
        up, limits, scale = METRICS[self.metric]
        labels = {"objective": f"objective {self.objective}", "metric": self.metric, "collection": "simulated"}
        return Series(labels, pd.concat(runs, ignore_index=True), up, limits, scale)


def simulated(kind: str, rungs: int, seeds: int, noise: tuple[float, float], rng: np.random.Generator) -> Ladder:
    """One ladder whose fitted rungs grow by a constant ratio, and two runs of every rung beyond."""
    sizes, series, held_out = SMALLEST * RATIO ** np.arange(rungs), [], []
    for objective, metric in product(range(2), METRICS):
        world = World(kind, metric, objective, noise)
        runs = [world.run(N, EXPOSURES, f"r{i}", seed, rng) for i, N in enumerate(sizes) for seed in range(seeds)]
        later = [
            world.run(sizes[-1] * times, EXPOSURES[-1:], f"{times} times", seed, rng)
            for times in BEYOND
            for seed in range(2)
        ]
        series.append(world.series(runs))
        held_out.append(pd.concat(later, ignore_index=True))
    return Ladder(kind, seeds, series, held_out)


def forecasts(ladder: Ladder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts of further runs beside them, and the exponents and best sizes beside the truth, a row a series each."""
    made, optima = [], []
    for series, later, average in zip(
        ladder.series, ladder.held_out, averages(ladder.series, known(), DRAWS), strict=True
    ):
        at = later.drop_duplicates("rung")[["rung", "N", "D"]]
        said = average.forecast(at).query("kind == 'new_run'").assign(p0=_p0(series, at))
        told = later[["rung", "value"]].merge(said, on="rung")
        made.append(told.assign(kind=ladder.kind, seeds=ladder.seeds, metric=series.labels["metric"]))
        if ladder.kind in BEST:
            optima.append(_optimum(ladder, average) | {"kind": ladder.kind, "seeds": ladder.seeds})
    return pd.concat(made, ignore_index=True), pd.DataFrame(optima)


def _optimum(ladder: Ladder, average: Average) -> dict[str, float]:
    """The exponent of the best size, and the best size at a later budget, beside the truth."""
    cost, table = Cost.six_n(), average.series.table
    a = laws.exponents(average, cost).iloc[0]
    flops = LATER * (6 * table["N"] * table["D"]).max()
    reach = Reach.of(table)
    best = laws.optimal(average, cost, flops, reach).iloc[0]
    sizes = np.exp(np.linspace(*reach.sizes, 2000))
    exposures = flops / (6 * sizes)
    inside = exposures <= np.exp(reach.exposures[1])
    true = sizes[inside][closed(ladder.kind, sizes[inside], exposures[inside]).argmin()]
    return {
        "exponent held": a["lo"] <= BEST[ladder.kind] <= a["hi"],
        "exponent's width": a["hi"] - a["lo"],
        "best size held": best["size_lo"] <= true * 1.001 and true <= best["size_hi"] * 1.001,
        "size, times too large": best["size"] / true,
    }


def _p0(series: Series, at: pd.DataFrame) -> np.ndarray:
    rows = series.last.assign(params_nominal=series.last["N"], exposure=series.last["D"], seed=0, step=1)
    held = at.assign(params_nominal=at["N"], exposure=at["D"])
    return laws.p0_forecast("size", rows, held, last=1, rising=series.rising, draws=10)["forecast"].to_numpy()


def ladders(repeats: int) -> Iterator[Ladder]:
    """Every kind of truth with every design and noise, so many times."""
    rng = np.random.default_rng(0)
    for kind, (rungs, seeds), noise, _ in product(
        ("additive", "Kaplan", "logistic", "saturating"), DESIGNS, NOISES, range(repeats)
    ):
        yield simulated(kind, rungs, seeds, noise, rng)


def report(made: pd.DataFrame, optima: pd.DataFrame) -> str:
    """Both tables as Markdown."""
    rows = made.assign(
        error=(made["forecast"] / made["value"] - 1).abs(),
        p0_error=(made["p0"] / made["value"] - 1).abs(),
        unchanged=(made["persistence"] / made["value"] - 1).abs(),
        held=(made["lo"] <= made["value"]) & (made["value"] <= made["hi"]),
        width=(made["hi"] - made["lo"]) / made["value"],
    )
    lines = [
        "# Ladders whose truth is known",
        "",
        "Mean absolute relative error of our average, of P0's size law and of no change; how many 95% intervals of one "
        "new run held it; their median width as a share of the value. Written by `python -m benchmarks.simulations`.",
        "",
        "| truth | runs a rung | size beyond the largest fitted | forecasts | ours | P0 | no change | held | width |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for keys in (["kind", "rung"], ["kind", "seeds"], ["kind"]):
        for names, group in rows.groupby(keys, sort=False):
            labels = dict(zip(keys, names, strict=True))
            place = [labels["kind"], labels.get("seeds", "all"), labels.get("rung", "all")]
            numbers = [len(group), *(f"{group[x].mean():.1%}" for x in ("error", "p0_error", "unchanged"))]
            numbers += [f"{group['held'].mean():.0%}", f"{group['width'].median():.0%}"]
            lines.append("| " + " | ".join(map(str, place + numbers)) + " |")
    lines += [
        "",
        "## Exponents and best sizes",
        "",
        "The exponent a of the best size in compute, and the best size at ten times what the dearest run spent.",
        "",
        "| truth | runs a rung | series | a held | median width of a | best size held | best size over the true |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, seeds), group in optima.groupby(["kind", "seeds"], sort=False):
        numbers = [
            len(group),
            f"{group['exponent held'].mean():.0%}",
            f"{group['exponent' + chr(39) + 's width'].median():.2f}",
        ]
        numbers += [f"{group['best size held'].mean():.0%}", f"{group['size, times too large'].median():.1f}"]
        lines.append("| " + " | ".join(map(str, [kind, seeds, *numbers])) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, forecast and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of every kind, design and noise")
    with threadpool_limits(limits=1):
        made = [forecasts(ladder) for ladder in ladders(parser.parse_args().repeats)]
    text = report(*(pd.concat(tables, ignore_index=True) for tables in zip(*made, strict=True)))
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
