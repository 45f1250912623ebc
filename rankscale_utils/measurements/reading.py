"""Measurements read from a user's CSV or a study's runs, checked line by line."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_parquet
from rankscale_utils.study import paths
from rankscale_utils.study.arguments import checked
from rankscale_utils.study.study import Run, Study

from .arguments import table_or_file
from .cells import Cells, Origin, cells_of_file, cells_of_table
from .changes import Change
from .checks import numbers, refuse_other_units, refuse_two_values, validated
from .directions import UNSTATED, Directions, check_directions
from .mean_of_tests import with_mean
from .table import REQUIRED, check_headline_test, measured_rows

Metrics = Sequence[str] | Directions  # names, perhaps with their directions


@checked(measurements=table_or_file)
def read_measurements(measurements: pd.DataFrame | Path | str) -> pd.DataFrame:
    """Return measurements of one's own, checked line by line as a study's CSV is; a table is checked as if written.

    Parameters
    ----------
    measurements
        The path of a CSV (also .gz) or .parquet, or a table, with a row for every measurement, and the columns
        objective, rung, params (all parameters), exposure (training pairs seen), collection, metric (in ir-measures'
        notation, or an entropy such as CE64, in nats) and value (a share, not in percent). Where known also
        params_non_embedding (else params), seed (else 0), queries, tokens and flops that training took, ceiling,
        first_stage and random_order (what a perfect reranking, the order as retrieved and, on average, a random order
        score), task (rerank the candidates, or search among all documents; else rerank), score (by which an ED2LM
        ranks; else own) and excluded (why a row is no measurement). Others are carried along.

    Returns
    -------
    pandas.DataFrame
        The rows with all of these columns that are known, and `run`, the independent run: objective-rung-seed.

    Raises
    ------
    StudyError
        There is no such file, a column is missing, a cell is wrong or rows repeat; one sentence says where.

    Examples
    --------
    >>> import pandas as pd, rankscale_utils as rankscale
    >>> row = {"objective": "listwise", "rung": "17m", "params": 17e6, "exposure": 1000, "collection": "dev",
    ...        "metric": "nDCG@10", "value": 0.31}
    >>> rankscale.read_measurements(pd.DataFrame([row]))[["run", "params_non_embedding", "value"]]
                    run  params_non_embedding  value
    0  listwise-17m-s0            17000000.0   0.31
    >>> rankscale.read_measurements(pd.DataFrame([row | {"value": 31.0}]))
    Traceback (most recent call last):
    rankscale_utils.errors.StudyError: measurements, row 0: nDCG@10 = 31.0 is above 1, the most that it can be: give \
