"""Which law? Candidates are judged by the fitted rungs' own past, and those that it cannot tell apart are averaged."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .fitting import DISTINCT_NEEDED, Fit, fit
from .forecasting import KINDS, of_largest, standard_errors
from .forms import Law, joint_law, kaplan_law, size_law
from .pooling import Grid, Prior, pool, refit_pooled, seeds, squares_fit
from .refitting import DRAWN, refit
from .resampling import Draws, degrees_of_freedom, noise_sds, spare_runs, t_quantile, wild_targets
from .scales import Scale, from_scale, to_scale
from .table import measurements
from .two_step import TwoStepLaw, link, refit_two_step

DRAWS_EACH = 29  # resamples of a simulated study: enough for a standard deviation
FORMS = {"size": size_law, "joint": joint_law, "Kaplan": kaplan_law}


@dataclass(frozen=True)
class Series:
    """One objective, metric and collection: its labels, its rows (run, rung, N, D, value) and what its metric can be.

    scale: where its noise is even, and where all candidates are fitted and averaged.
    """

    labels: dict[str, str]
    table: pd.DataFrame
    rising: bool
    limits: tuple[float, float]
    scale: Scale = "gap"

    @cached_property
    def end(self) -> pd.DataFrame:
        """The rows at the largest exposure that every rung has; where they share none, the last one of each run."""
        shared = set.intersection(*(set(rows) for _, rows in self.table.groupby("N")["D"]))
        if shared:
            return self.table[self.table["D"] == max(shared)]
        return self.table.loc[self.table.groupby("run")["D"].idxmax()]

    def below(self, N: float) -> "Series":
        """The series without the sizes from N on."""
        return Series(self.labels, self.table[self.table["N"] < N], self.rising, self.limits, self.scale)

    def on_scale(self, values: NDArray) -> NDArray:
        """Values on the series' scale."""
        return to_scale(self.scale, values, self.rising, self.limits)

    def off_scale(self, numbers: NDArray) -> NDArray:
        """Values from numbers on the series' scale."""
        return from_scale(self.scale, numbers, self.rising, self.limits)


@dataclass(frozen=True)
class Candidate:
    """A form, its exponents either pooled over all series (see `pooling`) or left to each series alone."""

    form: str
    pooled: bool

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.form}, {'pooled' if self.pooled else 'alone'}"

    @classmethod
    def named(cls, name: str) -> "Candidate":
        """The candidate that tables call so."""
        form, exponents = name.split(", ")
        return cls(form, exponents == "pooled")

    def law(self, series: Series) -> Law:
        """The form with a series' own limits."""
        return FORMS[self.form](series.rising, series.limits, series.scale)

    def rows(self, series: Series) -> pd.DataFrame:
        """The rows of a series that the form is fitted to."""
        return series.end if self.form == "size" else series.table

    def fit(self, all_series: Sequence[Series], prior: Prior) -> list[Fit]:
        """Fit every series; returns a Fit for each."""
        if self.form == "two-step":
            return _two_step(all_series, prior)
        laws, tables = [self.law(one) for one in all_series], [self.rows(one) for one in all_series]
        if self.pooled:
            return pool(laws, tables, prior, size="N", exposure="D")
        axes = {"size": "N", "exposure": "D"}
        return [fit(law, table, scale=law.scale, **axes) for law, table in zip(laws, tables, strict=True)]

    def refit(
        self,
        fits: Sequence[Fit],
        numbers: Sequence[NDArray],
        prior: Prior,
        starts: Sequence[NDArray] | None = None,
        seed: int | None = None,
    ) -> list[NDArray]:
        """Each series' coefficients (B, k) for other numbers (B, rows) on the laws' scale; seed: see `refit_pooled`."""
        if self.form == "two-step":
            return refit_two_step(fits, numbers, prior, seed)
        if self.pooled:
            return refit_pooled([Grid.of(one.law, one.data) for one in fits], numbers, prior, seed)
        starts = starts or [None] * len(fits)
        return [
            refit(one, one.law.from_scale(number), start=start, patience=DRAWN)
            for one, number, start in zip(fits, numbers, starts, strict=True)
        ]

    def resample(self, fits: Sequence[Fit], prior: Prior, draws: int, seed: int = 0) -> list[Draws]:
        """Wild cluster bootstrap of every fit (see `resample`), a run moving together in all its series."""
        numbers = []
        for one, number_seed in zip(fits, seeds(fits, seed), strict=True):
            centre = one.predict(one.data["N"], one.data["D"])
            numbers.append(one.law.to_scale(wild_targets(one, one.residuals, centre, draws, number_seed)))
        return [
            Draws(one, found, degrees_of_freedom(one), *(float(sd) for sd in noise_sds(one, one.residuals)))
            for one, found in zip(fits, self.refit(fits, numbers, prior, seed=seed), strict=True)
        ]


