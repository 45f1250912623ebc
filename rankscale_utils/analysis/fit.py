"""A study's laws: its series, fitted on the rungs that may be seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from threadpoolctl import threadpool_limits

from rankscale_utils import laws, measurements
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest, read_only
from rankscale_utils.machine.parallel import each
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.reading import read_of_study, study_measurements
from rankscale_utils.measurements.table import OWN, SERIES_COLUMNS, headline_of, limits, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.study import Study

from .fit_store import read_store, write_store
from .left_out import left_out, nothing_to_forecast, without

ROOMS_OF_FITS = [Path(room.__file__).parent for room in (laws, measurements)]  # beside this module
CODE_OF_FITS = [Path(__file__).with_name(f"{name}.py") for name in ("fit", "held_out", "left_out")]
CODE_OF_FITS += [file for room in ROOMS_OF_FITS for file in sorted(room.glob("*.py"))]
NEEDED = 3  # exposures that show how a curve bends
DRAWS_OF_PAST = 300  # of a law in the ladder's past


@dataclass(frozen=True)
class Fitted:
    """One series — an objective and a metric of a collection, task and score — with what was fitted to it.

    raw: its measurements; table: the rows that laws see, with N and D. average: all forms of law, weighed by how well
    each explains the runs. joint: of those with an optimum of size and exposure the one of most weight. data: a law of
    exposure for each rung. past: what the average and every form said of fitted rungs, of the whole study.
    """

    objective: str
    metric: str
    collection: str
    task: str
    score: str
    raw: pd.DataFrame
    average: laws.Average
    joint: laws.Draws | None
    data: dict[str, laws.Fit]
    past: pd.DataFrame

    @property
    def labels(self) -> dict[str, str]:
        """The series' name, column by column."""
        return {name: getattr(self, name) for name in SERIES_COLUMNS}

    @property
    def table(self) -> pd.DataFrame:
        """The rows that laws see."""
        return self.average.series.table

    @property
    def laws(self) -> dict[str, laws.Draws]:
        """The laws that are averaged."""
        return self.average.laws


# What a store of fits may hold.
STORED_KINDS = (
    Fitted,
    laws.AdditiveLaw,
    laws.Average,
    laws.Belief,
    laws.BrokenLaw,
    laws.Draws,
    laws.Fit,
    laws.Kaplan,
    laws.KaplanLaw,
    laws.Known,
    laws.LocalProblem,
    laws.LogPowers,
    laws.Noise,
    laws.Posterior,
    laws.Powers,
    laws.Series,
    laws.Sigmoid,
    laws.SigmoidLaw,
)


