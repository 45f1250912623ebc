"""A study's forecasts: made with calibrated intervals, sealed, and scored once the held-out rungs are opened."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils import annotations, laws
from rankscale_utils.files import digest, whole_file, write_json
from rankscale_utils.fits import (
    SERIES,
    Fitted,
    at_end,
    converted,
    held_out,
    held_out_design,
    of_front,
    of_series,
    prior_of,
    tables,
)
from rankscale_utils.measurements import of_runs
from rankscale_utils.other_queries import on_other_queries
from rankscale_utils.progress import say
from rankscale_utils.study import Study

COLUMNS = ["objective", "metric", "rung", "params", "exposure", "forecast", "lo", "hi", "level", "kind", "law"]
BASELINES = ("P0 size", "P0 joint", "no change")


def calibrate(study: Study, fitted: Sequence[Fitted], design: pd.DataFrame) -> laws.Calibration:
    """Find how far intervals must reach on this design; see `laws.calibrated`."""
    ats = [of_series(one, design) for one in fitted]
    prior = prior_of(study, tables(fitted))
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
    at, level = of_series(one, design), study.forecasting.level
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
        laws.p0_size(one.raw, at, last=last, level=level, **up),
        laws.p0_joint(one.raw, at, last=last, level=level, **up),
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
        annotations.seal(study)
    write_json(study.folder / "fits.json", [entry for one in fitted for entry in _fits(one)])
    design = held_out_design(study, fitted)
    calibration = calibrate(study, fitted, design)
    made = [forecast_series(one, place, design, study, calibration) for place, one in enumerate(fitted)]
    if study.runs:
        made = on_other_queries(study, fitted, made, design)
    forecasts = _beside_their_past(pd.concat(made, ignore_index=True), backtests(study, fitted))
    ordered = [*COLUMNS, *(column for column in forecasts if column not in COLUMNS)]
    forecasts = forecasts[ordered].assign(truth_existed=truth_exists(study))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return laws.seal_forecasts(sealed_file(study), forecasts, measurements_hash(fitted), now)


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
    trained = any((study.run_folder(run) / "ledger.json").exists() for run in held_out_runs)
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


def sealed_file(study: Study) -> Path:
    """Where a study's sealed forecasts lie."""
    return study.folder / "sealed_forecasts.csv"


def sealed_reach(sealed: pd.DataFrame) -> list[float]:
    """Return how many standard errors sealed intervals reach to each side: of the law's mean, and of a new run."""
    reach = sealed.dropna(subset="reach").groupby("kind")["reach"].first()
    return [reach["mean_law"], reach["new_run"]]


