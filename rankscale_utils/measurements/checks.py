"""Whether measurements can be used: every number a number, every key one value, nothing beyond its limits."""

import re
import unicodedata
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa

from rankscale_utils.errors import StudyError

from .cells import LABELS, Origin
from .directions import RISES, UNSTATED, Directions, known_direction
from .table import DEFAULTS, NUMBERS, ONE_ROW, REFERENCES, RERANK, SCHEMA, SEARCH, SERIES_COLUMNS, failed, limits

LEAST_PARAMS = 1000  # of a ranker; fewer are millions, or billions
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
OTHER_UNIT = 100  # a size that is wrong by more is in another unit than its rung's name
FORMULA = r"=|[@+\-].*[(|!]"  # how a cell begins that a spreadsheet computes
ROUNDING = 5e-4  # by which a value may pass its ceiling, as either may be written with three digits


class OneValue(NamedTuple):
    """Columns of which each key has one value; `said` names a key in a message, `remedy` what else may be done."""

    keys: list[str]
    columns: list[str]
    said: str
    remedy: str


ONE_VALUE = (
    OneValue(["run"], ["objective", "rung", "seed"], "run {run}", "give rungs and objectives names without dashes"),
    OneValue(
        ["objective", "rung"],
        ["params", "params_non_embedding", "params_nominal"],
        "rung {rung} of {objective}",
        "give models of another size a rung of their own",
    ),
    OneValue(
        ["run", "exposure"],
        ["queries", "tokens", "flops"],
        "run {run} at exposure {exposure:.15g}",
        "give runs different seeds",
    ),
    OneValue(
        SERIES_COLUMNS,
        list(REFERENCES),
        "{metric} of {objective} on {collection}",
        "give other candidates a collection of their own",
    ),
)


def validated(table: pd.DataFrame, origin: Origin, stated: Directions = UNSTATED) -> pd.DataFrame:
    """Return the table, its numbers as numbers, when it keeps the schema; its index holds the origin's numbers.

    Raises:
        StudyError: one sentence for the first thing wrong, with its line, column, value and the remedy.
    """
    table = table.assign(**{column: word for column, word in DEFAULTS.items() if column not in table})
    for column in LABELS:
        if (empty := table[column].isna()).any():
            raise StudyError(f"{origin.at(empty.idxmax())}: {column} is empty: fill it in or drop the row.")
        if (formula := table[column].str.match(FORMULA)).any():
            raise StudyError(
                f"{origin.at(formula.idxmax())}: {column} = {table[column][formula].iloc[0]!r} is a formula, which "
                "spreadsheets run where they open the results: rename it."
            )
    if (strange := ~table["task"].isin([RERANK, SEARCH])).any():
        raise StudyError(
            f"{origin.at(strange.idxmax())}: task = {table['task'][strange].iloc[0]!r}: must be {RERANK} or {SEARCH}; "
            "correct it, or give the column another name."
        )
    if "excluded" in table:
        table["excluded"] = table["excluded"].fillna("")
    for column in [column for column in NUMBERS if column in table]:
        table[column] = numbers(table, column, origin)
    _refuse_beyond_limits(table, origin, stated)
    _refuse_repeats(table, origin)
    try:
        return SCHEMA.validate(table)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise StudyError(f"{origin.name}: {' '.join(str(error).split())[:200]}.") from None


def numbers(table: pd.DataFrame, column: str, origin: Origin) -> pd.Series:
    """Return a column as numbers.

    Raises:
        StudyError: a cell is none, or not one that the column may hold.
    """
    cells, (must_be, holds) = table[column], NUMBERS[column]
    found = pd.to_numeric(cells, errors="coerce")
    spared = failed(table) if column == "value" else cells.isna() & SCHEMA.columns[column].nullable
    wrong = ~(holds(found) & np.isfinite(found) | spared)
    if not wrong.any():
        return found
    cell, number = cells[wrong].iloc[0], found[wrong].iloc[0]
    shown = "is empty" if pd.isna(cell) else f"= {str(cell)!r}" if pd.isna(number) else f"= {cell}"
    raise StudyError(f"{origin.at(wrong.idxmax())}: {column} {shown}: must be {must_be}; correct or drop the row.")


def _refuse_beyond_limits(table: pd.DataFrame, origin: Origin, stated: Directions) -> None:
    """A metric that rises is a share, and no higher than the ceiling of its candidates."""
    directions = {metric: stated.get(metric) or known_direction(metric) for metric in table["metric"].unique()}
    rises = (table["metric"].map(directions) == RISES) & ~failed(table)
    most = limits(rises=True)[1]
    for column in [column for column in ("value", *REFERENCES) if column in table]:
        if (wrong := rises & (table[column] > most)).any():
            row = table[wrong].iloc[0]
            raise StudyError(
                f"{origin.at(wrong.idxmax())}: {_quantity(row, column)} is above {most:g}, the most that it can be: "
                "give it as a share, not in percent."
            )
        if "ceiling" in table and (wrong := rises & (table[column] > table["ceiling"] + ROUNDING)).any():
            row = table[wrong].iloc[0]
            raise StudyError(
                f"{origin.at(wrong.idxmax())}: {_quantity(row, column)} is above its ceiling, {row['ceiling']:g} "
                "in the same row, which no reranking of these candidates can pass: correct one of them."
            )


