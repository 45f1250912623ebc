"""What to train next: which further runs narrow a forecast most for their FLOPs.

Linear theory at the fitted coefficients, on the scale of the fit's residuals (the law's own, where a fit is pooled). A
run whose checkpoints have the Jacobian J (n, k) and the covariance Σ = within²·I + between²·11ᵀ adds the information
Jᵀ Σ⁻¹ J. The law's variance at a target with the derivatives g is gᵀ I⁻¹ g, to which a new run adds between² + within²;
the half width is Student's t times the root of that, and each added run brings one more degree of freedom.
Choosing runs by that variance is c-optimal design: Atkinson, Donev and Tobias, Optimum Experimental Designs (2007),
ch. 10; one run at a time is the sequential design of Wynn, Annals of Mathematical Statistics 41 (1970).

What it takes on trust: the law and its coefficients, noise that is the same at every size, and a fit that weighs its
rows by Σ. Where runs differ in their checkpoints plain least squares is a little less certain. It ranks runs; how wide
the interval is now, `forecast` says.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .cost import Cost
from .fitting import Fit, Problem
from .forecasting import interval
from .pooling import Prior
from .resampling import Draws, spare_runs, t_quantile

SMALLEST_NOISE = 0.1  # share of the residuals' rmse below which no noise is believed
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


def rank_runs(
    draws: Draws,
    cost: Cost,
    candidates: pd.DataFrame,
    target: pd.DataFrame,
    *,
    level: float = 0.95,
    prior: Prior | None = None,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Possible runs, the one that narrows the forecast most per FLOP first.

    candidates: a row for each possible run, with columns `size`, `exposure` (where it ends) and, if wanted,
    checkpoints: how many it leaves, spread over the fitted design's exposures up to its own, which is the last (all of
    them where the column is missing; one where no fitted run has two rows, as nothing then tells within-run noise);
    other columns are carried along. target: rows to forecast, with `size` and `exposure`. prior: of the size exponent,
    counted once; a pooled fit has one in any case (None: `Prior()`).

    Adds flops; half_width_now and half_width_after, of the new-run interval, mean over the target rows, in the
    metric's unit and within its limits, and the same _on_scale, on the fit's scale without limits; shrinkage, the share
    by which the latter falls; shrinkage_per_flop. Raises ValueError where there is nothing to choose from, nothing to
    judge noise by, or a number that no run can have.
    """
    theory = _Theory.of(draws, prior, level)
    _check_rows(theory, "target", target, size, exposure)
    flops, informations = _costs_and_informations(theory, cost, candidates, size, exposure)
    goal = _Goal.of(theory, target, size, exposure)
    table = _judged(candidates, flops, theory, goal, theory.information, informations, 0)
    return table.sort_values("shrinkage_per_flop", ascending=False, kind="stable", ignore_index=True)


def plan_runs(
    draws: Draws,
    cost: Cost,
    candidates: pd.DataFrame,
    target: pd.DataFrame,
    budget_flops: float,
    *,
    level: float = 0.95,
    prior: Prior | None = None,
    size: str = "params_non_embedding",
    exposure: str = "exposure",
) -> pd.DataFrame:
    """Runs to train in order: each time the affordable one that narrows the forecast most per FLOP.

    A candidate may come again (another seed). Ends when nothing affordable narrows the interval by 1% or more, so the
    budget need not be spent whole; greedy choices need not be the best set. Arguments, columns and errors as in
    `next_runs`, where _now is before the row's run and _after is with it; also cumulative_flops. Raises ValueError
    where the budget buys no candidate.
    """
    theory = _Theory.of(draws, prior, level)
    _check_rows(theory, "target", target, size, exposure)
    flops, informations = _costs_and_informations(theory, cost, candidates, size, exposure)
    if not budget_flops >= flops.min():
        raise ValueError(f"budget_flops is {budget_flops:g}; the cheapest candidate costs {flops.min():g}, give more")
    goal, known = _Goal.of(theory, target, size, exposure), theory.information
    left, steps = float(budget_flops), []
    while True:
        table = _judged(candidates.reset_index(drop=True), flops, theory, goal, known, informations, len(steps))
        worth = table[(table["flops"] <= left) & (table["shrinkage"] >= SMALLEST_SHRINKAGE)]
        if worth.empty:
            break
        best = worth["shrinkage_per_flop"].idxmax()
        steps.append(table.loc[[best]])
        left, known = left - flops[best], known + informations[best]
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
class _Theory:
    """A fit's linear theory, with its axes in units of the data's middle.

    between, within: standard deviations on the fit's scale, never quite zero.
    """

    fit: Fit
    between: float
    within: float
    degrees: int
    level: float
    prior: Prior | None

    @classmethod
    def of(cls, draws: Draws, prior: Prior | None, level: float) -> "_Theory":
        """The theory of a resampled fit; ValueError where its noise, its exponent or the level is unknown."""
        fit = draws.fit
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95")
        if spare_runs(fit) < 1:
            raise ValueError(f"the law passes through all {fit.runs} runs; train another rung or seed, or pool series")
        if prior is not None and "N" not in fit.law.axes:
            raise ValueError("a data law has no size exponent; leave the prior out")
        floor = max(SMALLEST_NOISE * fit.rmse, 1e-9 * Problem.of(fit.law, fit.data, fit.scale).spread)
        sds = (max(sd, floor) for sd in (draws.between_sd, draws.within_sd))
        return cls(fit, *sds, draws.degrees, level, (prior or Prior()) if fit.pooled else prior)

    @cached_property
    def problem(self) -> Problem:
        """The fit's units and bounds."""
        return Problem.of(self.fit.law, self.fit.data, self.fit.scale)

    def derivatives(self, N: NDArray, D: NDArray) -> NDArray:
        """Jacobian (n, k) on the fit's scale with respect to the working coefficients."""
        law, units = self.fit.law, dict(zip(self.fit.law.axes, self.problem.units, strict=True))
        coefficients = law.in_units(self.fit.vector, self.problem.units)
        return law.jacobian(coefficients, N / units.get("N", 1.0), D / units.get("D", 1.0), scale=self.fit.scale)

    def of_run(self, N: NDArray, D: NDArray) -> NDArray:
        """Information Jᵀ Σ⁻¹ J (k, k) of one run's n checkpoints.

        Sherman and Morrison's inverse of Σ, written as what checkpoints tell around the run's mean plus what that mean
        tells: both parts are sums of squares, so nothing cancels.
        """
        J, n = self.derivatives(N, D), len(D)
        mean = J.mean(0)
        around = J - mean
        return around.T @ around / self.within**2 + n * np.outer(mean, mean) / (self.within**2 + n * self.between**2)

    @cached_property
    def information(self) -> NDArray:
        """Information (k, k) of the fitted runs, the prior and the coefficients' bounds.

        A bound counts as the variance of a uniform distribution between the bounds: next to nothing, but a coefficient
        that the data say nothing about keeps a finite variance.
        """
        low, high = self.problem.bounds
        total = np.diag(12 / (high - low) ** 2)
        for _, run in self.fit.data.groupby("run"):
            total = total + self.of_run(run["N"].to_numpy(float), run["D"].to_numpy(float))
        if self.prior is not None:
            place = self.fit.law.coefficient_names.index("alpha")
            total[place, place] += 1 / (self.prior.sd**2 + self.prior.between**2)
        return total

    def variances(self, information: NDArray, g: NDArray) -> NDArray:
        """The law's variance gᵀ I⁻¹ g (..., targets) for information (..., k, k) and derivatives g (targets, k)."""
        size = 1 / np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))  # coefficients of very unlike size
        scaled = information * size[..., :, None] * size[..., None, :]
        scaled_g = g * size[..., None, :]
        solved = np.linalg.solve(scaled, np.swapaxes(scaled_g, -1, -2))
        return np.maximum(np.einsum("...tk,...kt->...t", scaled_g, solved), 0.0)


