"""Scores of a test's candidates become metrics: trec_eval's numbers, contrastive entropies, and their limits."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import ir_measures
import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from rankscale_utils.collections import Collection
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest
from rankscale_utils.measurements.per_query import mean_with_interval
from rankscale_utils.measurements.table import INTERPOLATED, OWN, RANK_FUSED, REFERENCES, RERANK
from rankscale_utils.study.study import Study

from .random_order import hands_of, random_order
from .rankings import in_order, measure_of, ranks_as_scores, values_per_query

JUDGED = ir_measures.Judged @ 10

INVERSE_TEMPERATURES = (-7.0, 7.0)  # natural logarithms of the lowest and the highest that calibration tries


@dataclass(frozen=True)
class Test:
    """A test as tables.

    candidates: query_id, document_id, rank, score (the first stage's), query_row, document_row, retrieved, relevance,
    positive; one row a scored pair, the candidates by rank. Rows that were not retrieved serve the contrastive entropy
    alone: `positive` marks each query's relevant document, and others fill up its negatives. judgments: ir-measures'
    columns.
    relevant_from: the lowest grade that binary measures count as relevant.
    """

    name: str
    candidates: pd.DataFrame
    judgments: pd.DataFrame
    metrics: tuple[str, ...]
    depth: int
    relevant_from: int = 1

    @property
    def entropy(self) -> str:
        """The contrastive entropy's name: CEk with k negatives, the best-ranked candidates that are not relevant."""
        return f"CE{self.depth - 1}"

    def measures(self) -> dict[str, ir_measures.Measure]:
        """Return the measures as computed, by the study's names for them."""
        return {name: measure_of(name, self.relevant_from) for name in self.metrics}

    @cached_property
    def evaluators(self) -> dict[str, Any]:
        """What measures rankings by these judgments, one for each metric: together they take several times as long."""
        return {name: ir_measures.evaluator([measure], self.judgments) for name, measure in self.measures().items()}

    @cached_property
    def random_order(self) -> pd.DataFrame:
        """What every query scores by a random order of its candidates: query_id, metric, value, standard_error.

        Of entropies that is what equal scores give: the logarithm of how many documents there are to pick from.
        """
        metrics = random_order(hands_of(self.candidates, self.judgments), self.measures(), self.evaluators)
        equal = entropies_per_query(self, np.zeros(len(self.candidates)))
        return pd.concat([metrics, equal.assign(standard_error=0.0)], ignore_index=True)

    @cached_property
    def first_stage(self) -> pd.DataFrame:
        """What every query scores by the order as retrieved: query_id, metric, value; entropies have no such order."""
        return metrics_per_query(self, first_stage_scores(self))

    @cached_property
    def judged(self) -> Any:
        """What tells the share of a ranking's first ten that are judged."""
        return ir_measures.evaluator([JUDGED], self.judgments)


def open_test(study: Study, collection: Collection, name: str | None = None) -> Test:
    """Return the test of that name, the one that the study opens with where none is given."""
    chosen = study.headline_test if study.headline_test in collection.tests else collection.tests[0]
    name = name or chosen
    judgments = collection.test_judgments(name).rename(columns={"document_id": "doc_id"})
    relevant_from = collection.facts(name)["relevant_from"]
    candidates, settings = collection.test_candidates(name), study.evaluation
    return Test(name, candidates, judgments, settings.metrics, settings.depth, relevant_from)


class Ranked(NamedTuple):
    """A test as a checkpoint scored it.

    scores: of the rows of `test.candidates`; values: query_id, metric, score (by which it ranks), value.
    limits: `reference_values`, whose metrics are its index; random_order, first_stage: what a random order and the one
    as retrieved score, query by query; judged: see `judged_at_10`; task: of `measurements.table`. first_stage_weight:
    of the scores that are interpolated, see `with_first_stage`.
    """

    test: Test
    scores: np.ndarray
    values: pd.DataFrame
    limits: pd.DataFrame
    random_order: pd.DataFrame
    first_stage: pd.DataFrame
    judged: float
    task: str = RERANK
    first_stage_weight: float | None = None

    def per_query(self) -> pd.DataFrame:
        """Return `values` with what other orders of the same query score: first_stage and random_order."""
        table = self.values
        for name in ("first_stage", "random_order"):
            other = getattr(self, name)[["query_id", "metric", "value"]].rename(columns={"value": name})
            table = table.merge(other, on=["query_id", "metric"], how="left")
        return table

    def means(self) -> pd.DataFrame:
        """Return the mean over queries of every metric and score, with its limits and beside a random order.

        Columns metric, score, value, judged@10, those of `limits`, over_random_lo and over_random_hi: the paired 95 %
        interval, over queries, of what the value is more than a random order's; where the model was measured together
        with the first stage first_stage_weight too.
        """
        table = self.per_query()
        groups = table.assign(over=table["value"] - table["random_order"]).groupby(["metric", "score"], sort=False)
        ends = [mean_with_interval(over)[1:] for _, over in groups["over"]]
        means = groups["value"].mean().reset_index().join(self.limits[list(REFERENCES)], on="metric")
        ends = pd.DataFrame(ends, means.index, ["over_random_lo", "over_random_hi"])
        means = means.join(ends).assign(**{"judged@10": self.judged})
        if self.first_stage_weight is None:
            return means
        together = means["metric"].str.endswith((INTERPOLATED, RANK_FUSED))
        weight = pd.Series(self.first_stage_weight, means.index).where(means["metric"].str.endswith(INTERPOLATED))
        judged = means["judged@10"].where(~together)  # of the model's own order
        return means.assign(**{"judged@10": judged, "first_stage_weight": weight})


def ranked_test(test: Test, scores: np.ndarray, limits: pd.DataFrame) -> Ranked:
    """Return a test whose candidates were scored, with every metric and entropy of every query."""
    metrics, judged = measure_ranking(test, scores)
    values = pd.concat([metrics, entropies_per_query(test, scores)], ignore_index=True)
    return Ranked(test, scores, values.assign(score=OWN), limits, test.random_order, test.first_stage, judged)


def ranking(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return the retrieved candidates of every query, best first, with their score and rank; see `in_order`."""
    return in_order(test.candidates.assign(score=scores)[test.candidates["retrieved"]], "query_row")


def metrics_per_query(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return query_id, metric, value for every test query; scores stand for the rows of `test.candidates`."""
    return measure_ranking(test, scores)[0]


def judged_at_10(test: Test, scores: np.ndarray) -> float:
    """Return the share of the first ten documents that have a judgment, mean over queries."""
    return measure_ranking(test, scores)[1]


def measure_ranking(test: Test, scores: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Return `metrics_per_query` and `judged_at_10`, of one ranking."""
    run = ranks_as_scores(ranking(test, scores))
    judged = np.mean([value.value for value in test.judged.iter_calc(run)])
    return values_per_query(test.evaluators, run), float(judged)


def entropies_per_query(test: Test, scores: np.ndarray) -> pd.DataFrame:
    """Return the contrastive entropies in nats: query_id, metric, value (arXiv 2603.04816, §3).

    −log softmax of the relevant document's score among itself and k = depth − 1 negatives: the best-ranked candidates
    with no grade above 0, filled up with other queries' candidates. The relevant document is scored whether it was
    retrieved or not. CEk is on raw logits, for every query with
    a relevant document. CEk-T divides the logits by the one temperature that is best for half of these queries, chosen
    by the hash of their ids, and stands for the other half alone.
    """
    queries, margins, begins = _margins(test, scores)
    tuning = np.array([int(digest(query, length=8), 16) % 2 == 0 for query in queries], bool)
    inverse = best_inverse_temperature(margins, begins, tuning)
    raw = pd.DataFrame({"query_id": queries, "metric": test.entropy, "value": _entropies(margins, begins)})
    calibrated = raw.assign(metric=f"{test.entropy}-T", value=_entropies(inverse * margins, begins))[~tuning]
    return pd.concat([raw, calibrated], ignore_index=True)


def _margins(test: Test, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the queries, every score less that of its query's positive (its own is 0), and where queries begin."""
    table = test.candidates.assign(score=scores.astype(float))
    negatives = table[(table["relevance"] <= 0) & ~table["positive"]]
    negatives = negatives[negatives.groupby("query_id").cumcount() < test.depth - 1]
    positives = table[table["positive"]].set_index("query_id")["score"]
    kept = pd.concat([table[table["positive"]], negatives[negatives["query_id"].isin(positives.index)]])
    kept = kept.sort_values("query_row", kind="stable")
    margins = kept["score"].to_numpy() - positives.loc[kept["query_id"]].to_numpy()
    first = ~kept["query_id"].duplicated().to_numpy()
    return kept["query_id"].to_numpy()[first], margins, np.flatnonzero(first)


def _entropies(margins: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return log Σ exp(margin) of every query."""
    with np.errstate(invalid="ignore"):  # scores of a failed run
        return np.logaddexp.reduceat(margins, begins) if len(begins) else np.empty(0)


def best_inverse_temperature(margins: np.ndarray, begins: np.ndarray, tuning: np.ndarray) -> float:
    """Return the factor of the margins with the lowest mean entropy over the queries that `tuning` marks; else 1."""
    if not tuning.any() or not np.isfinite(margins).all():
        return 1.0
    mean = minimize_scalar(
        lambda power: _entropies(np.exp(power) * margins, begins)[tuning].mean(),
        bounds=INVERSE_TEMPERATURES,
        method="bounded",
    )
    return float(np.exp(mean.x))


def reference_values(test: Test) -> pd.DataFrame:
    """Return ceiling (relevant documents first), first_stage (as retrieved) and random_order for every metric.

    Metrics are the index; an entropy has the last alone.

    Raises:
        StudyError: ir-measures cannot compute one of the metrics on this test.
    """
    order = first_stage_scores(test)
    _check_metrics(test, order)
    perfect = test.candidates["relevance"].to_numpy() * 1e6 + order
    means = [table.groupby("metric")["value"].mean() for table in (metrics_per_query(test, perfect), test.first_stage)]
    limits = pd.DataFrame({"ceiling": means[0], "first_stage": means[1]})
    return beside_random_order(limits, test.random_order)


def _check_metrics(test: Test, scores: np.ndarray) -> None:
    """Make sure that every metric can be computed on a test, as some want ids that are numbers."""
    run = ranks_as_scores(ranking(test, scores))
    for name in test.metrics:
        try:
            values_per_query({name: test.evaluators[name]}, run)
        except Exception as error:  # providers run commands and compiled code, each with errors of its own
            reason = " ".join(str(error).split())[:120]
            raise StudyError(
                f"evaluation.metrics: ir-measures cannot compute {name} on {test.name} ({reason}): leave it out."
            ) from error


def beside_random_order(limits: pd.DataFrame, random_order: pd.DataFrame) -> pd.DataFrame:
    """Return limits, whose metrics are the index, with random_order, the mean over queries, and its standard_error.

    Entropies, which have no other limits here, come last.
    """
    chance = random_order.groupby("metric", sort=False)[["value", "standard_error"]].mean()
    chance = chance.rename(columns={"value": "random_order"})
    return limits.reindex(limits.index.union(chance.index, sort=False)).join(chance)


def first_stage_scores(test: Test) -> np.ndarray:
    """Return scores that keep the order of the first stage."""
    return -test.candidates["rank"].fillna(1e6).to_numpy(float)
