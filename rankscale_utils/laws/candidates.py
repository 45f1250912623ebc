"""Candidate laws of one series, and the ladder's own past that chooses between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import fitting, refitting
from .fitting import DISTINCT_NEEDED, Fit
from .forms import joint_law, kaplan_law, size_law
from .law import Law
from .pooling import Grid, Prior, pool, refit_pooled, seeds
from .refitting import DRAWN
from .resampling import Draws, degrees_of_freedom, noise_sds, wild_targets
from .series import Series
from .two_step import fit_two_step, refit_two_step

FORMS = {"size": size_law, "joint": joint_law, "Kaplan": kaplan_law}


@dataclass(frozen=True)
class Candidate:
    """A form, its exponents either pooled over all series (see `pooling`) or left to each series alone."""

    form: str
    pooled: bool

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.form}, {'pooled' if self.pooled else 'alone'}"

    def law(self, series: Series) -> Law:
        """The form with a series' own limits."""
        return FORMS[self.form](series.rising, series.limits, series.scale)

    def rows(self, series: Series) -> pd.DataFrame:
        """The rows of a series that the form is fitted to."""
        return series.end if self.form == "size" else series.table

    def fit(self, all_series: Sequence[Series], prior: Prior) -> list[Fit]:
        """Fit every series; returns a Fit for each."""
        if self.form == "two-step":
            return fit_two_step(all_series, prior)
        laws, tables = [self.law(series) for series in all_series], [self.rows(series) for series in all_series]
        axes = {"size": "N", "exposure": "D"}
        if self.pooled:
            return pool(laws, tables, prior, **axes)
        return [fitting.fit(law, table, scale=law.scale, **axes) for law, table in zip(laws, tables, strict=True)]

    def refit(
        self,
        fits: Sequence[Fit],
        numbers: Sequence[NDArray],
        prior: Prior,
        starts: Sequence[NDArray] | None = None,
        seed: int | None = None,
    ) -> list[NDArray]:
        """Each series' natural coefficients (B, k) for other numbers (B, rows), which are on the fits' scale.

        starts: natural coefficients (B, k) to start from (None: the fits'). seed: as in `refit_pooled`.
        """
        if self.form == "two-step":
            return refit_two_step(fits, numbers, prior, seed)
        if self.pooled:
            return refit_pooled([Grid.of(fit.law, fit.data) for fit in fits], numbers, prior, seed)
        starts = starts or [None] * len(fits)
        return [
            refitting.refit(fit, fit.law.from_scale(rows, fit.scale), start=start, patience=DRAWN)
            for fit, rows, start in zip(fits, numbers, starts, strict=True)
        ]

    def resample(self, fits: Sequence[Fit], prior: Prior, draws: int, seed: int = 0) -> list[Draws]:
        """Wild cluster bootstrap of every fit (see `resample`), a run moving together in all its series."""
        numbers = []
        for fit, runs_seed in zip(fits, seeds(fits, seed), strict=True):
            centre = fit.predict(fit.data["N"], fit.data["D"])
            numbers.append(fit.law.to_scale(wild_targets(fit, fit.residuals, centre, draws, runs_seed)))
        refitted = self.refit(fits, numbers, prior, seed=seed)
        return [
            Draws(fit, coefficients, degrees_of_freedom(fit), *(float(sd) for sd in noise_sds(fit, fit.residuals)))
            for fit, coefficients in zip(fits, refitted, strict=True)
        ]


def candidates(all_series: Sequence[Series]) -> list[Candidate]:
    """All candidates that the series allow.

    Laws of exposure need three exposures; two steps need, on the gap's scale, an entropy beside every other metric.
    """
    if min(series.table["D"].nunique() for series in all_series) < DISTINCT_NEEDED:
        return [Candidate("size", True), Candidate("size", False)]
    both = any(series.rising for series in all_series) and all(
        series.scale == "gap" and (not series.rising or series.entropy_among(all_series) is not None)
        for series in all_series
    )
    two_step = [Candidate("two-step", True)] if both else []
    return [*(Candidate(form, True) for form in FORMS), *two_step, *(Candidate(form, False) for form in FORMS)]


def expanding(all_series: Sequence[Series], tried: Sequence[Candidate], prior: Prior) -> pd.DataFrame:
    """Forecast every rung from the two or more smaller ones with every candidate.

    Returns columns candidate, the series' labels, rung, rungs_fitted, forecast, actual, no_change and error, relative
    to the actual value. A candidate that so few rungs cannot fit (an exponent alone needs three) forecasts no change.
    """
    sizes = np.unique(np.concatenate([series.table["N"] for series in all_series]))
    rows = []
    for fitted in range(2, len(sizes)):
        known = [series for series in all_series if series.sizes_below(sizes[fitted]) >= 2]
        past = [series.below(sizes[fitted]) for series in known]
        for candidate in tried if known else []:
            possible = candidate.pooled or min(series.table["N"].nunique() for series in past) >= DISTINCT_NEEDED
            fits = candidate.fit(past, prior) if possible else [None] * len(past)
            for series, smaller, fit in zip(known, past, fits, strict=True):
                following = series.end[series.end["N"] == sizes[fitted]]
                if len(following):
                    row = {"candidate": candidate.name} | series.labels
                    rows.append(row | _next_rung(following, fitted, smaller, fit))
    return pd.DataFrame(rows)


def _next_rung(following: pd.DataFrame, fitted: int, smaller: Series, fit: Fit | None) -> dict[str, str | float]:
    """What was forecast of the next rung's rows, from the series of the smaller ones, and what came."""
    actual = following["value"].mean()
    no_change = smaller.end.loc[smaller.end["N"] == smaller.end["N"].max(), "value"].mean()
    forecast = no_change if fit is None else fit.predict(following["N"].iloc[0], following["D"].mean())[0]
    return {
        "rung": following["rung"].iloc[0],
        "rungs_fitted": fitted,
        "forecast": forecast,
        "actual": actual,
        "no_change": no_change,
        "error": (forecast - actual) / actual,
    }


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


def kept_of(tried: Sequence[Candidate], choice: pd.DataFrame) -> tuple[Candidate, ...]:
    """The candidates that were kept, best first, of those tried; choice: as `choose` returns it."""
    by_name = {candidate.name: candidate for candidate in tried}
    return tuple(by_name[name] for name in choice.loc[choice["kept"], "candidate"])