def open_sealed(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Return a study's sealed forecasts.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = laws.open_sealed(sealed_file(study))
    if sealed["data_sha256"].iloc[0] != measurements_hash(fitted):
        raise laws.SealBroken(
            f"{sealed_file(study)} was sealed on other measurements than those of the fitted rungs now; run 3_fit again"
        )
    return sealed


def score_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Open the held-out rungs, score the sealed forecasts and return them all.

    Writes `forecasts.csv` (the averages), `forecasts_by_law.csv`, `baselines.csv` and `measurements.parquet`.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = open_sealed(study, fitted)
    table = of_runs(study, fitted_only=False)
    scored = laws.score(sealed, at_end(held_out(study)), size="N", exposure="D")
    scored = scored.assign(skill_to_p0=_skill_to_p0(scored))
    with whole_file(study.folder / "measurements.parquet") as temporary:
        table.to_parquet(temporary)
    baseline = scored["law"].isin(BASELINES)
    for name, part in (("forecasts", scored["law"] == "average"), ("baselines", baseline),
                       ("forecasts_by_law", ~baseline & (scored["law"] != "average"))):  # fmt: skip
        with whole_file(study.folder / f"{name}.csv") as temporary:
            scored[part].to_csv(temporary, index=False)
    return scored


def _skill_to_p0(scored: pd.DataFrame) -> np.ndarray:
    """1 − |error| / |error of P0's size law| for the same rung and series."""
    keys = [*SERIES, "rung"]
    theirs = scored[scored["law"] == "P0 size"].set_index(keys)["error"].abs()
    theirs = theirs[~theirs.index.duplicated()].reindex(pd.MultiIndex.from_frame(scored[keys])).to_numpy()
    return 1 - scored["error"].abs().to_numpy() / np.where(theirs > 0, theirs, np.nan)


def read_scored(study: Study) -> pd.DataFrame:
    """Return every scored forecast of a study."""
    names = ("forecasts", "forecasts_by_law", "baselines")
    return pd.concat([pd.read_csv(study.folder / f"{name}.csv") for name in names], ignore_index=True)


def backtests(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Forecast every fitted rung from the three or more smaller ones, with intervals, and write `backtest.csv`."""
    settings = study.forecasting
    past = laws.expanding_intervals(
        [one.average.series for one in fitted],
        fitted[0].kept,
        prior_of(study, tables(fitted)),
        settings.level,
        draws=min(settings.draws, 200),
        simulations=min(settings.simulations, 60),
    )
    with whole_file(study.folder / "backtest.csv") as temporary:
        past.to_csv(temporary, index=False)
    return past


def read_backtest(study: Study) -> pd.DataFrame:
    """Return the average's own past, as `seal_study` found it; no rows where the ladder is too short."""
    try:
        return pd.read_csv(study.folder / "backtest.csv")
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def curves(one: Fitted, design: pd.DataFrame, level: float, reach: Sequence[float] | None, points: int = 40):
    """Return every law of a series as lines, the average with its band (kind mean_law), to be drawn.

    Rows: along size at the end (`along` = size), and along exposure at every fitted and held-out rung (`along` =
    exposure) for the laws that know exposure.
    """
    design = of_series(one, design)
    rungs = pd.concat([one.table, design])[["rung", "params_non_embedding", "N"]].drop_duplicates("rung")
    ends = one.average.series.end
    sizes = np.geomspace(rungs["params_non_embedding"].min(), rungs["params_non_embedding"].max(), points)
    along_size = pd.DataFrame({"params_non_embedding": sizes})
    along_size = along_size.assign(N=converted(rungs, "params_non_embedding", "N", along_size), D=ends["D"].mean())
    made = [one.average.forecast(along_size, level, reach).assign(along="size")]
    made += [
        along_size.assign(forecast=draws.fit.predict(along_size["N"], along_size["D"]), law=name, kind="mean_law",
                          along="size")
        for name, draws in one.laws.items()
    ]  # fmt: skip
    knowing = {name: draws for name, draws in one.laws.items() if "D" in draws.fit.law.axes}
    if not knowing and one.joint is not None:
        knowing = {"joint": one.joint}
    if knowing:
        first, last = one.table["exposure"].min(), max(one.table["exposure"].max(), design["exposure"].max())
        exposures = pd.DataFrame({"exposure": np.geomspace(first, last, points)})
        along = rungs.merge(exposures, how="cross")
        along = along.assign(D=converted(one.table, "exposure", "D", along))
        average = laws.Average(one.average.series, knowing)
        made.append(average.forecast(along, level, reach).assign(along="exposure"))
    table = pd.concat(made, ignore_index=True)
    return table[table["kind"] == "mean_law"].assign(**one.labels)


def all_curves(study: Study, fitted: Sequence[Fitted], sealed: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of several series, their bands as wide as the sealed intervals' reach makes them."""
    design, reach = held_out_design(study, fitted), sealed_reach(sealed)
    made = [curves(one, design, study.forecasting.level, reach) for one in fitted]
    return pd.concat(made, ignore_index=True)


def next_runs(study: Study, fitted: Sequence[Fitted], metric: str, cost: laws.Cost) -> pd.DataFrame:
    """Plan what to train next with as much compute as the largest fitted run took: see `laws.plan`.

    Returns for each objective the runs that narrow the metric's forecast of the largest held-out rung most per FLOP, in
    order, with the columns of `laws.plan`, objective and kind; no rows where a law has no spare run to judge it by.
    """
    design, plans = held_out_design(study, fitted), []
    for one in of_front(fitted) if study.forecasting.exposure == "exposure" else []:  # budgets are counted in pairs
        if one.metric != metric or one.joint is None or laws.spare_runs(one.joint.fit) < 1:
            continue
        target = of_series(one, design).sort_values("N").iloc[[-1]]
        table = one.table
        axes = {"size": "N", "exposure": "D"}
        sizes = table[["rung", "N", "params_non_embedding"]].drop_duplicates("rung")
        tried = laws.candidate_runs(one.joint.fit, sizes[["rung", "N"]], **axes)
        by_N = laws.Cost.from_ladder(sizes["N"], cost.flops_per_unit(sizes["params_non_embedding"]))
        budget = float((by_N.flops_per_unit(table["N"]) * table["D"]).max())
        prior = prior_of(study, tables(fitted))
        made = laws.plan(one.joint, by_N, tried, target, budget, level=study.forecasting.level, prior=prior, **axes)
        plans.append(made.assign(objective=one.objective))
    return pd.concat(plans, ignore_index=True) if plans else pd.DataFrame()
