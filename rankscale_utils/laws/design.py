"""What to train next: which further runs narrow a forecast most for their FLOPs.

Choosing runs by the variance of a forecast is c-optimal design: Atkinson, Donev and Tobias, Optimum Experimental
Designs (2007), ch. 10; one run at a time is the sequential design of Wynn, Annals of Mathematical Statistics 41 (1970).
`information` says how that variance is foreseen and what it takes on trust. It ranks runs; how wide the interval is
now, `forecast` says.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .cost import Cost
from .fitting import Fit
from .information import Goal, Theory
from .known import Belief
from .resampling import Draws

SMALLEST_SHRINKAGE = 0.01  # a run that narrows the interval by less is not worth planning
SAME_EXPOSURE = 1e-6  # share by which two exposures differ and still are the same checkpoint
RUN_COLUMNS = (
    "flops",
    "half_width_now",
    "half_width_after",
    "half_width_now_on_scale",
    "half_width_after_on_scale",
    "shrinkage",
    "shrinkage_per_flop",
)


def plan_runs(
    draws: Draws,
    cost: Cost,
    candidates: pd.DataFrame,
    target: pd.DataFrame,
    budget_flops: float,
    *,
    level: float = 0.95,
    prior: Belief | None = None,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Runs to train in order: each time the affordable one that narrows the forecast most per FLOP.

    candidates: a row for each possible run, with columns `size`, `exposure` (where it ends) and, if wanted,
    checkpoints: how many it leaves, spread over the fitted design's exposures up to its own, which is the last (all of
    them where the column is missing; one where no fitted run has two rows, as nothing then tells within-run noise);
    other columns are carried along. target: rows to forecast, with `size` and `exposure`. prior: of the size exponent,
    counted once.

    A candidate may come again (another seed). Ends when nothing affordable narrows the interval by 1% or more, so the
    budget need not be spent whole; greedy choices need not be the best set.

    Adds flops; half_width_now and half_width_after, before the row's run and with it: of the new-run interval, mean
    over the target rows, in the metric's unit and within its limits, and the same _on_scale, on the fit's scale without
    limits; shrinkage, the share by which the latter falls; shrinkage_per_flop; cumulative_flops. Raises ValueError
    where there is nothing to choose from, nothing to judge noise by, a number that no run can have, or
    where the budget buys no candidate.
    """
    choice = _Choice.of(draws, cost, candidates.reset_index(drop=True), target, level, prior, size, exposure)
    flops, known = choice.flops, choice.goal.theory.information
    if not budget_flops >= flops.min():
        raise ValueError(f"budget_flops is {budget_flops:g}; the cheapest candidate costs {flops.min():g}, give more")
    left, steps = float(budget_flops), []
    while True:
        table = choice.judged(known, len(steps))
        worth = table[(table["flops"] <= left) & (table["shrinkage"] >= SMALLEST_SHRINKAGE)]
        if worth.empty:
            break
        best = worth["shrinkage_per_flop"].idxmax()
        steps.append(table.loc[[best]])
        left, known = left - flops[best], known + choice.informations[best]
    chosen = pd.concat(steps, ignore_index=True) if steps else table.iloc[:0]
    return chosen.assign(cumulative_flops=chosen["flops"].cumsum())


