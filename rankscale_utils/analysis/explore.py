"""One series of a study under choices of one's own: what its forecast, interval and past would be. Only reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from rankscale_utils import laws
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import headline, labelled
from rankscale_utils.study import paths
from rankscale_utils.study.arguments import checked, names, optional, text
from rankscale_utils.study.forecasting import Forecasting, Prior
from rankscale_utils.study.loading import study_given
from rankscale_utils.study.study import Study

from .curves import Curves, series_curves
from .design import design_of_series, held_out_design
from .fit import Fitted, fit_study, known_of, last_rows, rows_of_rungs, series_left_out, series_of
from .held_out import beside_the_truth
from .left_out import NEEDED_RUNGS

AS_STUDY, AVERAGE = "as the study", "average"
KNOWN, OFF = "known", "off"
PRIORS = (AS_STUDY, KNOWN, OFF)
DRAWS, DRAWS_OF_PAST = 300, 100  # of a law: fewer than a study's, so that a choice is answered within a second
POINTS = 16  # of a line
FORECASTS = ["objective", "metric", "collection", "rung", "params", "exposure", "forecast", "lo", "hi", "level",
             "no_change", "actual", "relative_error", "covered"]  # fmt: skip
PAST = ["objective", "metric", "collection", "rung", "rungs_fitted", "forecast", "lo", "hi", "level", "no_change",
        "actual", "relative_error", "covered"]  # fmt: skip


@dataclass(frozen=True)
class Explored:
    """One series as the study has it or under other choices; see `explore`.

    fitted: the series and its laws. design: what is forecast. truth: held-out runs' rows, where they were measured.
    """

    fitted: Fitted
    design: pd.DataFrame
    truth: pd.DataFrame
    settings: Forecasting

    @cached_property
    def forecast(self) -> pd.DataFrame:
        """A row for each held-out rung at the end of its training: one new run, its interval, and what was measured."""
        at = design_of_series(self.fitted, self.design)
        made = self.fitted.average.forecast(at, self.settings.level)
        made = made[made["kind"] == "new_run"].rename(columns={"persistence": "no_change"})
        scored = beside_the_truth(made.assign(persistence=made["no_change"]), self.truth)
        return scored.reindex(columns=FORECASTS).reset_index(drop=True)

    @property
    def past(self) -> pd.DataFrame:
        """A row for each fitted rung that three or more smaller ones forecast, from this series alone."""
        past = self.fitted.past
        if past.empty:
            return pd.DataFrame(columns=PAST)
        rows = past[(past["law"] == AVERAGE) & (past["kind"] == "new_run")]
        return rows[PAST].reset_index(drop=True)

    @cached_property
    def curves(self) -> Curves:
        """The laws as lines, and the runs that they should go through, to be drawn."""
        few = replace(self.fitted, average=self.fitted.average.few)
        lines = series_curves(few, self.design, self.settings.level, POINTS)
        rows = self.fitted.table
        return Curves(lines, last_rows(rows), rows, self.truth, list(self.design["rung"].unique()))


@dataclass(frozen=True, eq=False)
class Explorer:
    """A study opened for `explore`: its measurements and fits, read once.

    missing: why there is no truth, where held-out rungs were not measured yet; else empty.
    """

    study: Study
    fitted: list[Fitted]
    design: pd.DataFrame
    truth: pd.DataFrame
    missing: str

    @property
    def series(self) -> pd.DataFrame:
        """What can be chosen: objective, metric and collection in words; series of the headline metric first."""
        first = headline(self.study, pd.DataFrame({"metric": [one.metric for one in self.fitted]}))
        table = labelled(pd.DataFrame([one.labels for one in self.fitted]))
        return table.iloc[np.argsort(table["metric"] != first, kind="stable")]

    def find(self, objective: str | None, metric: str | None, collection: str | None) -> int:
        """Return the place of the first series of these names, of which each may be left open.

        Raises:
            StudyError: there is none.
        """
        rows, told = self.series, {"objective": objective, "metric": metric, "collection": collection}
        for name, wanted in told.items():
            if wanted is not None:
                if wanted not in set(rows[name]):
                    known = ", ".join(rows[name].unique())
                    raise StudyError(f"{name} = {wanted!r}: no fitted series of {self.study.name}; use one of {known}.")
                rows = rows[rows[name] == wanted]
        return rows.index[0]

    def explored(self, fitted: Fitted, settings: Forecasting) -> Explored:
        """Return what was fitted beside what is to be forecast and its truth."""
        truth = self.truth.merge(pd.DataFrame([fitted.labels])) if len(self.truth) else self.truth
        return Explored(fitted, self.design, truth, settings)


@checked(
    study=study_given,
    objective=optional(text),
    metric=optional(text),
    collection=optional(text),
    without_rungs=names,
    law=text,
    scale=text,
    prior=text,
)
def explore(
    study: Study | str | Path,
    objective: str | None = None,
    metric: str | None = None,
    collection: str | None = None,
    *,
    without_rungs: Sequence[str] = (),
    without_seeds: Sequence[int] = (),
    from_exposure: float | None = None,
    prior: str = AS_STUDY,
    law: str = AVERAGE,
    scale: str = AS_STUDY,
) -> Explored:
    """Forecast one series of a study under choices of one's own, in less than a second; nothing is written.

    Parameters
    ----------
    study
        A study, its name, or its YAML's path.
    objective, metric, collection
        Of the series; the study's first ones where they are not named.
    without_rungs, without_seeds
        Fitted rungs and seeds that laws do not see.
    from_exposure
        Training pairs before which checkpoints are not seen; None: what the study's burn-in leaves.
    prior
        "as the study": its own, and what its other series told. "known": what public ladders told, this series alone.
        "off": next to nothing is believed, this series alone.
    law
        "average", or one of its forms: additive, logarithm, Kaplan, sigmoid.
    scale
        "as the study", or the scale on which noise is thought even: value, gap or arcsine; of metrics that rise.

    Returns
    -------
    Explored
        With `forecast`, a row for each held-out rung (forecast, lo, hi, no_change and, once it was measured, actual,
        relative_error and covered), and `past`, the same of fitted rungs that smaller ones forecast, from this series
        alone. Without choices the forecast is the one that the study seals.

    Raises
    ------
    StudyError
        The study has no measurements yet, or a choice cannot be met; one sentence says which, and the remedy.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> rankscale.explore("published", "listwise").forecast[["rung", "forecast", "actual"]].round(2)
       rung  forecast  actual
    0  400m      0.36    0.36
    1    1b      0.36    0.37
    >>> other = rankscale.explore("published", "listwise", without_rungs=["17m"], prior="off")
    >>> bool((other.forecast["hi"] - other.forecast["lo"]).iloc[1] > 0.03)
    True
    """
    opened = open_explorer(study_given(study))
    place = opened.find(objective, metric, collection)
    plain = (prior, law, scale, from_exposure) == (AS_STUDY, AVERAGE, AS_STUDY, None)
    if plain and not without_rungs and not without_seeds:
        return _as_the_study(opened, place)
    one = opened.fitted[place]
    raw, settings = _chosen_rows(one, opened.study.forecasting, without_rungs, without_seeds, from_exposure)
    series = series_of(raw, settings)
    if scale != AS_STUDY:
        series = replace(series, scale=_scale_of(one, scale))
    return opened.explored(_fitted(one, raw, series, settings, prior, law), settings)


def open_explorer(study: Study) -> Explorer:
    """Return a study opened for `explore`; it is read again when its files have changed.

    Raises:
        StudyError: it has no measurements yet, or no series that can be fitted.
    """
    files = [study.source]
    files += [study.measurements_file] if study.measurements else []
    files += [paths.measurements_file(study.run_folder(run)) for run in study.runs]
    return _opened(study.source, tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files))


@lru_cache(maxsize=4)
def _opened(source: Path, _: tuple[int, ...]) -> Explorer:
    study, missing = study_given(source), ""
    fitted = fit_study(study, keep=False)
    if not fitted:
        reasons = series_left_out(study)["reason"].unique()
        raise StudyError(f"no series of {study.name} can be fitted: {'; '.join(reasons)}.")
    truth = pd.DataFrame(columns=fitted[0].table.columns)
    try:
        every = study_measurements(study, fitted_only=False)
        truth = rows_of_rungs(every, study.held_out.rungs, study.forecasting)
    except StudyError as error:
        missing = str(error)
    return Explorer(study, fitted, held_out_design(study, fitted), truth, missing)


@lru_cache(maxsize=256)
def _as_the_study(opened: Explorer, place: int) -> Explored:
    """Return a series as it is sealed, beside its past alone, with which that of other choices can be compared."""
    one, settings = opened.fitted[place], opened.study.forecasting
    alone = _known(AS_STUDY, settings, one.table)
    past = _past(one.average.series, alone, settings.level)
    return opened.explored(replace(one, past=past), settings)


def _chosen_rows(
    one: Fitted, settings: Forecasting, rungs: Sequence[str], seeds: Sequence[int], from_exposure: float | None
) -> tuple[pd.DataFrame, Forecasting]:
    """Return the rows that laws may see, and the settings by which they are read.

    Raises:
        StudyError: a rung or seed is not among them, or fewer than three rungs are left.
    """
    raw = one.raw
    for column, given in (("rung", rungs), ("seed", seeds)):
        known = list(raw[column].unique())
        if absent := [name for name in given if name not in known]:
            told = ", ".join(map(str, known))
            raise StudyError(f"without_{column}s = {absent[0]!r}: the fitted {column}s are {told}; name one of them.")
        raw = raw[~raw[column].isin(given)]
    if from_exposure is not None:
        raw, settings = raw[raw["exposure"] >= from_exposure], settings.model_copy(update={"burn_in": 0.0})
    if (left := raw["rung"].nunique()) < NEEDED_RUNGS:
        raise StudyError(f"{left} rungs are left, and a law of size needs {NEEDED_RUNGS}: leave out less.")
    return raw.reset_index(drop=True), settings


def _scale_of(one: Fitted, scale: str) -> laws.Scale:
    """Return a scale that the series can be fitted on."""
    known = laws.SCALES if one.average.series.rising else (one.average.series.scale,)
    if scale not in known:
        raise StudyError(f"scale = {scale!r}: {one.metric} can be fitted on {' or '.join(known)}; use one of them.")
    return scale


@threadpool_limits.wrap(limits=1)  # last digits depend on the number of threads
def _fitted(one: Fitted, raw: pd.DataFrame, series: laws.Series, settings: Forecasting, prior: str, law: str) -> Fitted:
    """Return one series fitted by itself, and its past."""
    forms = () if law == AVERAGE else (law,)
    told = next(iter(one.average.posteriors.values())).problem.known  # by the study's other series
    alone = _known(prior, settings, series.table)
    try:
        average = laws.averages([series], told if prior == AS_STUDY else alone, DRAWS, forms)[0]
        past = _past(series, alone, settings.level, forms)
    except ValueError as error:
        raise StudyError(f"no law can be fitted under these choices: {error}.") from None
    return replace(one, raw=raw, average=average, joint=None, data={}, past=past)


@threadpool_limits.wrap(limits=1)
def _past(series: laws.Series, known: laws.Known, level: float, forms: Sequence[str] = ()) -> pd.DataFrame:
    return laws.expanding([series], known, level, DRAWS_OF_PAST, forms, NEEDED_RUNGS)


def _known(prior: str, settings: Forecasting, table: pd.DataFrame) -> laws.Known:
    """Return what is believed before this series' runs, the study's other series aside."""
    if prior not in PRIORS:
        raise StudyError(f"prior = {prior!r}: use one of {', '.join(PRIORS)}.")
    given = {AS_STUDY: settings.prior, KNOWN: Prior(), OFF: settings.prior.model_copy(update={"wide": True})}[prior]
    return known_of(settings.model_copy(update={"prior": given}), table)
