"""A study's laws and forecasts: fitted on the rungs that may be seen, sealed, and scored once the others are opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.files import digest, read_json, whole_file, write_json
from rankscale_utils.measurements import limits, of_runs, read_csv, rising, usable
from rankscale_utils.progress import say
from rankscale_utils.study import Study, StudyError

SERIES = ["objective", "metric", "collection"]
COLUMNS = ["objective", "metric", "rung", "params", "exposure", "forecast", "lo", "hi", "level", "kind", "law"]
BASELINES = ("P0 size", "P0 joint", "no change")
NEEDED = 3  # exposures that show how a curve bends


@dataclass(frozen=True)
class Fitted:
    """One series — an objective, a metric and a collection — with what was fitted to it.

    raw: its measurements; table: the rows that laws see, with N and D. average: the laws that the ladder's past could
    not tell apart. joint: the law of size and exposure that budgets are allocated with. data: a data law for each rung.
    past: every candidate's forecasts of fitted rungs; choice: what followed from them (both of the whole study).
    """

    objective: str
    metric: str
    collection: str
    raw: pd.DataFrame
    average: laws.Average
    joint: laws.Draws | None
    data: dict[str, laws.Fit]
    past: pd.DataFrame
    choice: pd.DataFrame

    @property
    def labels(self) -> dict[str, str]:
        """The series' name, column by column."""
        return {name: getattr(self, name) for name in SERIES}

    @property
    def table(self) -> pd.DataFrame:
        """The rows that laws see."""
        return self.average.series.table

    @property
    def kept(self) -> list[laws.Candidate]:
        """The candidates that are averaged."""
        names = self.choice.loc[self.choice["kept"], "candidate"]
        return [laws.Candidate.named(name) for name in names]

    @property
    def laws(self) -> dict[str, laws.Draws]:
        """The laws that are averaged."""
        return self.average.laws


