"""Whether measurements can be used: every number a number, every key one value, nothing beyond its limits."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa

from rankscale_utils.errors import StudyError

from .cells import LABELS, Origin
from .directions import RISES, UNSTATED, Directions, known_direction
from .table import DEFAULTS, NUMBERS, ONE_ROW, REFERENCES, RERANK, SCHEMA, SEARCH, SERIES_COLUMNS, failed, limits

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
    if (wrong := rises & (table["value"] > most)).any():
        row = table[wrong].iloc[0]
        raise StudyError(
            f"{origin.at(wrong.idxmax())}: {row['metric']} = {row['value']} is above {most:g}, the most that it can "
            "be: give it as a share, not in percent."
        )
    if "ceiling" in table and (wrong := rises & (table["value"] > table["ceiling"] + ROUNDING)).any():
        row = table[wrong].iloc[0]
        raise StudyError(
            f"{origin.at(wrong.idxmax())}: {row['metric']} = {row['value']} is above its ceiling, {row['ceiling']:g} "
            "in the same row, which no reranking of these candidates can pass: correct one of them."
        )


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
        folded = firsts.map(lambda label: " ".join(label.split()).casefold())
        if (again := folded.duplicated()).any():
            second = again.idxmax()
            first = (folded == folded[second]).idxmax()
            raise StudyError(
                f"{origin.at(first, second)}: {column} is {firsts[first]!r} and {firsts[second]!r}, which only case or "
                "blanks tell apart: write one of them everywhere."
            )


def _first_like(table: pd.DataFrame, row: pd.Series, keys: list[str]) -> int:
    """Return the number of the first row with the same keys."""
    return (table[keys] == row[keys]).all(axis=1).idxmax()


def _written(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, int | float) else str(value)
