"""The measurements: one tidy table at which everything meets, and its schema."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import write_parquet
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.study import Study

from .directions import UNSTATED, Directions, rising

RERANK, SEARCH = "rerank", "search"  # tasks: order the first stage's candidates, or find documents among all
OWN = "own"  # the score that an objective's models rank by
INTERPOLATED, RANK_FUSED = " with first stage", " by rank fusion"  # end metrics that a model reaches together with it
AS_IT_IS = "as it is"  # in place of an objective: the model was finished before the study
REQUIRED = ("objective", "rung", "params", "exposure", "collection", "metric", "value")
WORDS = ("objective", "rung", "collection", "metric")
DEFAULTS = {"task": RERANK, "score": OWN}  # of columns that a user's CSV may lack
REFERENCES = ("ceiling", "first_stage", "random_order")  # what else a metric could be
OVER_RANDOM = (
    "over_random_lo",
    "over_random_hi",
)  # interval, over queries, of how far a value is above a random order's
ONE_ROW = ["run", "exposure", "collection", "metric", *DEFAULTS]
Rule = tuple[str, Callable[[pd.Series], pd.Series]]


def headlines(study: Study, table: pd.DataFrame) -> list[str]:
    """Return the headline metric and, where measured, the contrastive entropy."""
    stated = study.forecasting.directions
    entropies = [metric for metric in table["metric"].unique() if not rising(metric, stated)]
    return list(dict.fromkeys([headline(study, table), *entropies[:1]]))


FINITE: Rule = ("a finite number", lambda numbers: numbers.notna())
POSITIVE: Rule = ("a positive, finite number", lambda numbers: numbers > 0)
NUMBERS: dict[str, Rule] = {
    "seed": ("a whole number", lambda numbers: (numbers % 1 == 0) & (numbers.abs() < 2**53)),
    "params": POSITIVE,
    "params_non_embedding": POSITIVE,
    "exposure": POSITIVE,
    "value": ("a finite number and not negative", lambda numbers: numbers >= 0),
    "queries": FINITE,
    "tokens": FINITE,
    "flops": POSITIVE,
    **dict.fromkeys((*REFERENCES, *OVER_RANDOM), FINITE),
}


def failed(table: pd.DataFrame) -> pd.Series:
    """Whether a row is no measurement: `excluded` says why."""
    return table["excluded"].fillna("") != "" if "excluded" in table else pd.Series(False, table.index)


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
        "task": pa.Column(str, pa.Check.isin([RERANK, SEARCH]), description="whose documents are ranked"),
        "score": pa.Column(str, description="what ranks them: own, or another of an ED2LM's scores"),
        "metric": pa.Column(str, description="in ir-measures' notation, or CEk, CEk-T: contrastive entropies, nats"),
        "value": pa.Column(float, nullable=True, coerce=True, description="may lack in rows that are excluded"),
        "queries": pa.Column(float, required=False, nullable=True, coerce=True, description="training queries seen"),
        "tokens": pa.Column(float, required=False, nullable=True, coerce=True, description="training tokens seen"),
        "flops": pa.Column(
            float, pa.Check.gt(0), required=False, nullable=True, coerce=True, description="training FLOPs"
        ),
        "ceiling": pa.Column(
            float, required=False, nullable=True, coerce=True, description="value of a perfect reranking"
        ),
        "first_stage": pa.Column(
            float, required=False, nullable=True, coerce=True, description="value of the order as retrieved"
        ),
        "random_order": pa.Column(
            float, required=False, nullable=True, coerce=True, description="value of a random order, on average"
        ),
        **{
            end: pa.Column(float, required=False, nullable=True, coerce=True, description="of value − random_order")
            for end in OVER_RANDOM
        },
        "judged@10": pa.Column(
            float, required=False, nullable=True, coerce=True, description="judged share of a ranking's first ten"
        ),
        "first_stage_weight": pa.Column(
            float, required=False, nullable=True, coerce=True, description="where scores are interpolated"
        ),
        "excluded": pa.Column(str, required=False, description="why a row is no measurement; empty when it is one"),
    },
    checks=pa.Check(lambda table: (table["value"] >= 0) | failed(table), name="a value, or why there is none"),
    strict=False,
    unique=ONE_ROW,
)

SERIES_COLUMNS = ["objective", "metric", "collection", "task", "score"]  # that tell series apart


def write_measurements(path: Path, table: pd.DataFrame) -> None:
    """Write measurements as Parquet, whole or not at all.

    Raises:
        pandera.errors.SchemaError: they do not keep `SCHEMA`, which is checked before anything is written.
    """
    SCHEMA.validate(table)
    write_parquet(path, table)


def limits(rises: bool, ceiling: float | None = None) -> tuple[float, float]:
    """Return the lowest and highest value that a metric can take; `ceiling` is the candidates' own, where known."""
    if not rises:
        return 0.0, float("inf")
    return 0.0, 1.0 if ceiling is None or pd.isna(ceiling) else float(ceiling)


