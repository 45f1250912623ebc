"""A study's laws: its series, fitted on the rungs that may be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from threadpoolctl import threadpool_limits

from rankscale_utils import laws, measurements
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.reading import read_of_study, study_measurements
from rankscale_utils.measurements.table import SERIES_COLUMNS, limits, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.study import Study

from .fit_store import read_store, write_store
from .left_out import left_out, nothing_to_forecast, without

ROOMS_OF_FITS = [Path(room.__file__).parent for room in (laws, measurements)]  # beside this module
CODE_OF_FITS = [Path(__file__).with_name(f"{name}.py") for name in ("fit", "held_out", "left_out")]
CODE_OF_FITS += [file for room in ROOMS_OF_FITS for file in sorted(room.glob("*.py"))]
NEEDED = 3  # exposures that show how a curve bends


@dataclass(frozen=True)
class Fitted:
    """One series — an objective and a metric of a collection, task and score — with what was fitted to it.

    raw: its measurements; table: the rows that laws see, with N and D. average: the laws that the ladder's past could
    not tell apart. joint: the law of size and exposure that budgets are allocated with. data: a data law for each rung.
    past: every candidate's forecasts of fitted rungs; choice: what followed from them; kept: the candidates that are
    averaged (all three of the whole study).
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
    choice: pd.DataFrame
    kept: tuple[laws.Candidate, ...]

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
    laws.BrokenLaw,
    laws.Candidate,
    laws.Draws,
    laws.Fit,
    laws.KaplanLaw,
    laws.Series,
    laws.TwoStepLaw,
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
        N = (table["flops"] / table["exposure"]).groupby(table["rung"]).transform("mean")
    else:
        N = table[size]
    return table.assign(N=N.astype(float), D=table[exposure].astype(float))


def prior_of(settings: Forecasting, table: pd.DataFrame) -> laws.Prior:
    """Return the prior of the size exponent, stated for non-embedding parameters, for what N counts here."""
    prior = laws.Prior(**settings.prior.model_dump())
    sizes = table.drop_duplicates("N")
    growth = np.polyfit(np.log(sizes["N"]), np.log(sizes["params_non_embedding"]), 1)[0]
    return prior.on_another_size(float(growth))


def rows_for_laws(raw: pd.DataFrame, settings: Forecasting) -> pd.DataFrame:
    """Return the rows that laws see: after the burn-in, neighbouring checkpoints averaged, with N and D."""
    return laws.averaged(with_axes(raw, settings), settings.checkpoints, settings.burn_in)


def series_of(raw: pd.DataFrame, settings: Forecasting) -> laws.Series:
    """Return one series on the scale where its noise is even; the gap where there are too few checkpoints to tell."""
    first = raw.iloc[0]
    up = rising(first["metric"], settings.directions)
    known = limits(up, first.get("ceiling"))
    uneven = {scale: laws.unevenness(raw, up, known, scale) for scale in ("value", "gap")}
    labels = {name: first[name] for name in SERIES_COLUMNS}
    scale = "value" if up and uneven["value"] < uneven["gap"] else "gap"
    return laws.Series(labels, rows_for_laws(raw, settings), up, known, scale)


def fit_study(study: Study) -> list[Fitted]:
    """Fit every series of a study that can be fitted and forecast; the files of held-out rungs are not opened.

    What was fitted is kept in `fits.npz`, for the notebooks that ask for the same later: the same measurements,
    settings, code and libraries. No series at all is what a trained study may come to, whose other pages still tell.

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
    groups = _as_often(measured_rows(table[table["metric"].isin(wanted)])).groupby(SERIES_COLUMNS, sort=False)
    raws = [rows.reset_index(drop=True) for _, rows in groups]
    all_series, draws = [series_of(raw, settings) for raw in raws], settings.draws
    prior = prior_of(settings, pd.concat([series.table for series in all_series]))
    tried = laws.candidates(all_series)
    past = laws.expanding(all_series, tried, prior)
    choice = laws.choose(past)
    kept = laws.kept_of(tried, choice)
    averages = laws.kept_averages(all_series, kept, prior, draws)
    joints = _joints(tried, kept, averages, prior, draws)
    return [
        Fitted(
            **average.series.labels,
            raw=raw,
            average=average,
            joint=joint,
            data=_data_laws(average.series),
            past=past,
            choice=choice,
            kept=kept,
        )
        for raw, average, joint in zip(raws, averages, joints, strict=True)
    ]


def _as_often(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without scores that were measured at fewer exposures than another one of the same series.

    A score beside the objective's own is measured at the last checkpoint alone, which would leave all series without
    laws of exposure, since every candidate is fitted to all of them.
    """
    exposures = table.groupby(SERIES_COLUMNS)["exposure"].transform("nunique")
    most = exposures.groupby([table[name] for name in SERIES_COLUMNS if name != "score"]).transform("max")
    return table[exposures == most]


def _joints(
    tried: Sequence[laws.Candidate],
    kept: Sequence[laws.Candidate],
    averages: Sequence[laws.Average],
    prior: laws.Prior,
    draws: int,
) -> list[laws.Draws | None]:
    """The law of size and exposure of each series: the best that was kept, or else the pooled joint law."""
    joint = next((candidate for candidate in (*kept, *tried) if candidate.form == "joint"), None)
    if joint is None:
        return [None] * len(averages)
    if joint in kept:
        return [average.laws[joint.name] for average in averages]
    return joint.resample(joint.fit([average.series for average in averages], prior), prior, draws)


def _data_laws(series: laws.Series) -> dict[str, laws.Fit]:
    """A law of exposure alone for each rung that has exposures enough."""
    law = laws.data_law(series.rising, series.limits, series.scale)
    return {
        rung: laws.fit(law, rows, size="N", exposure="D", scale=series.scale)
        for rung, rows in series.table.groupby("rung", sort=False)
        if rows["D"].nunique() >= NEEDED
    }


def last_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return each run's last row of each metric."""
    return table.loc[table.groupby(["run", *SERIES_COLUMNS])["exposure"].idxmax()]


def of_first_collection(fitted: Sequence[Fitted]) -> list[Fitted]:
    """Return the series of the first collection and task, which opening sentences, figures and budgets are about."""
    return [one for one in fitted if (one.collection, one.task) == (fitted[0].collection, fitted[0].task)]


def fitted_rows(fitted: Sequence[Fitted], *more: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of several series in one table, and further ones below."""
    return pd.concat([*(one.table for one in fitted), *more], ignore_index=True)


def fitted_ends(fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return the rows that the size laws were fitted to."""
    return pd.concat([one.average.series.end for one in fitted], ignore_index=True)


def held_out_rows(study: Study) -> pd.DataFrame:
    """Open the held-out rungs' measurements: the rows that laws would have seen."""
    return rows_of_rungs(study_measurements(study, fitted_only=False), study.held_out.rungs, study.forecasting)


def rows_of_rungs(table: pd.DataFrame, rungs: Sequence[str], settings: Forecasting) -> pd.DataFrame:
    """Return the rows of some rungs that laws would see, of every series."""
    table = measured_rows(table[table["rung"].isin(rungs)])
    rows = [rows_for_laws(rows, settings) for _, rows in table.groupby(SERIES_COLUMNS, sort=False)]
    return pd.concat(rows, ignore_index=True)
