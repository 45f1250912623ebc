"""Measurements read from a user's CSV or a study's runs, checked line by line."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.encoding import decode_utf8, instead_of_utf8
from rankscale_utils.machine.files import read_parquet
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

from .table import DEFAULTS, NUMBERS, ONE_ROW, REQUIRED, RERANK, SCHEMA, SEARCH, WORDS, failed, limits, measured_rows

MISSING = ["", "NA", "N/A", "NaN", "nan", "None", "null", "NULL", "<NA>"]  # of a number that there is not


def read_measurements(measurements: pd.DataFrame | Path | str) -> pd.DataFrame:
    """Return measurements of one's own, checked line by line as a study's CSV is; a table is checked as if written.

    Parameters
    ----------
    measurements
        A CSV's path or a table with a row for every measurement, and the columns objective, rung, params (all
        parameters), exposure (training pairs seen), collection, metric (in ir-measures' notation, or an entropy such
        as CE64, in nats) and value (a share, not in percent). Where known also params_non_embedding (else params),
        seed (else 0), queries, tokens and flops that training took, ceiling and first_stage (what a perfect reranking
        and the order as retrieved score), task (rerank the candidates, or search among all documents; else rerank),
        score (by which an ED2LM ranks; else own) and excluded (why a row is no measurement). Others are carried along.

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
    rankscale_utils.errors.StudyError: measurements, line 2: nDCG@10 = 31.0 is above 1, the most that it can be: give \