def _two_step(all_series: Sequence[Series], prior: Prior) -> list[Fit]:
    """Entropies by the pooled joint law, every other metric through the entropy of the same runs."""
    joint = Candidate("joint", pooled=True)
    places = [place for place, one in enumerate(all_series) if not one.rising]
    found = dict(zip(places, joint.fit([all_series[place] for place in places], prior), strict=True))
    fits: list[Fit] = []
    for place, one in enumerate(all_series):
        if place in found:
            fits.append(found[place])
            continue
        partner = found[_partner(one, all_series)]
        data = measurements(one.table, "N", "D")
        law = TwoStepLaw(("N", "D"), one.rising, one.limits, one.scale, partner.law)
        numbers = to_scale("gap", data["value"].to_numpy(float), one.rising, one.limits)
        log_entropy = partner.law.to_scale(partner.data["value"].to_numpy(float), "gap")
        coefficients = np.concatenate([link(numbers[None], log_entropy[None])[0], partner.vector])
        fits.append(squares_fit(law, data, coefficients, partner.status))
    return fits


def _partner(one: Series, all_series: Sequence[Series]) -> int | None:
    """The place of the entropy that was measured on the same runs at the same exposures."""
    rows = one.table[["run", "D"]].round({"D": 6}).reset_index(drop=True)
    for place, other in enumerate(all_series):
        theirs = other.table[["run", "D"]].round({"D": 6}).reset_index(drop=True)
        if not other.rising and other.labels.get("collection") == one.labels.get("collection") and rows.equals(theirs):
            return place
    return None


def candidates(all_series: Sequence[Series]) -> list[Candidate]:
    """All candidates that the series allow.

    Laws of exposure need three exposures; two steps need, on the gap's scale, an entropy beside every other metric.
    """
    if min(one.table["D"].nunique() for one in all_series) < DISTINCT_NEEDED:
        return [Candidate("size", True), Candidate("size", False)]
    both = any(one.rising for one in all_series) and all(
        one.scale == "gap" and (not one.rising or _partner(one, all_series) is not None) for one in all_series
    )
    two_step = [Candidate("two-step", True)] if both else []
    return [*(Candidate(form, True) for form in FORMS), *two_step, *(Candidate(form, False) for form in FORMS)]


def expanding(all_series: Sequence[Series], tried: Sequence[Candidate], prior: Prior) -> pd.DataFrame:
    """Forecast every rung from the two or more smaller ones with every candidate.

    Returns columns candidate, the series' labels, rung, rungs_fitted, forecast, actual, no_change and error, relative
    to the actual value. A candidate that so few rungs cannot fit (an exponent alone needs three) forecasts no change.
    """
    sizes = np.unique(np.concatenate([one.table["N"] for one in all_series]))
    rows = []
    for fitted in range(2, len(sizes)):
        known = [one for one in all_series if _sizes_below(one, sizes[fitted]) >= 2]
        for candidate in tried if known else []:
            smaller = [one.below(sizes[fitted]) for one in known]
            possible = candidate.pooled or min(one.table["N"].nunique() for one in smaller) >= DISTINCT_NEEDED
            fits = candidate.fit(smaller, prior) if possible else [None] * len(smaller)
            for one, past, found in zip(known, smaller, fits, strict=True):
                following = one.end[one.end["N"] == sizes[fitted]]
                if following.empty:
                    continue
                D, actual = following["D"].mean(), following["value"].mean()
                no_change = past.end.loc[past.end["N"] == past.end["N"].max(), "value"].mean()
                forecast = no_change if found is None else found.predict(sizes[fitted], D)[0]
                rows.append({"candidate": candidate.name} | one.labels | {
                    "rung": following["rung"].iloc[0], "rungs_fitted": fitted, "forecast": forecast, "actual": actual,
                    "no_change": no_change, "error": (forecast - actual) / actual})  # fmt: skip
    return pd.DataFrame(rows)


