"""A ranking's numbers are trec_eval's, however run and judgments are given."""

import gzip

import numpy as np
import pandas as pd
import pytest
import pytrec_eval
from scipy import stats

from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.rankings import evaluate

TREC = {"nDCG@10": "ndcg_cut_10", "AP": "map", "R@5": "recall_5", "P@10": "P_10", "RR": "recip_rank"}


@pytest.fixture
def judged():
    """Return run and judgments of 30 queries, with graded judgments and many equal scores, as dicts."""
    rng = np.random.default_rng(0)
    documents = [f"d{number}" for number in range(40)]
    qrels = {f"q{q}": {d: int(rng.integers(0, 4)) for d in rng.permutation(documents)[:15]} for q in range(30)}
    run = {q: {d: float(rng.integers(0, 6)) / 3 for d in rng.permutation(documents)[:25]} for q in qrels}
    return run, qrels


def test_every_query_has_trec_evals_numbers(judged):
    run, qrels = judged
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC.values())).evaluate(run)
    ours = evaluate(run, qrels, list(TREC), per_query=True).pivot(index="query_id", columns="metric", values="value")
    for metric, name in TREC.items():
        assert ours[metric].to_dict() == pytest.approx({query: found[name] for query, found in theirs.items()}), metric


def test_means_have_t_intervals_over_all_queries(judged):
    run, qrels = judged
    run = {query: found for query, found in run.items() if query != "q3"}  # counts as 0
    every = evaluate(run, qrels, "RR@10", per_query=True)["value"].to_numpy()
    (row,) = evaluate(run, qrels, "RR@10").to_dict("records")
    assert len(every) == row["queries"] == 30
    assert row["value"] == pytest.approx(every.mean())
    lo, hi = stats.t.interval(0.95, 29, every.mean(), stats.sem(every))
    assert (row["lo"], row["hi"]) == pytest.approx((lo, hi))


def test_an_interval_stays_within_what_a_metric_can_be():
    (row,) = evaluate({"a": {"x": 1.0}}, {"a": {"x": 1}, "b": {"x": 1}}, "RR").to_dict("records")
    assert (row["lo"], row["value"], row["hi"]) == (0.0, 0.5, 1.0)


def test_equal_scores_are_ordered_by_document_id_descending_for_every_metric():
    qrels = {"q": {"a": 1, "b": 0}}
    for run in ({"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1.0 + 1e-12, "b": 1.0}}):  # equal in single precision
        assert evaluate(run, qrels, ["RR", "RR@10", "P@1"])["value"].tolist() == [0.5, 0.5, 0.0]


def test_files_tables_and_dicts_say_the_same(judged, tmp_path):
    run, qrels = judged
    lines = [f"{q} Q0 {d} 1 {score} mine\n" for q, found in run.items() for d, score in found.items()]
    (tmp_path / "my.run.gz").write_bytes(gzip.compress("".join(lines).encode()))
    lines = [f"{q} 0 {d} {grade}\n" for q, found in qrels.items() for d, grade in found.items()]
    (tmp_path / "my.qrels").write_text("".join(lines))
    tables = [
        pd.DataFrame([(q, d, number) for q, found in given.items() for d, number in found.items()], columns=columns)
        for given, columns in (
            (run, ["query_id", "document_id", "score"]),
            (qrels, ["query_id", "document_id", "relevance"]),
        )
    ]
    expected = evaluate(run, qrels)
    assert expected["metric"].tolist() == ["nDCG@10", "RR@10", "AP", "R@5", "R@10", "P@10"]
    pd.testing.assert_frame_equal(evaluate(tmp_path / "my.run.gz", str(tmp_path / "my.qrels")), expected)
    pd.testing.assert_frame_equal(evaluate(*tables), expected)


def test_scores_that_are_equal_in_single_precision_are_ties_as_trec_eval_has_them(judged):
    run, qrels = judged
    near = {query: {d: 1 + 1e-9 * score for d, score in found.items()} for query, found in run.items()}
    assert len({score for found in near.values() for score in found.values()}) == 6
    trec_eval = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "map"}).evaluate(near)
    ours = evaluate(near, qrels, ["nDCG@10", "AP"]).set_index("metric")["value"]
    assert ours["nDCG@10"] == pytest.approx(np.mean([found["ndcg_cut_10"] for found in trec_eval.values()]))
    assert ours["AP"] == pytest.approx(np.mean([found["map"] for found in trec_eval.values()]))
    assert ours["AP"] != pytest.approx(evaluate(run, qrels, ["AP"])["value"][0])


def test_binary_metrics_count_grades_from_relevant_from_on(judged):
    run, qrels = judged
    binary = {query: {d: int(grade >= 2) for d, grade in found.items()} for query, found in qrels.items()}
    assert evaluate(run, qrels, "AP", relevant_from=2).equals(evaluate(run, binary, "AP"))
    assert not evaluate(run, qrels, "AP").equals(evaluate(run, binary, "AP"))


def of(*rows, columns=("query_id", "document_id", "score")):
    return pd.DataFrame(rows, columns=list(columns))


@pytest.mark.parametrize(
    ("run", "metrics", "said"),
    [
        ({"q": {"a": 1.0}}, ["quality"], r"\['quality'\] are no rising measures in ir-measures' notation"),
        ({"x": {"a": 1.0}}, ["AP"], "no query of the run has judgments: its first is 'x', the judgments' 'q'"),
        ({}, ["AP"], "run has no rows"),
        ({"q": {"a": float("nan")}}, ["AP"], "score of document 'a' for query 'q' is nan, which is no number"),
        (of(("q", "a", 1), ("q", "a", 2)), ["AP"], "run names document 'a' twice for query 'q'"),
        (of(("q", "a", 1), columns=("query", "document_id", "score")), ["AP"], "run lacks query_id: it has query, do"),
        ("no.run", ["AP"], "run = 'no.run': there is no such file"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(run, metrics, said):
    with pytest.raises(StudyError, match=said) as caught:
        evaluate(run, {"q": {"a": 1}}, metrics)
    assert "\n" not in str(caught.value)


def test_a_grade_that_is_no_whole_number_is_refused():
    with pytest.raises(StudyError, match=r"qrels: relevance of document 'a' for query 'q' is 0\.5, which is no whole"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 0.5}})
