"""What to train next: which further runs narrow a forecast most for their FLOPs.

The drawn laws, and what they may be wrong by beyond the runs, say how numbers at two places go together; a run at one
place then narrows the forecast at the other as any Gaussian observation does. Choosing runs by the variance of one
forecast is c-optimal design (Atkinson, Donev and Tobias, Optimum Experimental Designs, 2007, ch. 10), here with the law
itself in doubt; choosing one run at a time is sequential design (Wynn, Annals of Mathematical Statistics 41, 1970).

What it takes on trust: noise as large at every size. A run counts as what it ends at: it may tell more, of how noisy
runs are and of how they go with exposure.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .averaging import Average
from .cost import Cost

SMALLEST_SHRINKAGE = 0.02  # a run that narrows the interval by less is not worth planning
MOST_RUNS = 20  # of a plan
ROUNDING = 1e-9  # of FLOPs that are to fit into a budget


@dataclass(frozen=True)
class Doubt:
    """What laws leave open at n places, on their series' scale.

    covariance (n, n): of the expected numbers; noise (n,): variance of one run around them.
    """

    covariance: NDArray
    noise: NDArray

    @classmethod
    def of(cls, average: Average, N: NDArray, D: NDArray) -> "Doubt":
        """At sizes and exposures (n,).

        Beyond the largest run a law is wrong along with the distance, the same way at every place; nearer, and earlier
        in training, each run has an error of its own, as in the fit (`local_problem`).
        """
        mixture, first = average.mixture(N, D), next(iter(average.posteriors.values()))
        around = mixture.centres - mixture.shares @ mixture.centres
        covariance = (around * mixture.shares[:, None]).T @ around
        doubts = np.concatenate([np.stack(made.doubts) for made in average.posteriors.values()], 1)
        by_size, by_exposure, noise = (doubts**2) @ mixture.shares
        variance = np.full(len(N), noise)
        for way, square in zip(first.problem.series.away(N, D), (by_size, by_exposure), strict=True):
            beyond, before = np.maximum(way, 0), np.minimum(way, 0)
            covariance += square * np.outer(beyond, beyond)
            variance += square * before**2
        return cls(covariance, variance)

    def after(self, place: int) -> "Doubt":
        """Once a run at one of the places was measured."""
        gain = self.covariance[:, place]
        return Doubt(self.covariance - np.outer(gain, gain) / (gain[place] + self.noise[place]), self.noise)

    def narrowed(self, targets: NDArray) -> NDArray:
        """Standard deviation of a run at the targets (m,), their mean, once a run at each place was measured, (n,)."""
        gains = self.covariance[targets] ** 2 / (np.diagonal(self.covariance) + self.noise)
        return np.sqrt(self.of_runs(targets)[:, None] - gains).mean(0)

    def of_runs(self, targets: NDArray) -> NDArray:
        """Variances of one run at the targets (m,)."""
        return self.covariance[targets, targets] + self.noise[targets]


def plan_runs(
    average: Average,
    cost: Cost,
    candidates: pd.DataFrame,
    target: pd.DataFrame,
    budget_flops: float,
    *,
    level: float = 0.95,
) -> pd.DataFrame:
    """Runs to train in order, so that the interval of one new run at the target is narrowed most within a budget.

    candidates: a row for each possible run, with columns N and D; other columns are carried along. target: rows with N
    and D. Each time the affordable run that narrows most; a candidate may come again (another seed). Ends when nothing
    affordable narrows the interval by 2% or more, so the budget need not be spent whole; greedy choices need not be the
    best set.

    Adds flops; half_width_now and half_width_after, of the mean over the target rows in the metric's unit, before the
    row's run and with it; shrinkage, the share by which it falls; shrinkage_per_flop; cumulative_flops. Raises
    ValueError where there is nothing to choose from or the budget buys no candidate.
    """
    if candidates.empty or target.empty:
        raise ValueError("there are no rows to choose from, or none to forecast; give at least one of each")
    flops = (cost.flops_per_unit(candidates["N"]) * candidates["D"]).to_numpy(float)
    if not budget_flops >= flops.min() * (1 - ROUNDING):
        raise ValueError(f"budget_flops is {budget_flops:g}; the cheapest candidate costs {flops.min():g}, give more")
    places = pd.concat([candidates[["N", "D"]], target[["N", "D"]]]).to_numpy(float)
    doubt = Doubt.of(average.few, *places.T)
    made = average.forecast(target[["N", "D"]].reset_index(drop=True), level, ["new_run"])
    width = float((made["hi"] - made["lo"]).mean() / 2)
    steps = _greedy(doubt, flops, len(target), budget_flops)
    now = np.sqrt(doubt.of_runs(np.arange(len(flops), len(places)))).mean()
    chosen = candidates.iloc[[place for place, _, _ in steps]].reset_index(drop=True)
    before, after = (np.array([step[side] for step in steps], float) for side in (1, 2))
    spent = flops[[place for place, _, _ in steps]]
    return chosen.assign(
        flops=spent,
        half_width_now=width * before / now,
        half_width_after=width * after / now,
        shrinkage=1 - after / before,
        shrinkage_per_flop=(1 - after / before) / spent,
        cumulative_flops=spent.cumsum(),
    )


def _greedy(doubt: Doubt, flops: NDArray, targets: int, budget: float) -> list[tuple[int, float, float]]:
    """A plan's candidates in order, with the targets' standard deviation before and after each."""
    count, left, steps = len(flops), budget, []
    at = np.arange(count, count + targets)
    while len(steps) < MOST_RUNS:
        now, after = np.sqrt(doubt.of_runs(at)).mean(), doubt.narrowed(at)[:count]
        shrinkage = np.where(flops <= left * (1 + ROUNDING), 1 - after / now, 0.0)
        place = int(shrinkage.argmax())
        if shrinkage[place] < SMALLEST_SHRINKAGE:
            break
        steps.append((place, float(now), float(after[place])))
        doubt, left = doubt.after(place), left - flops[place]
    return steps


def candidate_runs(table: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """Runs that a ladder suggests: every rung, and a new one at the geometric middle of each neighbouring pair.

    table: a series' rows, with rung, N and D; target: one row with N and D, to be forecast, the last rung's neighbour.
    Each at a rung's longest exposure, and at half and twice that where there are several. Returns columns rung, N, D,
    kind ("another seed" or "new rung").
    """
    ladder = table.groupby("rung").agg({"N": "first", "D": "max"}).sort_values("N")
    ends, names = np.vstack([ladder, target[["N", "D"]]]).astype(float), [*ladder.index, "the one to forecast"]
    rows = [(rung, *end, "another seed") for rung, end in zip(ladder.index, ends, strict=False)]
    rows += [
        (f"between {names[place]} and {names[place + 1]}", *np.sqrt(ends[place] * ends[place + 1]), "new rung")
        for place in range(len(ladder))
        if ends[place + 1, 0] > ends[place, 0]
    ]
    shares = (1.0, 0.5, 2.0) if table["D"].nunique() > 1 else (1.0,)
    runs = [(rung, N, share * D, kind) for share in shares for rung, N, D, kind in rows]
    return pd.DataFrame(runs, columns=["rung", "N", "D", "kind"])
