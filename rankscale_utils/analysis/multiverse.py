"""The forecast under every reasonable analysis choice: does the conclusion depend on the analyst?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.table import headline
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .compute import training_cost
from .design import design_of_series, held_out_design
from .fit import NEEDED, Fitted, fitted_rows, prior_of, series_of
from .results import write_table


@dataclass(frozen=True)
class Universe:
    """One analysis: the study with other settings, candidates to average, and what else is different."""

    choice: str
    option: str
    study: Study
    kept: list[laws.Candidate]
    without_smallest: bool = False
    scale: str | None = None


def universes(study: Study, fitted: Sequence[Fitted]) -> Iterator[Universe]:
    """Yield the study's own analysis, then every one that differs from it in one choice."""
    kept, settings = fitted[0].kept, study.forecasting

    def other(**changes: object) -> Study:
        return study.model_copy(update={"forecasting": settings.model_copy(update=changes)})

    yield Universe("as sealed", "average", study, kept)
    for candidate in laws.candidates([one.average.series for one in fitted]):
        loss = "squares" if candidate.pooled else "Huber's loss"
        yield Universe("form", f"{candidate.name}, {loss}", study, [candidate])
    yield Universe("scale", "value", study, kept, scale="value")
    for size in ("params", "flops_per_pair"):
        yield Universe("N", size.replace("_", " "), other(size=size), kept)
    for exposure in ("queries", "tokens"):
        yield Universe("D", exposure, other(exposure=exposure), kept)
    for burn_in in (0.0, 0.2, 0.3):
        if burn_in != settings.burn_in:
            yield Universe("burn-in", f"{burn_in:.0%}", other(burn_in=burn_in), kept)
    if settings.checkpoints > 1:
        yield Universe("no averaging", "each checkpoint", other(checkpoints=1), kept)
    yield Universe("smallest rung", "left out", study, kept, without_smallest=True)


def forecast_universes(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Forecast the largest held-out rung's headline metric, on the first collection, in every universe.

    Writes `multiverse.csv` and returns it, a row for each universe and objective: columns objective, metric, rung,
    choice, option, forecast and exponent (of the optimal size in compute, by the pooled joint law). Universes that need
    a column which the measurements lack, or more rungs than there are, have no rows.
    """
    metric = headline(study, fitted_rows(fitted))
    cost, _ = training_cost(fitted_rows(fitted), study.allocation.tokens_per_pair)
    found = []
    for universe in universes(study, fitted):
        try:
            found += _forecasts(universe, fitted, metric, cost)
        except (StudyError, ValueError):
            continue
    table = pd.DataFrame(found)
    write_table(paths.multiverse_file(study.folder), table)
    return table


def _forecasts(universe: Universe, fitted: Sequence[Fitted], metric: str, cost: laws.Cost) -> list[dict]:
    study = universe.study
    all_series = [_series(universe, one) for one in fitted]
    if not set(universe.kept) <= set(laws.candidates(all_series)):
        return []
    prior = prior_of(study.forecasting, pd.concat([one.table for one in all_series]))
    found = [candidate.fit(all_series, prior) for candidate in universe.kept]
    joint = laws.Candidate("joint", pooled=True)
    joints = joint.fit(all_series, prior) if all_series[0].table["D"].nunique() >= NEEDED else None
    design = held_out_design(study, [replace(one, average=laws.Average(series, {}))
                                               for one, series in zip(fitted, all_series, strict=True)])  # fmt: skip
    rows = []
    for place, (one, series) in enumerate(zip(fitted, all_series, strict=True)):
        if one.metric != metric or (one.collection, one.task) != (fitted[0].collection, fitted[0].task):
            continue
        at = design_of_series(one, design).sort_values("N").iloc[[-1]]
        numbers = [series.on_scale(law[place].predict(at["N"], at["D"])) for law in found]
        exponent = float("nan")
        if joints is not None:
            alpha, beta = (joints[place].coefficients[name] for name in ("alpha", "beta"))
            growth = _growth(series.table)
            exponent = beta / (alpha * growth + beta * cost.growth)
        rows.append({
            "objective": one.objective, "metric": metric, "rung": at["rung"].iloc[0], "choice": universe.choice,
            "option": universe.option, "forecast": float(series.off_scale(sum(numbers) / len(numbers))[0]),
            "exponent": exponent})  # fmt: skip
    return rows


def _growth(table: pd.DataFrame) -> float:
    """How fast the universe's N grows with non-embedding parameters, on which costs are counted."""
    sizes = table.drop_duplicates("N")
    return float(laws.Cost.from_ladder(sizes["params_non_embedding"], sizes["N"]).growth)


def _series(universe: Universe, one: Fitted) -> laws.Series:
    raw = one.raw
    if universe.without_smallest:
        raw = raw[raw["params"] > raw["params"].min()]
    series = series_of(raw, universe.study.forecasting)
    scale = universe.scale if universe.scale and series.rising else one.average.series.scale
    return replace(series, scale=scale)
