"""What was dropped, filled in or read otherwise on the way from a collection and measurements to laws, counted."""

from collections.abc import Iterator, Sequence

import pandas as pd

from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.changes import Change, change_table
from rankscale_utils.measurements.reading import read_of_study
from rankscale_utils.measurements.table import SCHEMA, failed
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .design import COUNTS
from .fit import Fitted

NAMED = 3  # runs that a row names; the others are counted


def changes_on_reading(study: Study, fitted: Sequence[Fitted], table: pd.DataFrame) -> pd.DataFrame:
    """Return what was changed on reading: what, count, where; a row each, the collection's first.

    table: all measurements, as `study_measurements` returns them; fitted: what laws were fitted to.
    """
    if study.measurements is not None:
        before = read_of_study(study).changes + list(_unread_columns(study, table))
        where = study.measurements_file.name
    else:
        collection = read_json(paths.collection_file(study.folder))
        before = [Change(**change) for change in collection.get("changes", [])]
        before += _without_rows(study, table)
        where = "measurements"
    return change_table([*before, *_rows_left_out(study, table, where), *_of_fits(study, fitted)])


def _unread_columns(study: Study, table: pd.DataFrame) -> Iterator[Change]:
    unread = [name for name in table if name not in {*SCHEMA.columns, *COUNTS}]
    yield Change(
        f"columns were carried along and not used: {', '.join(unread)}", len(unread), study.measurements_file.name
    )


def _without_rows(study: Study, table: pd.DataFrame) -> list[Change]:
    absent = [run.name for run in study.runs if run.name not in set(table["run"])]
    return [Change("runs failed before their first checkpoint, and left no row", len(absent), _listed(absent))]


def _rows_left_out(study: Study, table: pd.DataFrame, where: str) -> Iterator[Change]:
    """Yield the rows that are no measurements, by their reason, and those of metrics that nobody asked for."""
    excluded = table[failed(table)]
    for reason, rows in excluded.groupby("excluded", sort=False) if len(excluded) else ():
        yield Change(f"rows are no measurements: {reason}", len(rows), _listed(rows["run"].unique()))
    wanted = study.forecasting.metrics or table["metric"].unique()
    others = table.loc[~table["metric"].isin(wanted), "metric"]
    names = ", ".join(others.unique())
    yield Change(f"rows of metrics that forecasting.metrics does not name: {names}", len(others), where)


def _of_fits(study: Study, fitted: Sequence[Fitted]) -> Iterator[Change]:
    """Yield what laws do not see of the series that were fitted."""
    settings, where = study.forecasting, "laws of the fitted rungs"
    share, window = settings.burn_in, settings.checkpoints
    raws = [one.raw for one in fitted]
    late = sum(int((raw["exposure"] >= share * _ends(raw)).sum()) for raw in raws)
    seen = sum(len(one.table) for one in fitted)
    early = sum(map(len, raws)) - late
    yield Change(f"rows before {share:.0%} of their run (forecasting.burn_in): no law sees them", early, where)
    averaged = f"rows stand for {window} neighbouring checkpoints each (forecasting.checkpoints), of {late:,} rows"
    yield Change(averaged, seen if seen != late else 0, where)


def _ends(raw: pd.DataFrame) -> pd.Series:
    """Return the largest exposure of every row's run."""
    return raw.groupby("run")["exposure"].transform("max")


def _listed(runs: Sequence[str]) -> str:
    runs = list(runs)
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return ", ".join(runs[:NAMED]) + more
