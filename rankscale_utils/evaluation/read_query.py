"""A query with its documents as rungs rank them, to be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.collections import Collection, open_collection
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.study import paths
from rankscale_utils.study.arguments import checked, names, optional, text
from rankscale_utils.study.loading import study_given
from rankscale_utils.study.study import Study

from .metrics import Test, open_test
from .trec_runs import scores_of_run

SHOWN = 10  # documents of each ranking


@dataclass(frozen=True)
class ReadQuery:
    """A query: its id, its text, and a table of documents; see `read_query`."""

    query_id: str
    text: str
    documents: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Rankings:
    """A test of a study, opened to be read: its queries, judgments and texts, and what runs made of its candidates."""

    study: Study
    collection: Collection
    test: Test

    @cached_property
    def queries(self) -> pd.Series:
        """The text of every query of the test, by its id."""
        queries = self.collection.queries()
        return queries[queries["test"] == self.test.name].set_index("query_id")["text"]

    @cached_property
    def judged(self) -> pd.DataFrame:
        """Every judgment: query_id, document_id, judged (its grade)."""
        renamed = self.test.judgments.rename(columns={"doc_id": "document_id", "relevance": "judged"})
        return renamed[["query_id", "document_id", "judged"]]

    def read(self, query: str, rungs: Sequence[str], objective: str, depth: int = SHOWN) -> ReadQuery:
        """Return a query with the first documents of each rung's ranking, by its first seed.

        Raises:
            StudyError: there is no such query, rung or objective, or no such run has ranked anything yet.
        """
        if query not in self.queries.index:
            raise StudyError(f"query = {query!r} is not among the {len(self.queries)} queries of {self.test.name}.")
        rows = (self.test.candidates["query_id"] == query).to_numpy() & self.test.candidates["retrieved"].to_numpy()
        table = self.test.candidates[rows].rename(columns={"rank": "first_stage"})
        table = table.assign(**{rung: _ranks(self, rung, objective)[rows] for rung in rungs})
        table = table[(table[[*rungs]] <= depth).any(axis=1)]
        table = table.merge(self.judged, how="left", on=["query_id", "document_id"])
        table["text"] = self.collection.document_texts(table["document_row"])
        columns = ["document_id", "judged", "first_stage", *rungs, "text"]
        return ReadQuery(query, self.queries[query], table.sort_values([*rungs])[columns].reset_index(drop=True))


@checked(study=study_given, query=text, rungs=names, objective=optional(text), collection=optional(text))
def read_query(
    study: Study | str | Path,
    query: str,
    rungs: Sequence[str],
    objective: str | None = None,
    collection: str | None = None,
    depth: int = SHOWN,
) -> ReadQuery:
    """Read a query and its documents as rungs rank them at the end of training.

    Parameters
    ----------
    study
        A study that trains, its name, or its YAML's path.
    query
        A query's id, as in `query_gains`.
    rungs
        One rung or several, by their first seed.
    objective, collection
        The study's first ones where they are not named.
    depth
        So many documents of each ranking.

    Returns
    -------
    ReadQuery
        Its `text`, and `documents`: a row for each document that a rung has among its first ones, with document_id,
        judged (its grade, empty where nobody judged it), first_stage and a column for each rung (ranks, from 1), text.

    Raises
    ------
    StudyError
        The study trains nothing, or there is no such rung, test or query; one sentence says which, and the remedy.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> try:
    ...     print(rankscale.read_query("published", "q1", ["17m", "1b"]))
    ... except rankscale.StudyError as error:
    ...     print(error)
    study published brings its measurements and ranks no documents: use a study that trains.
    """
    rankings = open_rankings(study, collection)
    return rankings.read(query, rungs, objective or next(iter(rankings.study.objectives)), depth)


def open_rankings(study: Study | str | Path, collection: str | None = None) -> Rankings:
    """Return a test of a study, opened to be read: the first one where none is named.

    Raises:
        StudyError: the study trains nothing, or has no such test.
    """
    study = study_given(study)
    if not study.runs:
        raise StudyError(f"study {study.name} brings its measurements and ranks no documents: use a study that trains.")
    return _opened(study.source, study.source.stat().st_mtime_ns, collection)


@lru_cache(maxsize=4)
def _opened(source: Path, _: int, name: str | None) -> Rankings:
    study = study_given(source)
    opened, noted = open_collection(study), paths.collection_file(study.folder)
    if noted.exists() and read_json(noted)["sha256"] != opened.manifest["sha256"]:
        raise StudyError(
            f"the texts of {study.name} are no longer those that its runs ranked: `make study STUDY={study.name}` "
            "trains on these."
        )
    if name is not None and name not in opened.tests:
        raise StudyError(f"collection = {name!r} is no test of {study.name}: use one of {', '.join(opened.tests)}.")
    return Rankings(study, opened, open_test(study, opened, name))


@lru_cache(maxsize=16)
def _ranks(rankings: Rankings, rung: str, objective: str) -> np.ndarray:
    """Return the rank that the last checkpoint of a rung's first seed gave to each of the test's candidates."""
    study, test = rankings.study, rankings.test
    runs = [run for run in study.runs if (run.objective, run.rung) == (objective, rung)]
    if not runs:
        raise StudyError(
            f"study {study.name} has no run of {objective} {rung}: its objectives are {', '.join(study.objectives)}, "
            f"its rungs {', '.join(study.ladder)}."
        )
    checkpoints = sorted(path for path in study.run_folder(runs[0]).glob("exposure-*") if path.is_dir())
    ranked = [path for path in checkpoints if paths.run_file(path, test.name).exists()]
    if not ranked:
        raise StudyError(f"{runs[0].name} has ranked nothing yet: `make study STUDY={study.name}` lets it.")
    return -scores_of_run(test, ranked[-1])