it as a share, not in percent.
    """
    return _read(_cells_of(measurements)).table


class Reading(NamedTuple):
    """Measurements, and what was dropped or filled in when they were read."""

    table: pd.DataFrame
    changes: list[Change]


def read_ladder(
    measurements: pd.DataFrame | Path, metrics: Metrics, held_out: Sequence[str], mean_of_tests: bool = False
) -> Reading:
    """Return measurements of one's own from which rungs are held out; see `read_measurements`.

    metrics: those that are wanted, all where there are none, perhaps with their directions. mean_of_tests: whether the
    mean over all tests is one more.

    Raises:
        StudyError: they cannot be used, a rung cannot be held out, or a wanted metric's direction is not known.
    """
    reading = _read(_cells_of(measurements), metrics if isinstance(metrics, Mapping) else UNSTATED)
    table = reading.table
    check_held_out(table, held_out)
    if unknown := [metric for metric in metrics if metric not in set(table["metric"])]:
        known = ", ".join(table["metric"].unique())
        raise StudyError(f"metrics {unknown} have no row in the measurements: name some of {known}.")
    check_directions(measured_rows(table), metrics, held_out)
    return reading._replace(table=with_mean(table)) if mean_of_tests else reading


def _cells_of(measurements: pd.DataFrame | Path) -> Cells:
    return cells_of_table(measurements) if isinstance(measurements, pd.DataFrame) else cells_of_file(measurements)


def _read(cells: Cells, stated: Directions = UNSTATED) -> Reading:
    table, origin, changes = cells
    name = origin.name
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise StudyError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: it has "
            f"{', '.join(table.columns)}; rename or add what is missing."
            + " Metrics that have a column each become rows by pandas' melt."
            * ({"metric", "value"} <= set(missing))
        )
    if table.empty:
        raise StudyError(f"{name} has no rows: add a row for every measurement.")
    filled = {"seed": "0", "params_non_embedding": "params"}
    changes += [
        Change(f"rows got {column} = {what}, as there is no such column", len(table), name)
        for column, what in filled.items()
        if column not in table
    ]
    if "seed" not in table:
        table["seed"] = 0
    if "params_non_embedding" not in table:
        table["params_non_embedding"] = table["params"]
    table["seed"] = numbers(table, "seed", origin).astype(int)
    table["run"] = table["objective"] + "-" + table["rung"] + "-s" + table["seed"].astype(str)
    table = validated(table, origin, stated)
    refuse_two_values(table, origin)
    refuse_other_units(table, origin)
    return Reading(table.reset_index(drop=True), changes)


def check_held_out(table: pd.DataFrame, held_out: Sequence[str]) -> None:
    """Make sure that rungs can be held out and something is left to fit.

    Raises:
        StudyError: a held-out rung has no row, or fewer than three rungs are left to fit.
    """
    rungs, measured = list(table["rung"].unique()), list(measured_rows(table)["rung"].unique())
    absent = [rung for rung in held_out if rung not in rungs]
    if absent:
        raise StudyError(
            f"held_out.rungs {absent} have no row in the measurements, whose rungs are {rungs}: correct them."
        )
    if failed_all := [rung for rung in held_out if rung not in measured]:
        raise StudyError(f"held_out.rungs {failed_all}: every row of them is excluded: hold out what was measured.")
    left = [rung for rung in measured if rung not in held_out]
    if len(left) < 3:
        without = [rung for rung in rungs if rung not in measured]
        told = f", as every row of {', '.join(without)} is excluded" if without else ""
        raise StudyError(f"{len(left)} rungs are left to fit{told}: a size law needs three or more.")


def read_of_study(study: Study) -> Reading:
    """Return the measurements that a study brings.

    Raises:
        StudyError: they cannot be used.
    """
    path = study.measurements_file
    if not path.is_file():
        raise StudyError(
            f"measurements = {str(path)!r}: {'this is a folder' if path.is_dir() else 'there is no such file'}; "
            "correct the path, which in a study is relative to its YAML."
        )
    settings, status = study.forecasting, path.stat()
    asked = (tuple(settings.metrics), tuple(settings.directions.items()), tuple(study.held_out.rungs))
    reading = _read_once(path, (status.st_ctime_ns, status.st_mtime_ns, status.st_size), *asked, settings.mean_of_tests)
    check_headline_test(study.headline_test, reading.table["collection"])
    return Reading(reading.table.copy(), [*reading.changes])


@lru_cache(maxsize=1)
def _read_once(
    path: Path,
    version: tuple[int, ...],  # a file that has changed is read again
    metrics: tuple[str, ...],
    directions: tuple[tuple[str, str], ...],
    held_out: tuple[str, ...],
    mean_of_tests: bool,
) -> Reading:
    return read_ladder(path, dict(directions) or metrics, held_out, mean_of_tests)


def study_measurements(study: Study, fitted_only: bool) -> pd.DataFrame:
    """Return the study's measurements; with `fitted_only` the files of held-out rungs are not even opened.

    Raises:
        StudyError: a run has not been evaluated, none left a measurement, or a row is wrong.
    """
    if study.measurements is not None:
        table = read_of_study(study).table
        return table[~table["rung"].isin(study.held_out.rungs)] if fitted_only else table
    table = read_runs(study, study.fitted_runs if fitted_only else study.runs)
    return with_mean(table) if study.forecasting.mean_of_tests else table


def read_runs(study: Study, runs: Sequence[Run]) -> pd.DataFrame:
    """Return the measurements of these runs; no other run's file is opened.

    Raises:
        StudyError: a run has not been evaluated, none left a measurement, a file is damaged, or a row is wrong.
    """
    files = [paths.measurements_file(study.run_folder(run)) for run in runs]
    absent = [file.parent.name for file in files if not file.exists()]
    if absent:
        raise StudyError(f"run {absent[0]} has not been evaluated: run `make study STUDY={study.name}` first.")
    tables = [table for table in map(read_parquet, files) if len(table)]  # a run may fail before its first one
    if not tables:
        raise StudyError(f"none of {len(runs)} runs left a measurement: lower the learning rate, for they diverged.")
    return validated(pd.concat(tables, ignore_index=True), Origin("measurements"))
