"""A study's forecasts: made with calibrated intervals, sealed, and scored once the held-out rungs are opened."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.machine.files import digest, write_json, write_parquet
from rankscale_utils.machine.progress import say
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import headlines
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .annotations import seal_annotations
from .fit import (
    SERIES_COLUMNS,
    Fitted,
    design_of_series,
    fitted_rows,
    held_out_design,
    held_out_rows,
    last_rows,
    of_first_collection,
    prior_of,
)
from .other_queries import on_other_queries
from .results import read_table, write_table
from .sealing import SealBroken, read_sealed, seal_forecasts

WORST_SKILL = -10  # beyond it “no change” was right by luck

SEALED_COLUMNS = ["objective", "metric", "rung", "params", "exposure", "forecast", "lo", "hi", "level", "kind", "law"]
BASELINES = ("P0 size", "P0 joint", "no change")


def shown_series(study: Study, fitted: list[Fitted]) -> list[Fitted]:
    """Return the series that figures show: the headline metrics on the first collection."""
    mine = of_first_collection(fitted)
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
    table = table.assign(interval=_intervals(table)) if len(table) else table
    if "query_lo" in table:
        ends = table[["query_lo", "query_hi"]].set_axis(["lo", "hi"], axis="columns")
        table = table.assign(query_interval=_intervals(ends))
    if "skill" not in table:
        return table.assign(hit=table["covered"].map(bool)) if "covered" in table else table
    skill = [f"{value:+.2f}" if value >= WORST_SKILL else f"below {WORST_SKILL}" for value in table["skill"]]
    return table.assign(hit=[bool(share == 1) for share in table["covered"]], skill_shown=skill)


def _intervals(forecasts: pd.DataFrame) -> list[str]:
    return [f"{row['lo']:.4f} – {row['hi']:.4f}" if pd.notna(row["lo"]) else "–" for _, row in forecasts.iterrows()]


def calibrate(study: Study, fitted: Sequence[Fitted], design: pd.DataFrame) -> laws.Calibration:
    """Find how far intervals must reach on this design; see `laws.calibrated`."""
    ats = [design_of_series(one, design) for one in fitted]
    prior = prior_of(study, fitted_rows(fitted))
    say(f"{study.name}: simulate {study.forecasting.simulations} studies of this design")
    return laws.calibrated(
        [one.average for one in fitted],
        ats,
        fitted[0].kept,
        prior,
        level=study.forecasting.level,
        simulations=study.forecasting.simulations,
    )


def forecast_series(
    one: Fitted, place: int, design: pd.DataFrame, study: Study, calibration: laws.Calibration
) -> pd.DataFrame:
    """Forecast the held-out rungs: the average, each law in it, and the named baselines (kind new_run)."""
    at, level = design_of_series(one, design), study.forecasting.level
    kinds = dict(zip(("mean_law", "new_run"), calibration.coverage[place], strict=True))
    made = one.average.forecast(at, level, calibration.reach)
    reach = dict(zip(kinds, calibration.reach, strict=True))
    made = made.assign(
        reach=made["kind"].map(reach), coverage=made["kind"].map(kinds), simulations=calibration.simulations
    )
    alone = [
        laws.forecast(draws, at, level=level, size="N", exposure="D").assign(law=name)
        for name, draws in one.laws.items()
    ]
    return pd.concat([made, *alone, _baselines(one, at, study)], ignore_index=True)


def _baselines(one: Fitted, at: pd.DataFrame, study: Study) -> pd.DataFrame:
    """P0's own protocol and “no change”, for the same rows."""
    last, level = study.forecasting.checkpoints, study.forecasting.level
    up = {"rising": one.average.series.rising, "draws": 200}
    made = [
        laws.p0_forecast("size", one.raw, at, last=last, level=level, **up),
        laws.p0_forecast("joint", one.raw, at, last=last, level=level, **up),
        laws.persistence(one.raw, at, last=last, level=level),
    ]
    unchanged = made[-1]["forecast"].to_numpy()
    return pd.concat([table.assign(kind="new_run", persistence=unchanged) for table in made], ignore_index=True)


