"""A study's laws and forecasts: fitted on the rungs that may be seen, sealed, and scored once the others are opened."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.files import digest, read_json, whole_file, write_json
from rankscale_utils.measurements import limits, of_runs, read_csv, rising, usable
from rankscale_utils.progress import say
from rankscale_utils.study import Study

SERIES = ["objective", "metric", "collection"]
COLUMNS = ["objective", "metric", "collection", "rung", "params", "params_non_embedding", "exposure", "law", "kind"]


@dataclass(frozen=True)
class Fitted:
    """One series — an objective, a metric and a collection — with what was fitted to it.

    table: its measurements. size: the size law at the largest exposure; joint: size and exposure together; data: a
    data law for each rung that has three exposures or more.
    """

    objective: str
    metric: str
    collection: str
    table: pd.DataFrame
    size: laws.Draws
    joint: laws.Draws | None
    data: dict[str, laws.Fit]

    @property
    def labels(self) -> dict[str, str]:
        """The series' name, column by column."""
        return {name: getattr(self, name) for name in SERIES}

    @property
    def laws(self) -> dict[str, laws.Draws]:
        """The laws that forecast, the joint one first where there is one."""
        return {name: draws for name, draws in (("joint", self.joint), ("size", self.size)) if draws is not None}


def series(table: pd.DataFrame, study: Study) -> Iterator[pd.DataFrame]:
    """Yield the usable rows of every objective, metric and collection that the study forecasts."""
    wanted = study.forecasting.metrics or tuple(table["metric"].unique())
    for _, rows in usable(table[table["metric"].isin(wanted)]).groupby(SERIES, sort=False):
        yield rows.reset_index(drop=True)


def fit_series(table: pd.DataFrame, draws: int) -> Fitted:
    """Fit and resample every law of one series."""
    first = table.iloc[0]
    known = limits(first["metric"], first.get("ceiling"))
    law = {"rising": rising(first["metric"]), "limits": known}
    size = laws.resample(laws.fit(laws.size_law(**law), at_end(table)), draws=draws)
    joint = None
    if table["exposure"].nunique() >= 3:
        joint = laws.resample(laws.fit(laws.joint_law(**law), table), draws=draws)
    data = {
        rung: laws.fit(laws.data_law(**law), rows)
        for rung, rows in table.groupby("rung", sort=False)
        if rows["exposure"].nunique() >= 3
    }
    return Fitted(*(first[name] for name in SERIES), table, size, joint, data)


