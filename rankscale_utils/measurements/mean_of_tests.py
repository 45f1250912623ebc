"""The mean over all tests, as one more test: what leaderboards rank by, and steadier than any of them."""

import pandas as pd

from rankscale_utils.errors import StudyError

from .table import OVER_RANDOM, REFERENCES, measured_rows

MEAN_OF_TESTS = "mean of tests"  # the collection of such rows
OF_ONE_MODEL = ["run", "exposure", "metric", "task", "score"]
OF_ONE_METRIC = ["metric", "task", "score"]


def with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Return measurements and, behind them, a row for each model's mean over all tests of a metric.

    A model that lacks one of the tests has no mean. Ceiling, first stage and random order are averaged with the values;
    an interval over queries is not.

    Raises:
        StudyError: a test has the name of the mean.
    """
    if (table["collection"] == MEAN_OF_TESTS).any():
        raise StudyError(
            f"collection = {MEAN_OF_TESTS!r}: forecasting.mean_of_tests makes rows of that name: rename the test, or "
            "remove the field where they are the mean already."
        )
    rows = measured_rows(table)
    rows = rows.assign(tests=rows.groupby(OF_ONE_METRIC)["collection"].transform("nunique"))
    whole = rows[(rows["tests"] > 1) & (rows.groupby(OF_ONE_MODEL)["collection"].transform("size") == rows["tests"])]
    if whole.empty:
        return table
    averaged = whole.columns.intersection(["value", *REFERENCES, "judged@10"])
    ways = {name: "mean" if name in averaged else "first" for name in table.columns if name not in OF_ONE_MODEL}
    mean = whole.groupby(OF_ONE_MODEL, sort=False).agg(ways).reset_index().assign(collection=MEAN_OF_TESTS)
    return pd.concat([table, mean[table.columns].drop(columns=list(OVER_RANDOM), errors="ignore")], ignore_index=True)


def tests_of(collection: str, table: pd.DataFrame) -> list[str]:
    """Return the tests behind a collection of measurements: itself, or all of them behind their mean."""
    return list(table["collection"].unique()) if collection == MEAN_OF_TESTS else [collection]