def candidate_runs(
    fit: Fit,
    sizes: pd.DataFrame | pd.Series,
    *,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Runs that a ladder suggests: every rung, and a new one at the geometric middle of each neighbouring pair.

    sizes: a Series of sizes by rung, or a table with columns rung (may be missing) and `size`. Each at the largest
    fitted exposure, and at half and twice that where the law has an exposure. Returns columns rung, `size`, `exposure`,
    checkpoints, kind ("another seed" or "new rung"). Raises ValueError where there is no rung or no `size`.
    """
    ladder = _ladder(sizes, size)
    middles = np.sqrt(ladder.to_numpy()[1:] * ladder.to_numpy()[:-1])
    names = [f"between {low} and {high}" for low, high in zip(ladder.index, ladder.index[1:], strict=False)]
    trained = fit.data["N"].unique()
    rows = [(rung, N, "another seed" if np.isclose(N, trained).any() else "new rung") for rung, N in ladder.items()]
    rows += [(rung, N, "new rung") for rung, N in zip(names, middles, strict=True)]
    largest, most = fit.data["D"].max(), int(fit.data.groupby("run").size().max())
    runs = []
    for share in (1.0, 0.5, 2.0) if "D" in fit.law.axes else (1.0,):
        possible = len(_possible_exposures(fit, share * largest))
        runs += [(rung, N, share * largest, min(possible, most + (share > 1)), kind) for rung, N, kind in rows]
    return pd.DataFrame(runs, columns=["rung", size, exposure, "checkpoints", "kind"])


@dataclass(frozen=True)
class _Choice:
    """Candidates with their FLOPs (candidates,) and information (candidates, k, k), and what they are judged by."""

    candidates: pd.DataFrame
    flops: NDArray
    informations: NDArray
    goal: Goal

    @classmethod
    def of(
        cls,
        draws: Draws,
        cost: Cost,
        candidates: pd.DataFrame,
        target: pd.DataFrame,
        level: float,
        prior: Belief | None,
        size: str,
        exposure: str,
    ) -> "_Choice":
        """Arguments and errors as in `plan_runs`."""
        theory = Theory.of(draws, prior, level)
        for name, rows in (("target", target), ("candidates", candidates)):
            _check_rows(theory, name, rows, size, exposure)
        N, D = candidates[size].to_numpy(float), candidates[exposure].to_numpy(float)
        counts = candidates["checkpoints"].tolist() if "checkpoints" in candidates else [None] * len(N)
        informations = []
        for run_N, end, count in zip(N, D, counts, strict=True):
            exposures = _exposures(theory.fit, end, count)
            informations.append(theory.of_run(np.full(len(exposures), run_N), exposures))
        goal = Goal.of(theory, target, size, exposure)
        return cls(candidates, cost.flops_per_unit(N) * D, np.stack(informations), goal)

    def judged(self, known: NDArray, added: int) -> pd.DataFrame:
        """Candidates with what each would do, `added` runs after the fitted ones and with the information `known`."""
        now_on_scale, now = self.goal.half_widths(known, added)
        after_on_scale, after = self.goal.half_widths(known + self.informations, added + 1)
        shrinkage = 1 - after_on_scale / now_on_scale
        columns = (self.flops, now, after, now_on_scale, after_on_scale, shrinkage, shrinkage / self.flops)
        return self.candidates.assign(**dict(zip(RUN_COLUMNS, columns, strict=True)))


def _possible_exposures(fit: Fit, end: float) -> NDArray:
    """The fitted design's exposures short of `end`, then `end`; alone where no fitted run has two rows."""
    fitted = np.unique(fit.data["D"]) if fit.rows > fit.runs else np.array([])
    return np.r_[fitted[fitted < end * (1 - SAME_EXPOSURE)], end]


def _exposures(fit: Fit, end: float, count: float | None) -> NDArray:
    """Exposures (count,) of a run's checkpoints, spread evenly over the possible ones with `end` as the last."""
    possible = _possible_exposures(fit, end)
    if count is None:
        return possible
    if not (1 <= count <= len(possible) and float(count).is_integer()):
        raise ValueError(f"checkpoints is {count} at exposure {end:g}; give a whole number from 1 to {len(possible)}")
    indices = np.linspace(len(possible) - 1, 0, int(count)).round().astype(int)
    return possible[indices[::-1]]


def _check_rows(theory: Theory, name: str, rows: pd.DataFrame, size: str, exposure: str) -> None:
    """Raise ValueError where rows are missing or the law cannot speak of their sizes and exposures."""
    if rows.empty:
        raise ValueError(f"{name} has no rows; give at least one run")
    for axis, column in (("N", size), ("D", exposure)):
        if column not in rows:
            raise ValueError(f"column {column!r} is missing from {name}; add it, or name the one to use")
        values = rows[column].to_numpy(float)
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            raise ValueError(f"{column} is {values[wrong][0]} in {name}; give positive finite numbers")
        fitted = theory.fit.data[axis].to_numpy(float)
        strange = ~np.isclose(values[:, None], fitted, rtol=SAME_EXPOSURE).any(1)
        if axis not in theory.fit.law.axes and strange.any():
            law = theory.fit.law.name
            raise ValueError(f"{column} is {values[strange][0]:g} in {name}, which a {law} law was not fitted at")


def _ladder(sizes: pd.DataFrame | pd.Series, size: str) -> pd.Series:
    """Sizes by rung, each once, from the smallest."""
    if isinstance(sizes, pd.DataFrame):
        if size not in sizes:
            raise ValueError(f"column {size!r} is missing from sizes; add it, or name the one to use")
        names = sizes["rung"] if "rung" in sizes else sizes[size].map("{:g}".format)
        sizes = pd.Series(sizes[size].to_numpy(float), names)
    if sizes.empty:
        raise ValueError("sizes has no rows; give at least one rung")
    return sizes.astype(float).drop_duplicates().sort_values()
