"""A study's forecasts: made, sealed, and scored once the held-out rungs are opened."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import digest, result_file, write_json
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import SERIES_COLUMNS, headline, headlines, write_measurements
from rankscale_utils.study import paths
from rankscale_utils.study.ledger import traces
from rankscale_utils.study.study import Run, Study

from .annotations import seal_annotations
from .changes import changes_on_reading
from .design import held_out_design
from .fit import Fitted, held_out_rows, of_headline_test, series_left_out
from .held_out import BASELINES, beside_the_truth, beside_their_past, forecast_held_out, past_of_averages
from .on_tests import rungs_on_tests, rungs_with_first_stage
from .other_queries import on_other_queries
from .predictability import judge_study
from .results import finite, read_table, write_table
from .sealing import SEAL, Basis, open_seal, read_seals, seal_once
from .significance import compare_study
from .time_stamps import clock_of

WORST_SKILL = -10  # beyond it “no change” was right by luck


def shown_series(study: Study, fitted: list[Fitted]) -> list[Fitted]:
    """Return the series that figures show: the headline metrics on the headline test."""
    mine = of_headline_test(fitted, study.forecasting)
    metrics = headlines(study, pd.DataFrame({"metric": [one.metric for one in mine]}))
    return [one for one in mine if one.metric in metrics]


def average_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the averages' forecasts of one new run."""
    return new_run_forecasts(forecasts[forecasts["law"] == "average"])


