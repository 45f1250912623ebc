"""Candidate laws of one series, and the ladder's own past that chooses between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import fitting, refitting
from .fitting import DISTINCT_NEEDED, Fit
from .forms import Law, joint_law, kaplan_law, size_law
from .pooling import Grid, Prior, pool, refit_pooled, seeds, squares_fit
from .refitting import DRAWN
from .resampling import Draws, degrees_of_freedom, noise_sds, wild_targets
from .rows import measurements
from .scales import Scale, from_scale, to_scale
from .two_step import TwoStepLaw, link, refit_two_step

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
        return [fitting.fit(law, table, scale=law.scale, **axes) for law, table in zip(laws, tables, strict=True)]

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
            refitting.refit(one, one.law.from_scale(number), start=start, patience=DRAWN)
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
        known = [one for one in all_series if sizes_below(one, sizes[fitted]) >= 2]
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


def sizes_below(one: Series, N: float) -> int:
    """Return how many sizes of a series are smaller than N."""
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