def with_axes(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the table with N and D, counted as the study wants.

    Raises:
        StudyError: the measurements lack what N or D should count.
    """
    size, exposure = study.forecasting.size, study.forecasting.exposure
    for field, name, column in (("size", size, {"flops_per_pair": "flops"}.get(size, size)),
                                ("exposure", exposure, exposure)):  # fmt: skip
        if column not in table or table[column].isna().any():
            raise StudyError(
                f"forecasting.{field} = {name}: the measurements have no {column} in every row; add the column, or "
                f"count {'params_non_embedding' if field == 'size' else 'exposure'}."
            )
    N = table[size] if size != "flops_per_pair" else (table["flops"] / table["exposure"]).groupby(table["rung"]).transform("mean")  # fmt: skip  # noqa: E501
    return table.assign(N=N.astype(float), D=table[exposure].astype(float))


def prior_of(study: Study, table: pd.DataFrame) -> laws.Prior:
    """Return the prior of the size exponent, stated for non-embedding parameters, for what N counts here."""
    prior = laws.Prior(**study.forecasting.prior.model_dump())
    sizes = table.drop_duplicates("N")
    growth = np.polyfit(np.log(sizes["N"]), np.log(sizes["params_non_embedding"]), 1)[0]
    return prior.on_another_size(float(growth))


def rows_for_laws(raw: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the rows that laws see: after the burn-in, neighbouring checkpoints averaged, with N and D."""
    settings = study.forecasting
    return laws.averaged(with_axes(raw, study), settings.checkpoints, settings.burn_in)


def series_of(raw: pd.DataFrame, study: Study) -> laws.Series:
    """Return one series on the scale where its noise is even; the gap where there are too few checkpoints to tell."""
    first = raw.iloc[0]
    up, known = rising(first["metric"]), limits(first["metric"], first.get("ceiling"))
    uneven = {scale: laws.unevenness(raw, up, known, scale) for scale in ("value", "gap")}
    labels = {name: first[name] for name in SERIES}
    scale = "value" if up and uneven["value"] < uneven["gap"] else "gap"
    return laws.Series(labels, rows_for_laws(raw, study), up, known, scale)


def fit_study(study: Study) -> list[Fitted]:
    """Fit every series of a study to its fitted rungs; the files of held-out rungs are not opened."""
    table = of_runs(study, fitted_only=True)
    wanted = study.forecasting.metrics or tuple(table["metric"].unique())
    groups = usable(table[table["metric"].isin(wanted)]).groupby(SERIES, sort=False)
    raws = [rows.reset_index(drop=True) for _, rows in groups]
    all_series = [series_of(raw, study) for raw in raws]
    prior = prior_of(study, pd.concat([one.table for one in all_series]))
    tried = laws.candidates(all_series)
    past = laws.expanding(all_series, tried, prior)
    choice = laws.choose(past)
    kept = [laws.Candidate.named(name) for name in choice.loc[choice["kept"], "candidate"]]
    found = laws.averages(all_series, kept, prior, study.forecasting.draws)
    joints = _joints(all_series, tried, kept, found, prior, study.forecasting.draws)
    return [
        Fitted(**one.labels, raw=raw, average=average, joint=joint, data=_data_laws(one), past=past, choice=choice)
        for one, raw, average, joint in zip(all_series, raws, found, joints, strict=True)
    ]


def _joints(
    all_series: Sequence[laws.Series],
    tried: Sequence[laws.Candidate],
    kept: Sequence[laws.Candidate],
    found: Sequence[laws.Average],
    prior: laws.Prior,
    draws: int,
) -> list[laws.Draws | None]:
    """The law of size and exposure of each series: the best that was kept, or else the pooled joint law."""
    possible = [one for one in tried if one.form == "joint"]
    best = next((one for one in kept if one.form == "joint"), None)
    if best is not None:
        return [average.laws[best.name] for average in found]
    if not possible:
        return [None] * len(found)
    return possible[0].resample(possible[0].fit(all_series, prior), prior, draws)


def _data_laws(one: laws.Series) -> dict[str, laws.Fit]:
    law = laws.data_law(one.rising, one.limits, one.scale)
    return {
        rung: laws.fit(law, rows, size="N", exposure="D", scale=one.scale)
        for rung, rows in one.table.groupby("rung", sort=False)
        if rows["D"].nunique() >= NEEDED
    }


def held_out_design(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return what is to be forecast, a row for each held-out rung (and series, where a CSV names them), at its end.

    Columns rung, params, params_non_embedding, exposure, N, D, and for the baselines params_nominal and step where the
    measurements have them. A study that trains knows its held-out rungs from their configurations; of a CSV the values
    are dropped.
    """
    if study.measurements is not None:
        table = read_csv(study.measurements_file).drop(columns="value")
        table = usable(table[table["rung"].isin(study.held_out.rungs)])
        ends = at_end(_by_series(table, study))
        wanted = [*SERIES, "rung", "params", "params_non_embedding", "params_nominal", "step", "exposure", "N", "D"]
        ends = ends[[name for name in wanted if name in ends]]
        return ends.drop_duplicates([*SERIES, "rung"]).sort_values("N", kind="stable").reset_index(drop=True)
    ladder = read_json(study.folder / "ladder.json")
    rows = [{"rung": rung, **ladder["rungs"][rung]} for rung in study.held_out.rungs]
    design = pd.DataFrame(rows).assign(exposure=max(ladder["exposures"]))
    seen = pd.concat([one.table for one in fitted])
    return design.assign(N=_along(seen, "params_non_embedding", "N", design), D=_along(seen, "exposure", "D", design))


def _along(seen: pd.DataFrame, x: str, y: str, at: pd.DataFrame) -> np.ndarray:
    """Return y at other x, as the fitted rungs relate them: straight lines in logarithms, straight on beyond."""
    pairs = seen.groupby(x)[y].mean()
    if len(pairs) < 2 or np.allclose(pairs, pairs.index):
        return at[x].to_numpy(float)
    return laws.Cost.from_ladder(pairs.index, pairs).flops_per_unit(at[x])


def at_end(table: pd.DataFrame) -> pd.DataFrame:
    """Return each run's last row of each metric."""
    return table.loc[table.groupby(["run", *SERIES])["exposure"].idxmax()]


def of_series(one: Fitted, design: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a design that belong to a series, which are all of them where it names none."""
    return design.merge(pd.DataFrame([one.labels])) if "objective" in design else design.assign(**one.labels)


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

    Beside an average's interval stand its coverage in simulated studies and, of all intervals that the ladder's own
    past allows, how many held the truth (`past_coverage`, of `past_intervals`).
    The seal holds the hash of the measurements that were fitted, the time, and whether the truth was there to be read
    already (`truth_existed`): always in a CSV, and in a study that trains when its forecasts are made a second time.
    """
    write_json(study.folder / "fits.json", [entry for one in fitted for entry in _fits(one)])
    design = held_out_design(study, fitted)
    calibration = calibrate(study, fitted, design)
    made = [forecast_series(one, place, design, study, calibration) for place, one in enumerate(fitted)]
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


def score_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Open the held-out rungs, score the sealed forecasts and return them all.

    Writes `forecasts.csv` (the averages), `forecasts_by_law.csv`, `baselines.csv` and `measurements.parquet`.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = laws.open_sealed(sealed_file(study))
    if sealed["data_sha256"].iloc[0] != measurements_hash(fitted):
        raise laws.SealBroken(
            f"{sealed_file(study)} was sealed on other measurements than those of the fitted rungs now; run 3_fit again"
        )
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
    along_size = along_size.assign(N=_along(rungs, "params_non_embedding", "N", along_size), D=ends["D"].mean())
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
        along = along.assign(D=_along(one.table, "exposure", "D", along))
        average = laws.Average(one.average.series, knowing)
        made.append(average.forecast(along, level, reach).assign(along="exposure"))
    table = pd.concat(made, ignore_index=True)
    return table[table["kind"] == "mean_law"].assign(**one.labels)


def all_curves(study: Study, fitted: Sequence[Fitted], sealed: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of several series, their bands as wide as the sealed intervals' reach makes them."""
    design = held_out_design(study, fitted)
    reach = sealed.dropna(subset="reach").groupby("kind")["reach"].first()
    reaches = [reach["mean_law"], reach["new_run"]]
    made = [curves(one, design, study.forecasting.level, reaches) for one in fitted]
    return pd.concat(made, ignore_index=True)


def tables(fitted: Sequence[Fitted], *more: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of several series in one table, and further ones below."""
    return pd.concat([*(one.table for one in fitted), *more], ignore_index=True)


def ends(fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return the rows that the size laws were fitted to."""
    return pd.concat([one.average.series.end for one in fitted], ignore_index=True)


def held_out(study: Study) -> pd.DataFrame:
    """Open the held-out rungs' measurements: the rows that laws would have seen."""
    table = usable(of_runs(study, fitted_only=False))
    return _by_series(table[table["rung"].isin(study.held_out.rungs)], study)


def _by_series(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the rows that laws see, of every series."""
    rows = [rows_for_laws(rows, study) for _, rows in table.groupby(SERIES, sort=False)]
    return pd.concat(rows, ignore_index=True)


def next_runs(study: Study, fitted: Sequence[Fitted], metric: str, cost: laws.Cost) -> pd.DataFrame:
    """Plan what to train next with as much compute as the largest fitted run took: see `laws.plan`.

    Returns for each objective the runs that narrow the metric's forecast of the largest held-out rung most per FLOP, in
    order, with the columns of `laws.plan`, objective and kind; no rows where a law has no spare run to judge it by.
    """
    design, plans = held_out_design(study, fitted), []
    for one in fitted if study.forecasting.exposure == "exposure" else []:  # budgets are counted in pairs
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