def new_run_forecasts(forecasts: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts of one new run; where they are scored, `hit` says whether all new runs fell inside.

    `skill_shown` is the skill in words where “no change” was so nearly right that the number means nothing.
    """
    table = forecasts[forecasts["kind"] == "new_run"] if len(forecasts) else forecasts
    table = table.assign(interval=intervals(table)) if len(table) else table
    if "query_lo" in table:
        ends = table[["query_lo", "query_hi"]].set_axis(["lo", "hi"], axis="columns")
        table = table.assign(query_interval=intervals(ends))
    if "skill" not in table:
        return table.assign(hit=table["covered"].map(bool)) if "covered" in table else table
    skill = [f"{value:+.2f}" if value >= WORST_SKILL else f"below {WORST_SKILL}" for value in table["skill"]]
    return table.assign(hit=[bool(share == 1) for share in table["covered"]], skill_shown=skill)


def intervals(forecasts: pd.DataFrame) -> list[str]:
    """Return each row's lo and hi in words."""
    return [
        f"{lo:.4f} – {f'{hi:.4f}' if np.isfinite(hi) else 'no limit'}" if pd.notna(lo) else "–"
        for lo, hi in forecasts[["lo", "hi"]].astype(float).itertuples(index=False)
    ]


def seal_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Seal the forecasts of the held-out rungs, once, and return them; a study with annotations has theirs sealed too.

    Without any series there is nothing to seal, and no row comes back. Writes `fits.json`, `left_out.csv`,
    `predictability.csv`, `backtest.csv` and `seals.csv` as well. See `sealing`: the seal holds what the
    forecasts rest on, the time, and whether the truth was there to be read already (`truth_existed`): always in a CSV,
    and in a study that trains when its forecasts are made anew from other measurements or settings.
    """
    shown = [seal_annotations(study)] if study.annotations else []
    write_table(paths.left_out_file(study.folder), series_left_out(study))
    write_table(paths.predictability_file(study.folder), judge_study(study, fitted) if fitted else pd.DataFrame())
    with result_file(paths.fits_file(study.folder)) as temporary:
        write_json(temporary, finite([entry for one in fitted for entry in _fits(one)]))
    past = past_of_averages(fitted) if fitted else pd.DataFrame()
    write_table(paths.backtest_file(study.folder), past)
    make, first = partial(forecast_study, study, fitted, past), paths.sealed_forecasts_file(study.folder)
    if fitted:
        shown.append(seal_once(first, basis_of(study, fitted), make, truth_exists(study), study.time_stamp))
    write_table(paths.seals_file(study.folder), _all_seals(study, shown))
    return shown[-1] if fitted else pd.DataFrame()


def forecast_study(study: Study, fitted: list[Fitted], past: pd.DataFrame) -> pd.DataFrame:
    """Forecast the held-out rungs of every series: by the average, each law in it, and the baselines.

    Beside an average's interval stands how many of all intervals that the ladder's own past allows held the truth
    (`past_coverage`, of `past_intervals`).
    """
    design = held_out_design(study, fitted)
    made = forecast_held_out(fitted, design, study.forecasting)
    if study.runs:
        made = on_other_queries(study, fitted, made, design)
    return beside_their_past(made, past)


def _all_seals(study: Study, shown: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return a row for every seal of a study: its file, what it rests on, when it was made, and whether it is shown."""
    firsts = [paths.sealed_forecasts_file(study.folder), paths.sealed_annotations_file(study.folder)]
    columns = [*Basis.__dataclass_fields__, "truth_existed", "sealed_at", SEAL]
    seals = [seal for first in firsts for seal in read_seals(first)]
    table = pd.DataFrame(
        [{"file": seal.file.name, **seal.forecasts[columns].iloc[0], "clock": clock_of(seal.file)} for seal in seals]
    )
    return table.assign(shown=table[SEAL].isin([forecasts[SEAL].iloc[0] for forecasts in shown])) if seals else table


def truth_exists(study: Study) -> bool:
    """Whether anything of the held-out rungs has been trained or measured yet."""
    trained = any(traces(study.run_folder(run)) for run in _held_out_runs(study))
    return study.measurements is not None or trained or paths.forecasts_file(study.folder).exists()


def _held_out_runs(study: Study) -> list[Run]:
    return [run for run in study.runs if run.rung in study.held_out.rungs]


def basis_of(study: Study, fitted: Sequence[Fitted]) -> Basis:
    """Return what forecasts of a study's held-out rungs follow from."""
    return Basis.of(study, measurements_hash(fitted), _held_out_runs(study))


def measurements_hash(fitted: Sequence[Fitted]) -> str:
    """Return the SHA-256 of all measurements that were fitted."""
    return digest([draws.fit.data_sha256 for one in fitted for draws in one.laws.values()])


def _fits(one: Fitted) -> list[dict]:
    noise = [
        draws.fit.to_dict() | {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
        for draws in one.laws.values()
    ]
    data = [fit.to_dict() | {"rung": rung} for rung, fit in one.data.items()]
    return [entry | one.labels for entry in [*noise, *data]]  # a fit's own `objective` is what it minimised


def open_sealed_forecasts(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Return a study's sealed forecasts, of several the ones to show; see `sealing`.

    Raises:
        SealBroken: the forecasts, or what they rest on, are not what was sealed.
    """
    return open_seal(paths.sealed_forecasts_file(study.folder), basis_of(study, fitted))


def score_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Open the held-out rungs, score the sealed forecasts and return them all.

    Writes `forecasts.csv` (the averages), `forecasts_by_law.csv`, `baselines.csv`, `measurements.parquet`,
    `rungs_on_tests.csv`, `changes.csv` and, where asked for, `with_first_stage.csv`.

    Raises:
        SealBroken: the forecasts, or what they rest on, are not what was sealed.
    """
    table = study_measurements(study, fitted_only=False)
    write_table(paths.changes_file(study.folder), changes_on_reading(study, fitted, table))
    rungs_on_tests(study, table)
    rungs_with_first_stage(study, table)
    if not fitted:
        return _score_nothing(study, table)
    sealed = open_sealed_forecasts(study, fitted)
    scored = _beside_first_stage(beside_the_truth(sealed, held_out_rows(study)), table)
    write_measurements(paths.measurements_file(study.folder), table)
    for file, part in zip(_scored_files(study), scored_parts(scored), strict=True):
        write_table(file, part)
    return scored


def scored_parts(scored: pd.DataFrame) -> list[pd.DataFrame]:
    """Return scored forecasts in three tables: of the averages, of their laws, of the baselines."""
    average, baseline = scored["law"] == "average", scored["law"].isin(BASELINES)
    return [scored[average], scored[~baseline & ~average], scored[baseline]]


def _beside_first_stage(scored: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return scored forecasts with what the order as retrieved scores, `first_stage`, where the measurements tell."""
    if "first_stage" not in table:
        return scored
    return scored.join(table.groupby(SERIES_COLUMNS)["first_stage"].first(), on=SERIES_COLUMNS)


def _score_nothing(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Write what the page 4_forecast would, where no series was fitted: tables without rows, and what was measured."""
    write_measurements(paths.measurements_file(study.folder), table)
    for file in _scored_files(study):
        write_table(file, pd.DataFrame())
    compare_study(study, headline(study, table))
    return pd.DataFrame()


def read_scored(study: Study) -> pd.DataFrame:
    """Return every scored forecast of a study."""
    return pd.concat(map(read_table, _scored_files(study)), ignore_index=True)


def _scored_files(study: Study) -> tuple[Path, Path, Path]:
    """Return where the scored forecasts lie: of the averages, of their laws, of the baselines."""
    files = paths.forecasts_file, paths.forecasts_by_law_file, paths.baselines_file
    return tuple(file(study.folder) for file in files)