def _quantity(row: pd.Series, column: str) -> str:
    return f"{row['metric']} = {row[column]}" if column == "value" else f"{column} = {row[column]} of {row['metric']}"


def refuse_other_units(table: pd.DataFrame, origin: Origin) -> None:
    """Make sure that sizes count parameters, and not millions of them: no ranker has 17.

    Raises:
        StudyError: a size cannot be, beside the other count of the same model or the name of its rung.
    """
    params, inner = table["params"], table["params_non_embedding"]
    if (wrong := params < LEAST_PARAMS).any():
        raise StudyError(
            f"{origin.at(wrong.idxmax())}: params = {_written(params[wrong].iloc[0])}: no ranker is so small: count "
            "single parameters, not thousands or millions."
        )
    if (wrong := inner > params).any():
        row = table[wrong].iloc[0]
        raise StudyError(
            f"{origin.at(wrong.idxmax())}: params_non_embedding = {_written(row['params_non_embedding'])} is more than "
            f"params = {_written(row['params'])}, which counts all parameters: correct one of them."
        )
    named = table["rung"].map(_size_in_name)
    wrong = pd.concat([abs(np.log(named / count)) > np.log(OTHER_UNIT) for count in (params, inner)], axis=1).all(
        axis=1
    )
    if wrong.any():
        row = table[wrong].iloc[0]
        raise StudyError(
            f"{origin.at(wrong.idxmax())}: rung {row['rung']} has params = {_written(row['params'])}: count single "
            "parameters, or rename the rung."
        )


def _size_in_name(rung: str) -> float:
    """Return the size that a rung's name says, such as 17m or 1.5B."""
    size = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb])", rung.lower())
    return float(size[1]) * UNITS[size[2]] if size else np.nan


def _refuse_repeats(table: pd.DataFrame, origin: Origin) -> None:
    if not (repeated := table.duplicated(ONE_ROW)).any():
        return
    second = repeated.idxmax()
    row = table.loc[second]
    first = _first_like(table, row, ONE_ROW)
    raise StudyError(
        f"{origin.at(first, second)} both hold run {row['run']} at exposure {row['exposure']:.15g} for "
        f"{row['metric']} on {row['collection']}, as {table['value'][first]:.6g} and {row['value']:.6g}: drop one of "
        "the rows, or give them different seeds."
    )


def refuse_two_values(table: pd.DataFrame, origin: Origin) -> None:
    """Make sure that rows agree on what they share: a label's spelling, a rung's size, a run's FLOPs, a ceiling.

    Raises:
        StudyError: two rows do not; it names both.
    """
    _refuse_two_spellings(table, origin)
    for keys, columns, said, remedy in ONE_VALUE:
        for column in [column for column in columns if column in table]:
            known = table[table[column].notna()]
            other = known[column] != known.groupby(keys, sort=False)[column].transform("first")
            if other.any():
                second = other.idxmax()
                row = known.loc[second]
                first = _first_like(known, row, keys)
                values = " and ".join(_written(value) for value in (known[column][first], row[column]))
                raise StudyError(
                    f"{origin.at(first, second)}: {said.format(**row)} has {column} = {values}: correct one of them, "
                    f"or {remedy}."
                )


def _refuse_two_spellings(table: pd.DataFrame, origin: Origin) -> None:
    """`17M` and `17m` would be two rungs, and `ndcg@10` and `nDCG@10` two metrics, of half the rows each."""
    for column in LABELS:
        firsts = table.drop_duplicates(column)[column]
        folded = firsts.map(_folded)
        if (again := folded.duplicated()).any():
            second = again.idxmax()
            first = (folded == folded[second]).idxmax()
            pair = [firsts[first], firsts[second]]
            written = ascii if len({unicodedata.normalize("NFKC", label) for label in pair}) == 1 else repr
            raise StudyError(
                f"{origin.at(first, second)}: {column} is {' and '.join(map(written, pair))}, which only case, blanks "
                "or signs that nobody sees tell apart: write one of them everywhere."
            )


def _folded(label: str) -> str:
    """Return a label without what readers do not see or take for the same: case, blanks, ways to write an accent."""
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", label) if unicodedata.category(sign) != "Cf")
    return " ".join(seen.split()).casefold()


def _first_like(table: pd.DataFrame, row: pd.Series, keys: list[str]) -> int:
    """Return the number of the first row with the same keys."""
    return (table[keys] == row[keys]).all(axis=1).idxmax()


def _written(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, int | float) else str(value)
