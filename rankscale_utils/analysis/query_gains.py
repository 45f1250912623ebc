"""Which queries a larger rung gains, and which it loses."""

from pathlib import Path

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.per_query import per_query
from rankscale_utils.measurements.table import OWN, RERANK, headline, measured_rows
from rankscale_utils.study import paths
from rankscale_utils.study.arguments import checked, optional, text
from rankscale_utils.study.loading import study_given
from rankscale_utils.study.study import Study


@checked(
    study=study_given,
    smaller=text,
    larger=text,
    objective=optional(text),
    metric=optional(text),
    collection=optional(text),
)
def query_gains(
    study: Study | str | Path,
    smaller: str,
    larger: str,
    objective: str | None = None,
    metric: str | None = None,
    collection: str | None = None,
) -> pd.DataFrame:
    """Return what every query gains from one rung to another, at the end of training, reranking its candidates.

    Parameters
    ----------
    study
        A study that trains, its name, or its YAML's path.
    smaller, larger
        Two rungs.
    objective, metric, collection
        The study's first ones where they are not named.

    Returns
    -------
    pandas.DataFrame
        A row a query, the worst loss first: query_id, smaller and larger (the rungs' values, means over seeds, in the
        metric's unit), gain (positive where the larger rung is better, also of metrics that fall), first_stage,
        objective, metric, collection.

    Raises
    ------
    StudyError
        The study has no values of single queries, or nothing of these names; one sentence says which, and the remedy.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> try:
    ...     print(rankscale.query_gains("published", "17m", "1b"))
    ... except rankscale.StudyError as error:
    ...     print(error)
    study published brings its measurements, which hold no values of single queries: use a study that trains.
    """
    study = study_given(study)
    values = measured_queries(study, objective or next(iter(study.objectives), None))
    wanted = {"metric": metric or headline(study, values), "collection": collection or values["collection"].iloc[0]}
    for name, value in wanted.items():
        values = _only(values, name, value)
    for rung in (smaller, larger):
        _only(values, "rung", rung)
    table = values.pivot_table(index="query_id", columns="rung", values="value", sort=False)
    table = pd.DataFrame({"smaller": table[smaller], "larger": table[larger]}).dropna()
    sign = 1 if rising(wanted["metric"], study.forecasting.directions) else -1
    first_stage = values.drop_duplicates("query_id").set_index("query_id")["first_stage"]
    table = table.assign(
        gain=sign * (table["larger"] - table["smaller"]),
        first_stage=first_stage,
        objective=values["objective"].iloc[0],
        **wanted,
    )
    return table.sort_values("gain", kind="stable").reset_index()


def measured_queries(study: Study, objective: str | None = None) -> pd.DataFrame:
    """Return the values of every query at the end of training, of runs that did not fail, each by its own score.

    objective: its runs alone; all where none is named. Columns as in `measurements.per_query`.

    Raises:
        StudyError: the study trains nothing or has no such objective, or no run was measured yet.
    """
    if not study.runs:
        raise StudyError(
            f"study {study.name} brings its measurements, which hold no values of single queries: use a study that "
            "trains."
        )
    if objective is not None and objective not in study.objectives:
        known = ", ".join(study.objectives)
        raise StudyError(f"objective = {objective!r} is not in study {study.name}: use one of {known}.")
    runs = [run for run in study.runs if objective in (None, run.objective)]
    measured = [run for run in runs if paths.per_query_file(study.run_folder(run)).exists()]
    if not measured:
        raise StudyError(f"no run of {study.name} was measured yet: `make study STUDY={study.name}` does it.")
    rows = measured_rows(per_query(study, measured))
    rows = rows[(rows["task"] == RERANK) & (rows["score"] == OWN)]
    rows = rows[rows["exposure"] == rows.groupby("run")["exposure"].transform("max")]
    return rows


def _only(values: pd.DataFrame, name: str, value: str) -> pd.DataFrame:
    """Return the rows of a value of a column.

    Raises:
        StudyError: there is none.
    """
    if value not in set(values[name]):
        known = ", ".join(values[name].unique())
        raise StudyError(f"{name} = {value!r}: no query was measured so; use one of {known}.")
    return values[values[name] == value]