def with_axes(table: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return the table with N and D, counted as the settings want.

    Raises:
        StudyError: the measurements lack what N or D should count.
    """
    size, exposure = settings.size, settings.exposure
    columns = {"size": {"flops_per_pair": "flops"}.get(size, size), "exposure": exposure}
    for field, column in columns.items():
        if column not in table or table[column].isna().any():
            raise StudyError(
                f"forecasting.{field} = {getattr(settings, field)}: the measurements have no {column} in every"
                f" row; add the column, or count {'params_non_embedding' if field == 'size' else 'exposure'}."
            )
    if size == "flops_per_pair":
        N = (table["flops"] / table["exposure"]).groupby([table["objective"], table["rung"]]).transform("mean")
    else:
        N = table[size]
    return table.assign(N=N.astype(float), D=table[exposure].astype(float))


def known_of(settings: Forecasting, table: pd.DataFrame) -> laws.Known:
    """Return what fits believe before they see the runs, for what N counts here; see `laws.known`."""
    known, given = laws.known(), settings.prior.model_dump(exclude={"wide"}, exclude_none=True)
    changes = {
        name: number if name == "discrepancy" else laws.Belief(**number, within=number["spread"])
        for name, number in given.items()
    }
    known = replace(known.wide() if settings.prior.wide else known, **changes)
    sizes = table.drop_duplicates("N")
    growth = np.polyfit(np.log(sizes["N"]), np.log(sizes["params_non_embedding"]), 1)[0] if len(sizes) > 1 else 1.0
    return known.on_another_size(round(float(growth), 9))


def rows_for_laws(raw: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return the rows that laws see: after the burn-in, neighbouring checkpoints averaged, with N and D."""
    return laws.averaged(with_axes(raw, settings), settings.checkpoints, settings.burn_in)


def stated_values(raw: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return a series' rows with the value that the settings state: each checkpoint's, or each run's best so far."""
    if settings.value == "last" or "value" not in raw:
        return raw
    return laws.best_so_far(raw, rising(raw["metric"].iloc[0], settings.directions))


def series_of(raw: pd.DataFrame, settings: Forecasting) -> laws.Series:
    """Return one series on the scale where its noise is even: a bounded mean's arcsine, or an entropy's logarithm."""
    first = raw.iloc[0]
    up = rising(first["metric"], settings.directions)
    known = limits(up, first.get("ceiling"))
    labels = {name: first[name] for name in SERIES_COLUMNS}
    return laws.Series(labels, rows_for_laws(raw, settings), up, known, "arcsine" if up else "gap")


def fit_study(study: Study, keep: bool = True) -> list[Fitted]:
    """Fit every series of a study that can be fitted and forecast; the files of held-out rungs are not opened.

    What was fitted is kept in `fits.npz`, for the notebooks that ask for the same later: the same measurements,
    settings, code and libraries. keep: False writes nothing, and nothing is written where results are only read. No
    series at all is what a trained study may come to, whose other pages still tell.

    Raises:
        StudyError: no series of a CSV can be fitted and forecast.
    """
    kept, absent = paths.kept_fits_file(study.folder), series_left_out(study)
    table = measured_rows(without(study_measurements(study, fitted_only=True), absent))
    if table.empty or not set(study.forecasting.metrics or table["metric"]) & set(table["metric"]):
        if study.runs:
            return []
        reasons = "; ".join(f"{row['objective']}, {row['metric']}: {row['reason']}" for _, row in absent.iterrows())
        raise StudyError(f"no series of {study.name} can be forecast: {reasons}.")
    key = digest(table.to_csv(), study.forecasting.model_dump(), key_of_code())
    fitted = read_store(kept, key, STORED_KINDS)
    if fitted is None:
        fitted = fit_series(table, study.forecasting)
        if keep and not read_only():
            write_store(kept, key, fitted, STORED_KINDS)
    return fitted


def key_of_code() -> str:
    """Return a hash of the code and of the libraries that fits follow from."""
    return digest([module.__version__ for module in (np, pd, scipy)], *CODE_OF_FITS)


def series_left_out(study: Study) -> pd.DataFrame:
    """Return the series that cannot be fitted or forecast, each with its reason: see `analysis.left_out`."""
    wanted = study.forecasting.metrics
    fitted = study_measurements(study, fitted_only=True)
    tables = [left_out(fitted, study.forecasting)]
    if study.measurements is not None:
        tables.append(nothing_to_forecast(measured_rows(read_of_study(study).table), study.held_out.rungs))
    absent = pd.concat(tables, ignore_index=True).drop_duplicates(SERIES_COLUMNS)
    return absent[absent["metric"].isin(wanted)] if wanted else absent


@threadpool_limits.wrap(limits=1)  # last digits depend on the number of threads
def fit_series(table: pd.DataFrame, settings: Forecasting) -> list[Fitted]:
    """Fit every series of a table of measurements."""
    wanted = settings.metrics or tuple(table["metric"].unique())
    groups = measured_rows(table[table["metric"].isin(wanted)]).groupby(SERIES_COLUMNS, sort=False)
    raws = [stated_values(rows, settings).reset_index(drop=True) for _, rows in groups]
    all_series = [series_of(raw, settings) for raw in raws]
    known = known_of(settings, pd.concat([series.table for series in all_series]))
    past = laws.expanding(all_series, known, settings.level, min(settings.draws, DRAWS_OF_PAST))
    averages = laws.averages(all_series, known, settings.draws)
    of_data = each(_data_laws, all_series)
    return [
        Fitted(
            **average.series.labels,
            raw=raw,
            average=average,
            joint=joint_of(average),
            data=data,
            past=past,
        )
        for raw, average, data in zip(raws, averages, of_data, strict=True)
    ]


def joint_of(average: laws.Average) -> laws.Draws | None:
    """Return the law of most weight with a best size for each budget; none without exposures enough."""
    possible = [name for name in laws.WITH_OPTIMUM if name in average.posteriors]
    if not possible or average.series.table["D"].nunique() < NEEDED:
        return None
    return average.laws[max(possible, key=lambda name: average.weights[name])]


def _data_laws(series: laws.Series) -> dict[str, laws.Fit]:
    """A law of exposure alone for each rung that has exposures enough."""
    law = laws.data_law(series.rising, series.limits)
    return {
        rung: laws.fit(law, rows, size="N", exposure="D", scale=series.scale)
        for rung, rows in series.table.groupby("rung", sort=False)
        if rows["D"].nunique() >= NEEDED
    }


def last_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return each run's last row of each metric."""
    return table.loc[table.groupby(["run", *SERIES_COLUMNS])["exposure"].idxmax()]


def of_headline_test(fitted: Sequence[Fitted], settings: Forecasting) -> list[Fitted]:
    """Return the series of the test and task that a study opens with: those of its headline metric.

    See `measurements.table.on_headline_test`. One task of a test may have a metric that the other has lost.
    """
    metric = headline_of(settings, [one.metric for one in fitted])
    mine = [one for one in fitted if one.metric == metric]
    first = next((one for one in mine if one.collection == settings.headline_test), mine[0])
    mine = [one for one in fitted if (one.collection, one.task) == (first.collection, first.task)]
    return [one for one in mine if one.score == OWN] or mine


def fitted_rows(fitted: Sequence[Fitted], *more: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of several series in one table, and further ones below."""
    return pd.concat([*(one.table for one in fitted), *more], ignore_index=True)


def fitted_ends(fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return the last row of each fitted run."""
    return pd.concat([one.average.series.last for one in fitted], ignore_index=True)


def held_out_rows(study: Study) -> pd.DataFrame:
    """Open the held-out rungs' measurements: the rows that laws would have seen."""
    return rows_of_rungs(study_measurements(study, fitted_only=False), study.held_out.rungs, study.forecasting)


def rows_of_rungs(table: pd.DataFrame, rungs: Sequence[str], settings: Forecasting) -> pd.DataFrame:
    """Return the rows of some rungs that laws would see, of every series."""
    table = measured_rows(table[table["rung"].isin(rungs)])
    series = [rows for _, rows in table.groupby(SERIES_COLUMNS, sort=False)]
    rows = [rows_for_laws(stated_values(rows, settings), settings) for rows in series]
    return pd.concat(rows, ignore_index=True)
