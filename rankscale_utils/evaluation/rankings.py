"""Rankings against judgments: trec_eval's numbers, whoever made the ranking."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pandas as pd

from rankscale_utils.collections.readers import RunReader, read_judgments
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.arguments import table_or_file
from rankscale_utils.measurements.per_query import over_queries
from rankscale_utils.measurements.table import limits
from rankscale_utils.study.arguments import checked, flag, names, shown
from rankscale_utils.study.evaluation import Evaluation
from rankscale_utils.study.loading import read_section

PAIR = ["query_id", "document_id"]

ByQuery = Mapping[str, Mapping[str, float]]


def _ranking(value: Any) -> pd.DataFrame | ByQuery | Path:
    """Read a table, a file's path, or numbers by query and document."""
    if isinstance(value, Mapping):
        if wrong := [query for query, found in value.items() if not isinstance(found, Mapping)]:
            raise ValueError(f"holds {shown(value[wrong[0]])} for {wrong[0]!r}: write {{query: {{document: number}}}}")
        return value
    if not isinstance(value, pd.DataFrame | str | Path):
        raise ValueError("must be a pandas.DataFrame, a file's path, or numbers as {query: {document: number}}")
    return table_or_file(value)


def _grade(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


@checked(run=_ranking, qrels=_ranking, metrics=names, relevant_from=_grade, per_query=flag)
def evaluate(
    run: pd.DataFrame | ByQuery | Path | str,
    qrels: pd.DataFrame | ByQuery | Path | str,
    metrics: Sequence[str] | str = ("nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10"),
    *,
    relevant_from: int = 1,
    per_query: bool = False,
) -> pd.DataFrame:
    """Return what a ranking scores: trec_eval's numbers, computed by ir-measures.

    Equal scores, in single precision, are ordered by document id, descending: trec_eval's rule for every metric. Every
    query with judgments counts; one that the run lacks counts as 0, as with trec_eval's option -c.

    Parameters
    ----------
    run
        A TREC run's path (also .gz), a table with columns query_id, document_id and score, or a score for each
        document of each query, as dicts.
    qrels
        TREC judgments: a path, a table with columns query_id, document_id and relevance, or dicts of grades.
    metrics
        In ir-measures' notation.
    relevant_from
        The lowest grade that binary metrics count as relevant.
    per_query
        Whether to return every query's values instead of their means.

    Returns
    -------
    pandas.DataFrame
        A row a metric with metric, value (the mean over queries), lo and hi (its 95 % t interval over queries, within
        the metric's limits; empty where there is one query) and queries; or, `per_query`, a row a metric and query:
        query_id, metric, value.

    Raises
    ------
    StudyError
        A metric is unknown, a file, column or cell cannot be used, or no query of the run has judgments.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 1}}
    >>> run = {"q1": {"d1": 0.9, "d2": 0.4}, "q2": {"d4": 0.8, "d3": 0.7}}
    >>> rankscale.evaluate(run, qrels, ["RR@10", "P@1"])[["metric", "value", "queries"]]
      metric  value  queries
    0  RR@10   0.75        2
    1    P@1   0.50        2
    """
    wanted = read_section(Evaluation, {"metrics": metrics}).metrics
    if not wanted:
        raise StudyError("metrics is empty: name one or more, such as nDCG@10.")
    judged = _table(qrels, "qrels", "relevance").rename(columns={"document_id": "doc_id"})
    ranked = _table(run, "run", "score")
    if not set(judged["query_id"]) & set(ranked["query_id"]):
        raise StudyError(
            f"no query of the run has judgments: its first is {ranked['query_id'].iloc[0]!r}, the judgments' "
            f"{judged['query_id'].iloc[0]!r}; give both the same ids."
        )
    evaluators = {name: ir_measures.evaluator([measure_of(name, relevant_from)], judged) for name in wanted}
    values = values_per_query(evaluators, ranks_as_scores(in_order(ranked)))
    if per_query:
        return values
    means = over_queries(values, ["metric"])
    low, high = limits(rises=True)
    return means.assign(lo=means["lo"].clip(low), hi=means["hi"].clip(upper=high), queries=judged["query_id"].nunique())


def in_order(scored: pd.DataFrame, query: str = "query_id") -> pd.DataFrame:
    """Return documents, best first within each query, with their rank (from 1); columns `query`, document_id, score.

    Scores are compared in single precision, and equal ones ordered by document id, descending: trec_eval's rule.
    """
    table = scored.assign(single=scored["score"].astype(np.float32))
    table = table.sort_values([query, "single", "document_id"], ascending=[True, False, False]).drop(columns="single")
    return table.assign(rank=table.groupby(query).cumcount() + 1)


def ranks_as_scores(ranked: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return each query's documents with their ranks, negative, in place of scores.

    ir-measures' providers differ in how they order equal scores, and are slow to read tables.
    """
    columns = ranked["query_id"], ranked["document_id"], -ranked["rank"].astype(float)
    run: dict[str, dict[str, float]] = {}
    for query, document, score in zip(*(column.tolist() for column in columns), strict=True):
        run.setdefault(query, {})[document] = score
    return run


def measure_of(name: str, relevant_from: int) -> ir_measures.Measure:
    """Return ir-measures' measure of that name; `relevant_from` is the lowest grade that a binary one counts."""
    parsed = ir_measures.parse_measure(name)
    binary = "rel" in parsed.SUPPORTED_PARAMS and "rel" not in parsed.params
    return parsed(rel=relevant_from) if binary else parsed


def values_per_query(evaluators: Mapping[str, Any], run: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return query_id, metric, value for every query that was judged; evaluators: ir-measures' own, by metric."""
    values = [(v.query_id, name, v.value) for name, found in evaluators.items() for v in found.iter_calc(run)]
    return pd.DataFrame(values, columns=["query_id", "metric", "value"])


def _table(given: pd.DataFrame | ByQuery | Path | str, name: str, column: str) -> pd.DataFrame:
    """Return query_id, document_id and a number, each pair of ids once, of whatever holds them."""
    table = given if isinstance(given, pd.DataFrame) else pd.DataFrame(_rows(given, column), columns=[*PAIR, column])
    if missing := [needed for needed in (*PAIR, column) if needed not in table]:
        raise StudyError(f"{name} lacks {', '.join(missing)}: it has {', '.join(map(str, table))}; rename or add them.")
    if table.empty:
        raise StudyError(f"{name} has no rows: give a row for every document of every query.")
    table = table.reset_index(drop=True)
    for label in PAIR:
        if (empty := table[label].isna()).any():
            raise StudyError(f"{name}, row {empty.idxmax()}: {label} is empty: fill it in or drop the row.")
    numbers = pd.to_numeric(table[column], errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0) if column == "relevance" else numbers.isna()
    if wrong.any():
        row, kind = table[wrong].iloc[0], "whole number" if column == "relevance" else "number"
        raise StudyError(
            f"{name}: {column} of document {row['document_id']!r} for query {row['query_id']!r} is {row[column]}, "
            f"which is no {kind}; correct it."
        )
    table = table[PAIR].astype(str).assign(**{column: numbers.astype(int) if column == "relevance" else numbers})
    if (repeated := table.duplicated(PAIR)).any():
        row = table[repeated].iloc[0]
        raise StudyError(
            f"{name} names document {row['document_id']!r} twice for query {row['query_id']!r}: keep one of the rows."
        )
    return table


def _rows(given: ByQuery | Path | str, column: str) -> Iterable[tuple] | pd.DataFrame:
    if isinstance(given, Mapping):
        return [(query, document, number) for query, found in given.items() for document, number in found.items()]
    return read_judgments(given) if column == "relevance" else list(RunReader(given))