def seal_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Write `fits.json`, `backtest.csv` and `sealed_forecasts.csv`; return the sealed forecasts.

    A study with runs on annotated pairs has theirs sealed too, in `sealed_annotations.csv`.

    Beside an average's interval stand its coverage in simulated studies and, of all intervals that the ladder's own
    past allows, how many held the truth (`past_coverage`, of `past_intervals`).
    The seal holds the hash of the measurements that were fitted, the time, and whether the truth was there to be read
    already (`truth_existed`): always in a CSV, and in a study that trains when its forecasts are made a second time.
    """
    if study.annotations:
        seal_annotations(study)
    write_json(paths.fits_file(study.folder), [entry for one in fitted for entry in _fits(one)])
    design = held_out_design(study, fitted)
    calibration = calibrate(study, fitted, design)
    made = [forecast_series(one, place, design, study, calibration) for place, one in enumerate(fitted)]
    if study.runs:
        made = on_other_queries(study, fitted, made, design)
    forecasts = _beside_their_past(pd.concat(made, ignore_index=True), backtests(study, fitted))
    ordered = [*SEALED_COLUMNS, *(column for column in forecasts if column not in SEALED_COLUMNS)]
    forecasts = forecasts[ordered].assign(truth_existed=truth_exists(study))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return seal_forecasts(paths.sealed_forecasts_file(study.folder), forecasts, measurements_hash(fitted), now)


def _beside_their_past(forecasts: pd.DataFrame, past: pd.DataFrame) -> pd.DataFrame:
    """Add to each average how often intervals of its kind held the truth within the fitted ladder."""
    if past.empty:
        return forecasts.assign(past_coverage=np.nan, past_intervals=0)
    covered = past.groupby("kind")["covered"]
    kinds = forecasts["kind"].where(forecasts["law"] == "average")
    return forecasts.assign(
        past_coverage=kinds.map(covered.mean()), past_intervals=kinds.map(covered.size()).fillna(0).astype(int)
    )


def truth_exists(study: Study) -> bool:
    """Whether anything of the held-out rungs has been trained or measured yet."""
    held_out_runs = [run for run in study.runs if run.rung in study.held_out.rungs]
    trained = any((paths.ledger_file(study.run_folder(run))).exists() for run in held_out_runs)
    return study.measurements is not None or trained


def measurements_hash(fitted: Sequence[Fitted]) -> str:
    """Return the SHA-256 of all measurements that were fitted."""
    return digest([draws.fit.data_sha256 for one in fitted for draws in one.laws.values()])


def _fits(one: Fitted) -> list[dict]:
    noise = [
        one.labels | draws.fit.to_dict() | {"between_sd": draws.between_sd, "within_sd": draws.within_sd}
        for draws in one.laws.values()
    ]
    return noise + [one.labels | {"rung": rung} | fit.to_dict() for rung, fit in one.data.items()]


def sealed_reach(sealed: pd.DataFrame) -> list[float]:
    """Return how many standard errors sealed intervals reach to each side: of the law's mean, and of a new run."""
    reach = sealed.dropna(subset="reach").groupby("kind")["reach"].first()
    return [reach["mean_law"], reach["new_run"]]


def open_sealed_forecasts(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Return a study's sealed forecasts.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = read_sealed(paths.sealed_forecasts_file(study.folder))
    if sealed["data_sha256"].iloc[0] != measurements_hash(fitted):
        raise SealBroken(
            f"{paths.sealed_forecasts_file(study.folder)} was sealed on other measurements than those of the "
            "fitted rungs now; run 3_fit again"
        )
    return sealed


def score_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Open the held-out rungs, score the sealed forecasts and return them all.

    Writes `forecasts.csv` (the averages), `forecasts_by_law.csv`, `baselines.csv` and `measurements.parquet`.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = open_sealed_forecasts(study, fitted)
    table = study_measurements(study, fitted_only=False)
    scored = laws.score_forecasts(sealed, last_rows(held_out_rows(study)), size="N", exposure="D")
    scored = scored.assign(skill_to_p0=_skill_to_p0(scored))
    write_parquet(paths.measurements_file(study.folder), table)
    baseline = scored["law"].isin(BASELINES)
    parts = scored["law"] == "average", ~baseline & (scored["law"] != "average"), baseline
    for file, part in zip(_scored_files(study), parts, strict=True):
        write_table(file, scored[part])
    return scored


def _skill_to_p0(scored: pd.DataFrame) -> np.ndarray:
    """1 − |error| / |error of P0's size law| for the same rung and series."""
    keys = [*SERIES_COLUMNS, "rung"]
    theirs = scored[scored["law"] == "P0 size"].set_index(keys)["error"].abs()
    theirs = theirs[~theirs.index.duplicated()].reindex(pd.MultiIndex.from_frame(scored[keys])).to_numpy()
    return 1 - scored["error"].abs().to_numpy() / np.where(theirs > 0, theirs, np.nan)


def read_scored(study: Study) -> pd.DataFrame:
    """Return every scored forecast of a study."""
    return pd.concat(map(read_table, _scored_files(study)), ignore_index=True)


def _scored_files(study: Study) -> tuple[Path, Path, Path]:
    """Return where the scored forecasts lie: of the averages, of their laws, of the baselines."""
    files = paths.forecasts_file, paths.forecasts_by_law_file, paths.baselines_file
    return tuple(file(study.folder) for file in files)


def backtests(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Forecast every fitted rung from the three or more smaller ones, with intervals, and write `backtest.csv`."""
    settings = study.forecasting
    past = laws.expanding_intervals(
        [one.average.series for one in fitted],
        fitted[0].kept,
        prior_of(study, fitted_rows(fitted)),
        settings.level,
        draws=min(settings.draws, 200),
        simulations=min(settings.simulations, 60),
    )
    write_table(paths.backtest_file(study.folder), past)
    return past


def read_backtest(study: Study) -> pd.DataFrame:
    """Return the average's own past, as `seal_study` found it; no rows where the ladder is too short."""
    return read_table(paths.backtest_file(study.folder))