def at_end(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at the largest exposure that every rung has; where they share none, the last one of each run."""
    shared = set.intersection(*(set(rows) for _, rows in table.groupby("rung")["exposure"]))
    if shared:
        return table[table["exposure"] == max(shared)]
    return table.loc[table.groupby("run")["exposure"].idxmax()]


def fit_study(study: Study) -> list[Fitted]:
    """Fit every series of a study to its fitted rungs; the files of held-out rungs are not opened."""
    table = of_runs(study, fitted_only=True)
    return [fit_series(rows, study.forecasting.draws) for rows in series(table, study)]


def held_out_design(study: Study) -> pd.DataFrame:
    """Return what is to be forecast: rung, its sizes, exposure, and the series where the study's CSV names them.

    A study that trains knows its held-out rungs from their configurations; of a CSV the values are dropped.
    """
    if study.measurements is not None:
        table = read_csv(study.measurements_file).drop(columns="value")
        table = table[table["rung"].isin(study.held_out.rungs)]
        return table[[*SERIES, "rung", "params", "params_non_embedding", "exposure"]].drop_duplicates()
    ladder = read_json(study.folder / "ladder.json")
    rows = [{"rung": rung, **ladder["rungs"][rung]} for rung in study.held_out.rungs]
    exposures = pd.DataFrame({"exposure": ladder["exposures"]})
    return pd.DataFrame(rows)[["rung", "params", "params_non_embedding"]].merge(exposures, how="cross")


def forecast_series(fitted: Fitted, design: pd.DataFrame, level: float, simulations: int) -> pd.DataFrame:
    """Forecast the held-out rows of one series with every law, each interval beside its coverage in simulation.

    `coverage` is how often intervals made this way held the truth in studies of this very design, simulated with the
    noise found in it; the size law speaks of the largest fitted exposure only.
    """
    at = design.assign(**fitted.labels)
    if "objective" in design:
        at = design.merge(pd.DataFrame([fitted.labels]))
    tables = []
    for name, draws in fitted.laws.items():
        rows = at if name == "joint" else at[at["exposure"] == at_end(fitted.table)["exposure"].max()]
        if rows.empty:
            continue
        made = laws.forecast(draws, rows, level=level)
        audited = laws.coverage(draws, rows, level=level, simulations=simulations)
        keys = [*SERIES, "rung", "exposure", "kind"]
        tables.append(made.merge(audited[[*keys, "coverage", "simulations"]], on=keys))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def seal_study(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Write `fits.json` and `sealed_forecasts.csv`; return the sealed forecasts.

    The seal holds the hash of the measurements that were fitted, the time, and whether the truth was there to be read
    already (`truth_existed`): always in a CSV, and in a study that trains when its forecasts are made a second time.
    """
    write_json(study.folder / "fits.json", [entry for one in fitted for entry in _fits(one)])
    settings = {"level": study.forecasting.level, "simulations": study.forecasting.simulations}
    work = partial(forecast_series, design=held_out_design(study), **settings)
    tables = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # a kernel has threads, which forking breaks
        for one, table in zip(fitted, pool.map(work, fitted), strict=True):
            say(f"{study.name}: forecast {one.objective} {one.metric}")
            tables.append(table)
    forecasts = pd.concat(tables, ignore_index=True)
    ordered = [*COLUMNS, *(column for column in forecasts if column not in COLUMNS)]
    forecasts = forecasts[ordered].assign(truth_existed=truth_exists(study))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return laws.seal_forecasts(sealed_file(study), forecasts, measurements_hash(fitted), now)


def truth_exists(study: Study) -> bool:
    """Whether anything of the held-out rungs has been trained or measured yet."""
    held_out_runs = [run for run in study.runs if run.rung in study.held_out.rungs]
    trained = any((study.run_folder(run) / "ledger.json").exists() for run in held_out_runs)
    return study.measurements is not None or trained


def measurements_hash(fitted: list[Fitted]) -> str:
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
    """Open the held-out rungs, score the sealed forecasts, and write `forecasts.csv` and `measurements.parquet`.

    Raises:
        SealBroken: the forecasts, or the measurements that they were made from, are not what was sealed.
    """
    sealed = laws.open_sealed(sealed_file(study))
    if sealed["data_sha256"].iloc[0] != measurements_hash(fitted):
        raise laws.SealBroken(
            f"{sealed_file(study)} was sealed on other measurements than those of the fitted rungs now; run 3_fit again"
        )
    table = of_runs(study, fitted_only=False)
    scored = laws.score(sealed, held_out(study))
    with whole_file(study.folder / "measurements.parquet") as temporary:
        table.to_parquet(temporary)
    with whole_file(study.folder / "forecasts.csv") as temporary:
        scored.to_csv(temporary, index=False)
    return scored


def backtests(fitted: list[Fitted], level: float) -> pd.DataFrame:
    """Forecast every fitted rung from the smaller ones, at the largest exposure: the ladder's own past."""
    tables = [
        laws.backtest(draws.fit.law, one.table if name == "joint" else at_end(one.table), level=level, draws=400)
        for one in fitted
        for name, draws in one.laws.items()
    ]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def curves(fitted: Fitted, design: pd.DataFrame, level: float, points: int = 40) -> pd.DataFrame:
    """Return every law of a series as lines with bands (kind mean_law), to be drawn.

    Rows: along size at the largest exposure (`along` = size), and for the joint law along exposure at every fitted and
    held-out rung (`along` = exposure).
    """
    rungs = pd.concat([fitted.table, design])[["rung", "params_non_embedding"]].drop_duplicates("rung")
    sizes = rungs["params_non_embedding"]
    end, start = at_end(fitted.table)["exposure"].max(), fitted.table["exposure"].min()
    along_size = pd.DataFrame({"params_non_embedding": np.geomspace(sizes.min(), sizes.max(), points), "exposure": end})
    tables = [laws.forecast(d, along_size, level=level).assign(along="size") for d in fitted.laws.values()]
    if fitted.joint is not None:
        exposures = pd.DataFrame({"exposure": np.geomspace(start, fitted.table["exposure"].max(), points)})
        along = rungs.merge(exposures, how="cross")
        tables.append(laws.forecast(fitted.joint, along, level=level).assign(along="exposure"))
    table = pd.concat(tables, ignore_index=True)
    return table[table["kind"] == "mean_law"].assign(**fitted.labels)


def all_curves(study: Study, fitted: list[Fitted]) -> pd.DataFrame:
    """Return the curves of several series."""
    design = held_out_design(study)
    return pd.concat([curves(one, design, study.forecasting.level) for one in fitted], ignore_index=True)


def tables(fitted: list[Fitted], *more: pd.DataFrame) -> pd.DataFrame:
    """Return the measurements of several series in one table, and further ones below."""
    return pd.concat([*(one.table for one in fitted), *more], ignore_index=True)


def ends(fitted: list[Fitted]) -> pd.DataFrame:
    """Return the measurements that the size laws were fitted to."""
    return pd.concat([at_end(one.table) for one in fitted], ignore_index=True)


def held_out(study: Study) -> pd.DataFrame:
    """Open the held-out rungs' measurements."""
    table = of_runs(study, fitted_only=False)
    return usable(table[table["rung"].isin(study.held_out.rungs)])


def at_exposure_of(table: pd.DataFrame, fitted: list[Fitted]) -> pd.DataFrame:
    """Return a table's rows at the exposure of each series' size law."""
    keys = ends(fitted)[[*SERIES, "exposure"]].drop_duplicates()
    return table.merge(keys, on=[*SERIES, "exposure"])
