"""The forecast under every reasonable analysis choice: does the conclusion depend on the analyst?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.parallel import each
from rankscale_utils.measurements.table import headline
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .compute import training_costs
from .design import design_of_series, held_out_design
from .fit import Fitted, fitted_rows, joint_of, known_of, of_headline_test, series_of
from .results import read_table, write_table

AS_SEALED = "as sealed"
DRAWS = 300  # of a law in each universe


@dataclass(frozen=True)
class Universe:
    """One analysis: the study with other settings, forms to average (none named: all), and what else is different."""

    choice: str
    option: str
    study: Study
    forms: tuple[str, ...] = ()
    without_smallest: bool = False
    scale: str | None = None


def universes(study: Study, fitted: Sequence[Fitted]) -> Iterator[Universe]:
    """Yield the study's own analysis, then every one that differs from it in one choice."""
    settings = study.forecasting

    def other(**changes: object) -> Study:
        return study.model_copy(update={"forecasting": settings.model_copy(update=changes)})

    yield Universe(AS_SEALED, "average", study)
    for form in fitted[0].average.posteriors:
        yield Universe("form", form, study, (form,))
    yield Universe("noise even on", "value", study, scale="value")
    yield Universe("prior", "next to nothing", other(prior=settings.prior.model_copy(update={"wide": True})))
    for size in ("params", "flops_per_pair"):
        yield Universe("N", size.replace("_", " "), other(size=size))
    for exposure in ("queries", "tokens"):
        yield Universe("D", exposure, other(exposure=exposure))
    for burn_in in (0.0, 0.2, 0.3):
        if burn_in != settings.burn_in:
            yield Universe("burn-in", f"{burn_in:.0%}", other(burn_in=burn_in))
    if settings.checkpoints > 1:
        yield Universe("no averaging", "each checkpoint", other(checkpoints=1))
    yield Universe("smallest rung", "left out", study, without_smallest=True)


def forecast_universes(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Forecast the largest held-out rung's headline metric, on the headline test, in every universe.

    Held-out files are not opened. Writes `multiverse.csv` and returns it, a row for each universe and objective, none
    where no series was fitted: columns objective, metric, rung, choice, option, forecast and exponent (of the optimal
    exposure in compute, by the law of most weight that has an optimum; it is the same whatever N counts). Universes
    that need a column which the measurements lack, or more rungs than there are, have no rows.
    """
    shown = []
    if fitted:
        metric = headline(study, fitted_rows(fitted))
        shown = [one for one in of_headline_test(fitted, study.forecasting) if one.metric == metric]
    found = each(partial(_forecasts, fitted=shown), [*universes(study, shown)] if shown else [])
    table = pd.DataFrame([row for rows in found for row in rows])
    write_table(paths.multiverse_file(study.folder), table)
    return table


def read_universes(study: Study) -> pd.DataFrame:
    """Return what `forecast_universes` wrote."""
    return read_table(paths.multiverse_file(study.folder))


def _forecasts(universe: Universe, fitted: Sequence[Fitted]) -> list[dict]:
    """Return a universe's rows; none where the study has not what it needs."""
    try:
        return _forecasts_of(universe, fitted)
    except (StudyError, ValueError):
        return []


def _forecasts_of(universe: Universe, fitted: Sequence[Fitted]) -> list[dict]:
    study = universe.study
    if universe.choice == AS_SEALED:
        averages = [one.average for one in fitted]
    else:
        all_series = [_series(universe, one) for one in fitted]
        known = known_of(study.forecasting, pd.concat([one.table for one in all_series]))
        averages = laws.averages(all_series, known, DRAWS, universe.forms)
    design = held_out_design(
        study, [replace(one, average=average) for one, average in zip(fitted, averages, strict=True)]
    )
    seen = pd.concat([average.series.table for average in averages])
    costs, rows = training_costs(seen, study.allocation.tokens_per_pair)[0], []
    for one, average in zip(fitted, averages, strict=True):
        at = design_of_series(one, design).sort_values("N").iloc[[-1]]
        made, joint, exponent = average.forecast(at, study.forecasting.level), joint_of(average), float("nan")
        if joint is not None:
            alpha, beta = (joint.fit.coefficients[name] for name in ("alpha", "beta"))
            exponent = alpha / (alpha + beta * costs[one.objective].growth)
        labels = {"objective": one.objective, "metric": one.metric, "rung": at["rung"].iloc[0]}
        labels |= {"choice": universe.choice, "option": universe.option}
        rows.append(labels | {"forecast": float(made["forecast"].iloc[0]), "exponent": exponent})
    return rows


def _series(universe: Universe, one: Fitted) -> laws.Series:
    raw = one.raw
    if universe.without_smallest:
        raw = raw[raw["params"] > raw["params"].min()]
    series = series_of(raw, universe.study.forecasting)
    scale = universe.scale if universe.scale and series.rising else one.average.series.scale
    return replace(series, scale=scale)