def at_chance(table: pd.DataFrame, stated: Directions = UNSTATED) -> pd.Series:
    """Whether a row is no better than a random order of the same documents; false where that is not known.

    By the paired interval over queries where there is one, or else by the value itself; stated: metrics' directions.
    """
    if "random_order" not in table:
        return pd.Series(False, table.index)
    up = table["metric"].map(lambda metric: rising(metric, stated)).astype(bool)
    lead = (table["value"] - table["random_order"]).where(up, table["random_order"] - table["value"])
    if set(OVER_RANDOM) <= set(table):
        lead = table["over_random_lo"].where(up, -table["over_random_hi"]).fillna(lead)
    return lead <= 0


def headline(study: Study, table: pd.DataFrame) -> str:
    """Return the metric that the study opens with: its own choice, or the first one that is wanted and rises."""
    return headline_of(study.forecasting, table["metric"].unique())


def headline_of(settings: Forecasting, metrics: Iterable[str]) -> str:
    """Return the same from the metrics that there are."""
    metrics = list(metrics)
    metrics = [metric for metric in metrics if metric in (settings.metrics or metrics)] or metrics
    chosen, stated = settings.headline, settings.directions
    return chosen if chosen in metrics else next((metric for metric in metrics if rising(metric, stated)), metrics[0])


def on_headline_test(table: pd.DataFrame, test: str | None) -> pd.DataFrame:
    """Return the rows of the test that a study opens with and of its first task: those of its sentences and figures.

    Of a model that ranks by several scores, those by the objective's own. test: `forecasting.headline_test`; without
    it, or where no row is of it, the first collection.
    """
    if table.empty:
        return table
    keys, of_test = ["collection", "task"], table[table["collection"] == test]
    first = (of_test if len(of_test) else table)[keys].iloc[0]
    return by_own_score(table[(table[keys] == first).all(axis=1)])


def by_own_score(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the objectives' own scores, or all where there are none."""
    own = table["score"] == OWN if "score" in table else pd.Series(True, table.index)
    return table[own] if own.any() else table


def check_headline_test(test: str | None, known: Iterable[str]) -> None:
    """Make sure that the test that a study opens with is measured.

    Raises:
        StudyError: it is not among the tests that are known.
    """
    names = list(dict.fromkeys(known))
    if test is not None and test not in names:
        raise StudyError(f"forecasting.headline_test = {test!r} is no test: name one of {', '.join(names)}.")


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with collections and metrics as people tell them apart.

    A collection is called “nfcorpus, searched” where a model found its own documents, and a metric “nDCG@10 by
    true_false” where that score, not the objective's own, ranked them.
    """
    if table.empty or not {"collection", "metric", *DEFAULTS} <= set(table):
        return table
    searched, other = table["task"] == SEARCH, table["score"] != OWN
    return table.assign(
        collection=table["collection"].where(~searched, table["collection"] + ", searched"),
        metric=table["metric"].where(~other, table["metric"] + " by " + table["score"]),
    )


def reasons_of(table: pd.DataFrame) -> list[str]:
    """Return for every row of a table of series which one it is and its `reason`, as one clause."""
    return [
        f"{row['metric']} of {row['objective']} on {row['collection']}: {row['reason']}"
        for row in labelled(table).to_dict("records")
    ]


def measured_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are measurements: those of runs that did not fail."""
    return table[~failed(table)]