it as a share, not in percent.
    """
    if isinstance(measurements, pd.DataFrame):
        return _read(measurements.to_csv(index=False), "measurements")
    return read_csv(Path(measurements))


def read_csv(path: Path) -> pd.DataFrame:
    """Return the measurements of a CSV; see `read_measurements`."""
    if not path.is_file():
        raise StudyError(
            f"measurements = {str(path)!r}: there is no such file; correct the path, which in a study is relative to "
            "its YAML."
        )
    return _read(_text(path), path.name)


def _read(text: str, name: str) -> pd.DataFrame:
    table = _cells(text, name)
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise StudyError(
            f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: it has "
            f"{', '.join(table.columns)}; rename or add what is missing."
        )
    if table.empty:
        raise StudyError(f"{name} has no rows: add a row for every measurement.")
    if "seed" not in table:
        table["seed"] = 0
    if "params_non_embedding" not in table:
        table["params_non_embedding"] = table["params"]
    table["seed"] = _numbers(table, "seed", name).astype(int)
    table["run"] = table["objective"] + "-" + table["rung"] + "-s" + table["seed"].astype(str)
    return validated(table, name).reset_index(drop=True)


def _cells(text: str, name: str) -> pd.DataFrame:
    """Return a CSV's rows, known columns as written; the index counts lines, so that every message can name them."""
    try:
        labels = [*WORDS, *DEFAULTS]
        as_written = dict.fromkeys([*labels, *NUMBERS, "excluded"], str)
        columns = _column_names(text, name)
        missing = {column: [""] if column in labels else MISSING for column in columns}  # NA and None are labels
        table = pd.read_csv(
            StringIO(text),
            names=columns,
            header=0,
            dtype=as_written,
            keep_default_na=False,
            na_values=missing,
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise StudyError(f"{name} is empty: write a line of column names and a row for every measurement.") from None
    except pd.errors.ParserError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise StudyError(f"{name} is no CSV in UTF-8: {reason}; correct that line.") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise StudyError(f"{name} has rows with more cells than there are column names: name every column.")
    words = [column for column in table if pd.api.types.is_string_dtype(table[column])]
    return table.assign(**{column: table[column].str.strip() for column in words}).dropna(how="all")


def _column_names(text: str, name: str) -> list[str]:
    """Return the names in a CSV's first line, without blanks around them."""
    columns = [column.strip() for column in next(csv.reader(StringIO(text)), [])]
    if not columns:
        raise pd.errors.EmptyDataError
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise StudyError(f"{name} has the column {twice[0]} twice: remove one of them.")
    return columns


def _text(path: Path) -> str:
    """Return a file's text, once it is in UTF-8 and commas part its cells."""
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if (text := decode_utf8(line)) is None:
            raise StudyError(f"{path.name} {instead_of_utf8(lines[0], line, number)}.")
        if number == 1 and "," not in text:
            for sign, name in ((";", "semicolons"), ("\t", "tabs")):
                if sign in text:
                    raise StudyError(
                        f"{path.name} parts its cells by {name}, and may write decimal commas: save it with commas "
                        f"between cells and decimal points, such as by pandas.read_csv(FILE, sep={sign!r}, decimal=',')"
                        ".to_csv(FILE, index=False)."
                    )
    return b"\n".join(lines).decode("utf-8-sig")


def validated(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the table, its numbers as numbers, when it keeps the schema.

    Raises:
        StudyError: one sentence for the first thing wrong, with its line, column, value and the remedy.
    """
    table = table.assign(**{column: word for column, word in DEFAULTS.items() if column not in table})
    for column in [*WORDS, *DEFAULTS]:
        if (empty := table[column].isna()).any():
            raise StudyError(f"{name}, line {_line(empty)}: {column} is empty: fill it in or drop the row.")
    if (strange := ~table["task"].isin([RERANK, SEARCH])).any():
        raise StudyError(
            f"{name}, line {_line(strange)}: task = {table['task'][strange].iloc[0]!r}: must be {RERANK} or {SEARCH}; "
            "correct it, or give the column another name."
        )
    if "excluded" in table:
        table["excluded"] = table["excluded"].fillna("")
    for column in [column for column in NUMBERS if column in table]:
        table[column] = _numbers(table, column, name)
    _refuse_percent(table, name)
    _refuse_repeats(table, name)
    try:
        return SCHEMA.validate(table)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise StudyError(f"{name}: {' '.join(str(error).split())[:200]}.") from None


def _line(wrong: pd.Series) -> int:
    """Return the line of the first row that is wrong; the header is line 1."""
    return wrong.idxmax() + 2


def _numbers(table: pd.DataFrame, column: str, name: str) -> pd.Series:
    cells, (must_be, holds) = table[column], NUMBERS[column]
    numbers = pd.to_numeric(cells, errors="coerce")
    spared = failed(table) if column == "value" else cells.isna() & SCHEMA.columns[column].nullable
    wrong = ~(holds(numbers) & np.isfinite(numbers) | spared)
    if not wrong.any():
        return numbers
    cell, number = cells[wrong].iloc[0], numbers[wrong].iloc[0]
    shown = "is empty" if pd.isna(cell) else f"= {str(cell)!r}" if pd.isna(number) else f"= {cell}"
    raise StudyError(f"{name}, line {_line(wrong)}: {column} {shown}: must be {must_be}; correct or drop the row.")


def _refuse_percent(table: pd.DataFrame, name: str) -> None:
    high = table["metric"].map(lambda metric: limits(metric)[1])
    wrong = (table["value"] > high) & ~failed(table)
    if wrong.any():
        row = table[wrong].iloc[0]
        raise StudyError(
            f"{name}, line {_line(wrong)}: {row['metric']} = {row['value']} is above {high[wrong].iloc[0]:g}, the most "
            "that it can be: give it as a share, not in percent."
        )


def _refuse_repeats(table: pd.DataFrame, name: str) -> None:
    repeated = table.duplicated(ONE_ROW)
    if repeated.any():
        row = table[repeated].iloc[0]
        raise StudyError(
            f"{name}, line {_line(repeated)} repeats run {row['run']} at exposure {row['exposure']:.15g} for "
            f"{row['metric']} on {row['collection']}: drop one of the rows, or give them different seeds."
        )


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


def study_measurements(study: Study, fitted_only: bool) -> pd.DataFrame:
    """Return the study's measurements; with `fitted_only` the files of held-out rungs are not even opened.

    Raises:
        StudyError: a run has not been evaluated, none left a measurement, or a row is wrong.
    """
    if study.measurements is not None:
        table = read_csv(study.measurements_file)
        check_held_out(table, study.held_out.rungs)
        return table[~table["rung"].isin(study.held_out.rungs)] if fitted_only else table
    return read_runs(study, study.fitted_runs if fitted_only else study.runs)


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
    return validated(pd.concat(tables, ignore_index=True), "measurements")
