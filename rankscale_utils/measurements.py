"""The measurements: one tidy table at which everything meets, its schema, and the reading of a user's CSV."""

import re
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from rankscale_utils.study import Study, StudyError

REQUIRED = ("objective", "rung", "params", "exposure", "collection", "metric", "value")
ENTROPIES = re.compile(r"^(CE\d*|.*entropy.*|.*loss.*)$", re.IGNORECASE)

SCHEMA = pa.DataFrameSchema(
    {
        "run": pa.Column(str, description="id of the independent run: objective-rung-seed"),
        "objective": pa.Column(str),
        "rung": pa.Column(str),
        "seed": pa.Column(int, coerce=True),
        "params": pa.Column(float, pa.Check.gt(0), coerce=True, description="all parameters"),
        "params_non_embedding": pa.Column(float, pa.Check.gt(0), coerce=True, description="without embedding tables"),
        "exposure": pa.Column(float, pa.Check.gt(0), coerce=True, description="training pairs seen"),
        "collection": pa.Column(str),
        "metric": pa.Column(str, description="in ir-measures' notation, or CEk: contrastive entropy, nats"),
        "value": pa.Column(float, pa.Check.ge(0), coerce=True),
        "queries": pa.Column(float, required=False, coerce=True, description="training queries seen"),
        "tokens": pa.Column(float, required=False, coerce=True, description="training tokens seen"),
        "flops": pa.Column(float, pa.Check.gt(0), required=False, coerce=True, description="training FLOPs"),
        "ceiling": pa.Column(float, required=False, nullable=True, description="value of a perfect reranking"),
        "first_stage": pa.Column(float, required=False, nullable=True, description="value of the order as retrieved"),
        "excluded": pa.Column(str, required=False, description="why a row is no measurement; empty when it is one"),
    },
    strict=False,
    unique=["run", "exposure", "collection", "metric"],
)


def rising(metric: str) -> bool:
    """Whether more is better: true for retrieval metrics, false for entropies and losses."""
    return not ENTROPIES.match(metric)


def limits(metric: str, ceiling: float | None = None) -> tuple[float, float]:
    """Return the lowest and highest value that a metric can take; `ceiling` is the candidates' own, where known."""
    if not rising(metric):
        return 0.0, float("inf")
    return 0.0, 1.0 if ceiling is None or pd.isna(ceiling) else float(ceiling)


def headline(study: Study, table: pd.DataFrame) -> str:
    """Return the metric that the study opens with: its own choice, or the first one measured that rises."""
    metrics = table["metric"].unique()
    chosen = study.forecasting.headline
    return chosen if chosen in metrics else next((metric for metric in metrics if rising(metric)), metrics[0])


def read_csv(path: Path) -> pd.DataFrame:
    """Read a user's measurements; further columns are carried along.

    `seed` is 0 and `params_non_embedding` is `params` where the CSV has no such column.

    Raises:
        StudyError: a column is missing, a size or exposure is not positive, a metric is out of its range, rows repeat.
    """
    if not path.is_file():
        raise StudyError(f"measurements = {str(path)!r}: there is no such file; the path is relative to the YAML.")
    table = pd.read_csv(path)
    missing = [column for column in REQUIRED if column not in table]
    if missing:
        raise StudyError(
            f"{path.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: it has "
            f"{', '.join(table.columns)}; rename or add what is missing."
        )
    if "seed" not in table:
        table["seed"] = 0
    if "params_non_embedding" not in table:
        table["params_non_embedding"] = table["params"]
    for column in ("objective", "rung", "collection", "metric"):
        table[column] = table[column].astype(str)
    table["run"] = table["objective"] + "-" + table["rung"] + "-s" + table["seed"].astype(str)
    return validated(table, path.name)


def validated(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the table when it keeps the schema.

    Raises:
        StudyError: one sentence for the first thing wrong, with its row, column, value and the remedy.
    """
    high = table["metric"].map(lambda metric: limits(metric)[1])
    wrong = table.index[pd.to_numeric(table["value"], errors="coerce") > high]
    if len(wrong):
        row = table.loc[wrong[0]]
        raise StudyError(
            f"{name}, line {wrong[0] + 2}: {row['metric']} = {row['value']} is above {high[wrong[0]]:g}, the most "
            "that it can be: give it as a share, not in percent."
        )
    try:
        return SCHEMA.validate(table)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        raise StudyError(f"{name}: {_sentence(error, table)}") from None


def _sentence(error: pa.errors.SchemaError, table: pd.DataFrame) -> str:
    cases = error.failure_cases
    if not isinstance(cases, pd.DataFrame) or "index" not in cases or cases["index"].isna().all():
        return f"column {error.schema.name}: {' '.join(str(error).split())[:200]}"
    line = int(cases["index"].dropna().iloc[0])
    if error.reason_code is not None and error.reason_code.name == "DUPLICATES":
        row = table.loc[line]
        return (
            f"line {line + 2} repeats run {row['run']} at exposure {row['exposure']} for {row['metric']} on "
            f"{row['collection']}: drop one of the rows, or give them different seeds."
        )
    value = table.loc[line, error.schema.name]
    return f"line {line + 2}: {error.schema.name} = {value!r} fails {error.check}: correct or drop the row."


def check_held_out(table: pd.DataFrame, study: Study) -> None:
    """Make sure that there is something to fit and something to hold out.

    Raises:
        StudyError: a held-out rung has no row, or fewer than three rungs are left to fit.
    """
    rungs = list(table["rung"].unique())
    absent = [rung for rung in study.held_out.rungs if rung not in rungs]
    if absent:
        raise StudyError(
            f"held_out.rungs {absent} have no row in the measurements, whose rungs are {rungs}: correct them."
        )
    if len(rungs) - len(set(study.held_out.rungs)) < 3:
        raise StudyError(
            f"{len(rungs) - len(study.held_out.rungs)} rungs are left to fit: a size law needs three or more."
        )


def of_runs(study: Study, fitted_only: bool) -> pd.DataFrame:
    """Return the study's measurements; with `fitted_only` the files of held-out rungs are not even opened."""
    if study.measurements is not None:
        table = read_csv(study.measurements_file)
        check_held_out(table, study)
        return table[~table["rung"].isin(study.held_out.rungs)] if fitted_only else table
    runs = study.fitted_runs if fitted_only else study.runs
    files = [study.run_folder(run) / "measurements.parquet" for run in runs]
    absent = [file.parent.name for file in files if not file.exists()]
    if absent:
        raise StudyError(f"run {absent[0]} has not been evaluated: run `make study STUDY={study.name}` first.")
    return validated(pd.concat([pd.read_parquet(file) for file in files], ignore_index=True), "measurements")


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are measurements: those of runs that did not fail."""
    return table[table["excluded"] == ""] if "excluded" in table else table