def _sizes_below(one: Series, N: float) -> int:
    return one.table.loc[one.table["N"] < N, "N"].nunique()


def choose(past: pd.DataFrame) -> pd.DataFrame:
    """Judge candidates by their past: a row each, best first, with columns candidate, loss, behind, doubt and kept.

    loss: mean absolute relative error, the metrics of one objective and rung counting as one observation, since they
    are measured on the same runs. kept: behind the best by no more than one standard error of the difference (`doubt`;
    Breiman et al., Classification and Regression Trees, 1984, section 3.4.3); all are kept where there is no second
    observation to tell.
    """
    observed = past.assign(error=past["error"].abs())
    observed = observed.groupby(["objective", "rungs_fitted", "candidate"], sort=False)["error"].mean().unstack()
    losses = observed.mean().sort_values(kind="stable")
    behind = observed.sub(observed[losses.index[0]], axis=0)
    doubt = behind.std(ddof=1) / np.sqrt(len(observed))
    table = pd.DataFrame({"loss": losses, "behind": behind.mean(), "doubt": doubt}).loc[losses.index]
    kept = table["doubt"].isna() | (table["behind"] <= table["doubt"])
    table = table.assign(kept=kept, observations=len(observed))
    return table.rename_axis("candidate").reset_index()


@dataclass(frozen=True)
class Average:
    """The laws of one series that were kept, resampled; their forecasts are averaged with equal weights."""

    series: Series
    laws: dict[str, Draws]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the law that has fewest."""
        return min(draws.degrees for draws in self.laws.values())

    @property
    def identified(self) -> bool:
        """Whether some law does not simply pass through every run."""
        return any(spare_runs(draws.fit) > 0 for draws in self.laws.values())

    def forecast(self, at: pd.DataFrame, level: float = 0.95, reach: Sequence[float] | None = None) -> pd.DataFrame:
        """Forecast at the rows' N and D; returns two rows for each, as `laws.forecast` does, of the law "average".

        reach: standard errors to each side, one for each kind (None: Student's t at the fewest degrees of freedom).
        The variance of the law's mean is the mean of the laws' own variances plus that of their forecasts; a new run
        adds the mean of the laws' noise. Source: Hoeting et al., Statistical Science 14 (1999), eq. 3.
        """
        N, D = at["N"].to_numpy(float), at["D"].to_numpy(float)
        reach = reach if reach is not None else [t_quantile(level, self.degrees)] * len(KINDS)
        centres = np.stack([self.series.on_scale(draws.fit.predict(N, D)) for draws in self.laws.values()])
        errors = [standard_errors(d.fit, d.predict(N, D), d.between_sd, d.within_sd) for d in self.laws.values()]
        unchanged = of_largest(next(iter(self.laws.values())).fit, D)
        tables, half = [], np.zeros(len(N))
        for place, kind in enumerate(KINDS):
            centre, sd = combined(centres, np.stack([kinds[place] for kinds in errors]))
            half = np.maximum(half, reach[place] * sd)  # a new run is never surer than the law's mean
            ends = [self.series.off_scale(centre + side * half) for side in (-1, 1)]
            lo, hi = ends if self.identified else [np.full_like(centre, limit) for limit in self.series.limits]
            table = at.assign(forecast=self.series.off_scale(centre), lo=lo, hi=hi, level=level, kind=kind)
            table[["lo", "hi"]] = table[["lo", "hi"]].clip(*self.series.limits)
            tables.append(table.assign(law="average", status=" + ".join(self.laws), persistence=unchanged))
        return pd.concat(tables, ignore_index=True)


def combined(centres: NDArray, sds: NDArray) -> tuple[NDArray, NDArray]:
    """Average and standard error (..., n) of the laws' centres and standard errors (laws, ..., n)."""
    return centres.mean(0), np.sqrt((sds**2).mean(0) + centres.var(0))


def averages(
    all_series: Sequence[Series], kept: Sequence[Candidate], prior: Prior, draws: int, seed: int = 0
) -> list[Average]:
    """Fit and resample the kept candidates; returns an Average for each series."""
    found = {one.name: one.resample(one.fit(all_series, prior), prior, draws, seed) for one in kept}
    return [Average(one, {name: draws[place] for name, draws in found.items()}) for place, one in enumerate(all_series)]


@dataclass(frozen=True)
class Calibration:
    """How far an interval must reach, found in simulated studies, and how often it then held the truth in others.

    reach: standard errors to each side; coverage: by series and kind, (series, kinds); simulations: of the coverage.
    """

    reach: tuple[float, ...]
    coverage: NDArray
    simulations: int


def calibrated(
    found: Sequence[Average],
    ats: Sequence[pd.DataFrame],
    kept: Sequence[Candidate],
    prior: Prior,
    *,
    level: float = 0.95,
    simulations: int = 200,
    seed: int = 0,
) -> Calibration:
    """Reach of the average's intervals on this very design, with the noise found in it: a parametric bootstrap-t.

    Each kept law in turn (of those that know exposure, if any does) is the truth of an equal share of the simulated
    studies, its coefficients one of its resamples; runs and checkpoints get the noise that it found, that between runs
    drawn anew, and metrics of the same runs the same draws of it. All kept laws are fitted, pooled, resampled and
    averaged as in the study. One half of the studies says how many standard errors hold the truth with the wanted
    level, the other half how often that many do. Simulation knows the noise that it makes, so the reach is never less
    than Student's t at the degrees of freedom of all independent runs. Which laws are kept is taken as known.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 12.5.
    """
    truths = [place for place, one in enumerate(kept) if one.form != "size"] or [*range(len(kept))]
    each = max(-(-simulations // (2 * len(truths))), 1)
    work = partial(_simulate, found=found, kept=kept, ats=ats, prior=prior, simulations=2 * each, seed=seed)
    pivots = list(_processes().map(work, truths))
    reach, held = [], []
    for place in range(len(KINDS)):
        first, second = (
            [np.concatenate([truth[series][place][half] for truth in pivots]) for series in range(len(found))]
            for half in (slice(each), slice(each, None))
        )
        simulated = np.quantile(np.concatenate([rows.ravel() for rows in first]), level)
        reach.append(max(float(simulated), t_quantile(level, _degrees_of_all(found))))
        held.append([(rows <= reach[-1]).mean() for rows in second])
    return Calibration(tuple(reach), np.array(held).T, each * len(truths))


@cache
def _processes() -> ProcessPoolExecutor:
    """Processes that stay for the next simulation, as starting them takes seconds."""
    return ProcessPoolExecutor(mp_context=get_context("spawn"))  # a kernel has threads; forking breaks them


def _degrees_of_all(found: Sequence[Average]) -> int:
    """Degrees of freedom of all independent runs together; series of the same runs count once."""
    by_runs: dict[tuple[str, ...], int] = {}
    for average in found:
        runs = tuple(sorted(average.series.table["run"].unique()))
        by_runs[runs] = min(by_runs.get(runs, average.degrees), average.degrees)
    return sum(by_runs.values())


def expanding_intervals(
    all_series: Sequence[Series],
    kept: Sequence[Candidate],
    prior: Prior,
    level: float,
    draws: int,
    simulations: int,
) -> pd.DataFrame:
    """The average's own past: every rung forecast from the three or more smaller ones, with calibrated intervals.

    Returns the rows of `Average.forecast` with the series' labels, rung, rungs_fitted, actual, error and covered.
    """
    sizes = np.unique(np.concatenate([one.table["N"] for one in all_series]))
    tables = []
    for fitted in range(DISTINCT_NEEDED, len(sizes)):
        nexts = [one.end[one.end["N"] == sizes[fitted]] for one in all_series]
        enough = [_sizes_below(one, sizes[fitted]) >= DISTINCT_NEEDED for one in all_series]
        measured = [place for place, rows in enumerate(nexts) if len(rows) and enough[place]]
        if not measured:
            continue
        found = averages([all_series[place].below(sizes[fitted]) for place in measured], kept, prior, draws)
        ats = [nexts[place][["rung", "N", "D"]].drop_duplicates() for place in measured]
        reach = calibrated(found, ats, kept, prior, level=level, simulations=simulations).reach
        for average, at, place in zip(found, ats, measured, strict=True):
            made = average.forecast(at.assign(**average.series.labels, rungs_fitted=fitted), level, reach)
            actual = nexts[place]["value"].mean()
            inside = (made["lo"] <= actual) & (actual <= made["hi"])
            tables.append(made.assign(actual=actual, error=made["forecast"] - actual, covered=inside))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _simulate(
    truth: int,
    found: Sequence[Average],
    kept: Sequence[Candidate],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    simulations: int,
    seed: int,
) -> list[list[NDArray]]:
    """Errors in standard errors, of each series and kind (simulations, n), with the kept law of this place as truth."""
    true = [average.laws[kept[truth].name] for average in found]
    rngs = [np.random.default_rng([*number, truth]) for number in seeds([draws.fit for draws in true], seed)]
    drawn = np.random.default_rng([seed, truth]).integers(len(true[0].coefficients), size=simulations)
    values, truths = [], []
    for average, draws, at, rng in zip(found, true, ats, rngs, strict=True):
        table = average.series.table
        runs, names = pd.factorize(table["run"])
        laws = draws.coefficients[drawn]
        mean = average.series.on_scale(draws.fit.law.predict(laws, table["N"], table["D"]))
        between = _noise_between(draws, len(table) / len(names), simulations, rng)
        shift = (rng.normal(size=(simulations, len(names))) * between)[:, runs]
        noisy = mean + shift + rng.normal(size=(simulations, len(table)), scale=draws.within_sd)
        values.append(average.series.off_scale(noisy))
        expected = average.series.on_scale(draws.fit.law.predict(laws, at["N"], at["D"]))
        noise = rng.normal(size=(simulations, len(at))) * np.hypot(between, draws.within_sd)
        truths.append((expected, expected + noise))
    parts = [_refitted(one, found, values, ats, prior, seed) for one in kept]
    pivots = []
    for place, numbers in enumerate(truths):
        centres = np.stack([part[place][0] for part in parts])  # (laws, simulations, n)
        mine = []
        for kind, number in enumerate(numbers):
            centre, sd = combined(centres, np.stack([part[place][1][kind] for part in parts]))
            mine.append(np.abs(number - centre) / np.maximum(sd, 1e-300))
        pivots.append(mine)
    return pivots


def _noise_between(draws: Draws, rows: float, simulations: int, rng: np.random.Generator) -> NDArray:
    """Standard deviation between runs (simulations, 1), drawn anew for each: so few runs hardly tell it.

    The mean square of runs, n·between² + within², is the found one over χ²/degrees (Gelman et al., Bayesian Data
    Analysis, 2013, section 3.2).
    """
    found = rows * draws.between_sd**2 + draws.within_sd**2
    square = found * draws.degrees / rng.chisquare(draws.degrees, size=(simulations, 1))
    return np.sqrt(np.maximum(square - draws.within_sd**2, 0.0) / rows)


def _refitted(
    candidate: Candidate,
    found: Sequence[Average],
    values: Sequence[NDArray],
    ats: Sequence[pd.DataFrame],
    prior: Prior,
    seed: int,
) -> list[tuple[NDArray, tuple[NDArray, NDArray]]]:
    """Each series' centres (simulations, n) and standard errors, one for each kind, of a law refitted to values."""
    fits = [average.laws[candidate.name].fit for average in found]
    if candidate.form == "size":
        ends = [one.series.table.index.get_indexer(one.series.end.index) for one in found]
        values = [value[:, end] for value, end in zip(values, ends, strict=True)]
    numbers = [law.law.to_scale(value) for law, value in zip(fits, values, strict=True)]
    centres = candidate.refit(fits, numbers, prior)
    targets, residuals = [], []
    for one, number, mine, number_seed in zip(fits, numbers, centres, seeds(fits, seed + 1), strict=True):
        fitted = one.law.predict(mine, one.data["N"], one.data["D"])
        residuals.append(number - one.law.to_scale(fitted))
        wild = wild_targets(one, residuals[-1], fitted, DRAWS_EACH, number_seed)
        targets.append(one.law.to_scale(wild.reshape(-1, one.rows)))
    starts = [np.repeat(mine, DRAWS_EACH, axis=0) for mine in centres]
    drawn = candidate.refit(fits, targets, prior, starts, seed + 1)
    parts = []
    for one, mine, left, each, at in zip(fits, centres, residuals, drawn, ats, strict=True):
        N, D = at["N"].to_numpy(float), at["D"].to_numpy(float)
        predictions = one.law.predict(each, N, D).reshape(len(mine), DRAWS_EACH, len(N))
        between, within = (sd[:, None] for sd in noise_sds(one, left))
        errors = standard_errors(one, predictions, between, within)
        parts.append((one.law.predict(mine, N, D, scale=one.law.scale), errors))
    return parts