@dataclass(frozen=True)
class _Goal:
    """What is to be forecast: derivatives (targets, k) and forecasts (targets,) in the metric's unit."""

    theory: _Theory
    derivatives: NDArray
    centre: NDArray

    @classmethod
    def of(cls, theory: _Theory, target: pd.DataFrame, size: str, exposure: str) -> "_Goal":
        """The rows of `target`."""
        N, D = target[size].to_numpy(float), target[exposure].to_numpy(float)
        return cls(theory, theory.derivatives(N, D), theory.fit.predict(N, D))

    def half_widths(self, information: NDArray, added: int) -> tuple[NDArray, NDArray]:
        """Mean half width (...) of the new-run interval on the fit's scale and in the metric's unit.

        information: (..., k, k), with `added` more runs than were fitted.
        """
        theory = self.theory
        variance = theory.variances(information, self.derivatives) + theory.between**2 + theory.within**2
        sd, degrees = np.sqrt(variance), theory.degrees + added
        lo, hi = interval(theory.fit, self.centre, sd, theory.level, degrees)
        return t_quantile(theory.level, degrees) * sd.mean(-1), ((hi - lo) / 2).mean(-1)


def _judged(
    candidates: pd.DataFrame,
    flops: NDArray,
    theory: _Theory,
    goal: _Goal,
    known: NDArray,
    informations: NDArray,
    added: int,
) -> pd.DataFrame:
    """Candidates with what each would do, `added` runs after the fitted ones and with the information `known`."""
    now_on_scale, now = goal.half_widths(known, added)
    after_on_scale, after = goal.half_widths(known + informations, added + 1)
    shrinkage = 1 - after_on_scale / now_on_scale
    columns = (flops, now, after, now_on_scale, after_on_scale, shrinkage, shrinkage / flops)
    return candidates.assign(**dict(zip(RUN_COLUMNS, columns, strict=True)))


def _costs_and_informations(
    theory: _Theory, cost: Cost, candidates: pd.DataFrame, size: str, exposure: str
) -> tuple[NDArray, NDArray]:
    """FLOPs (candidates,) and information (candidates, k, k)."""
    _check_rows(theory, "candidates", candidates, size, exposure)
    N, D = candidates[size].to_numpy(float), candidates[exposure].to_numpy(float)
    counts = candidates["checkpoints"].tolist() if "checkpoints" in candidates else [None] * len(N)
    informations = []
    for one_N, end, count in zip(N, D, counts, strict=True):
        exposures = _exposures(theory.fit, end, count)
        informations.append(theory.of_run(np.full(len(exposures), one_N), exposures))
    return cost.flops_per_unit(N) * D, np.stack(informations)


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
    places = np.linspace(len(possible) - 1, 0, int(count)).round().astype(int)
    return possible[places[::-1]]


def _check_rows(theory: _Theory, name: str, rows: pd.DataFrame, size: str, exposure: str) -> None:
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
