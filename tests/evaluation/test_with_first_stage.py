"""A model together with the first stage: weights come from other queries, and metrics are of their own."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from rankscale_utils.analysis.on_tests import run_with_first_stage
from rankscale_utils.collections import open_collection
from rankscale_utils.collections.collection import DEV
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import Test, metrics_per_query, ranked_test, reference_values
from rankscale_utils.evaluation.scorers import open_tests, references
from rankscale_utils.evaluation.with_first_stage import (
    best_weight,
    interpolated,
    rank_fused,
    together,
    with_first_stage,
)
from rankscale_utils.measurements.directions import rising
from rankscale_utils.measurements.table import RERANK, SEARCH
from rankscale_utils.report.with_first_stage import together_sentences
from rankscale_utils.training.run import train
from tests.conftest import TINY, write_tiny

CPU = torch.device("cpu")


@pytest.fixture
def by_hand():
    """Return two queries of three candidates each; the first stage has each relevant document second."""
    rows = [
        ("q", "a", 1, 30.0, 0, 0),
        ("q", "p", 2, 20.0, 0, 1),
        ("q", "b", 3, 10.0, 0, 0),
        ("r", "c", 1, 9.0, 1, 0),
        ("r", "s", 2, 8.0, 1, 1),
        ("r", "e", 3, 1.0, 1, 0),
        ("r", "x", None, None, 1, 0),
    ]
    table = pd.DataFrame(rows, columns=["query_id", "document_id", "rank", "score", "query_row", "relevance"])
    table = table.assign(
        document_row=range(len(table)), retrieved=table["rank"].notna(), positive=table["relevance"] > 0
    )
    judgments = pd.DataFrame({"query_id": ["q", "r"], "doc_id": ["p", "s"], "relevance": [1, 1]})
    return Test("by hand", table, judgments, ("RR@10", "nDCG@10"), 3)


def test_interpolation_and_fusion_by_hand(by_hand):
    scores = np.array([0.0, 1.0, 2.0, 1.0, 3.0, 2.0, 99.0], np.float32)
    step = 1.5**0.5  # standard deviation of 0, 1, 2 is √(2/3)
    assert interpolated(by_hand, scores, 0)[:3] == pytest.approx([-step, 0, step])
    assert interpolated(by_hand, scores, 1)[:3] == pytest.approx([step, 0, -step])
    assert interpolated(by_hand, scores, 0.25)[:3] == pytest.approx([-step / 2, 0, step / 2])
    assert interpolated(by_hand, scores, 1)[3:6] == pytest.approx(stats.zscore([9.0, 8.0, 1.0]))
    assert np.isnan(interpolated(by_hand, scores, 0.5)[6])
    ranks = [(3, 1), (2, 2), (1, 3), (3, 1), (1, 2), (2, 3)]
    assert rank_fused(by_hand, scores)[:6] == pytest.approx([1 / (60 + own) + 1 / (60 + first) for own, first in ranks])
    assert np.isnan(rank_fused(by_hand, scores)[6])


def test_equal_scores_leave_the_first_stages_order(by_hand):
    equal = interpolated(by_hand, np.zeros(7, np.float32), 0.5)
    assert (
        metrics_per_query(by_hand, equal)["value"].tolist()
        == metrics_per_query(by_hand, np.array([3.0, 2, 1, 3, 2, 1, 0]))["value"].tolist()
    )


def test_the_weight_is_the_best_one_of_the_queries_it_is_learnt_on(by_hand):
    right = np.array([0.0, 3.0, 1.0, 0.0, 3.0, 1.0, 0.0], np.float32)
    wrong = np.array([2.0, 0.0, 3.0, 2.0, 0.0, 3.0, 0.0], np.float32)
    assert best_weight(by_hand, right) < 0.5
    assert best_weight(by_hand, wrong) == 0.85
    weights = np.arange(0, 101, 5) / 100
    means = [metrics_per_query(by_hand, interpolated(by_hand, wrong, weight))["value"][:2].mean() for weight in weights]
    assert means[round(best_weight(by_hand, wrong) * 20)] == max(means)


def test_no_query_has_a_say_in_its_own_weight(by_hand):
    """Each half's weight is the other's best: of two queries, one a half, whose best weights are apart."""
    ids = {"q": "0", "r": "1"}
    from rankscale_utils.evaluation.with_first_stage import _in_second_half

    assert {_in_second_half(name) for name in map(str, range(9))} == {True, False}
    ids["r"] = next(name for name in map(str, range(1, 9)) if _in_second_half(name) != _in_second_half("0"))
    table = by_hand.candidates.assign(query_id=by_hand.candidates["query_id"].map(ids))
    judgments = by_hand.judgments.assign(query_id=by_hand.judgments["query_id"].map(ids))
    test = dataclasses.replace(by_hand, candidates=table, judgments=judgments)
    scores = np.array([0.0, 3.0, 1.0, 2.0, 0.0, 3.0, 0.0], np.float32)  # right of the first, wrong of the second
    ranked = with_first_stage(ranked_test(test, scores, reference_values(test)), None)
    values = ranked.values.set_index(["query_id", "metric"])["value"]
    assert values["0", "RR@10"] == 1
    assert values["0", "RR@10 with first stage"] == 0.5  # by the weight that the second one would have
    assert ranked.first_stage_weight == pytest.approx(
        np.mean([best_weight(part, part_scores) for part, part_scores in halves(test, scores)]), abs=0.06
    )


def halves(test, scores):
    """Yield each query as a test of its own, with its scores."""
    for name in test.judgments["query_id"]:
        mine = (test.candidates["query_id"] == name).to_numpy()
        candidates = test.candidates[mine].reset_index(drop=True)
        yield (
            dataclasses.replace(
                test, candidates=candidates, judgments=test.judgments[test.judgments["query_id"] == name]
            ),
            scores[mine],
        )


@pytest.fixture
def study(trained, tmp_path):
    """Return the tiny study, trained, which measures models together with the first stage."""
    return write_tiny(tmp_path, with_first_stage={"queries": 30})


def test_weights_are_learnt_on_queries_that_are_neither_trained_nor_tested(study):
    collection = open_collection(study)
    dev, test = open_tests(study, collection)
    queries = collection.queries()
    assert (dev.name, collection.tests) == (DEV, ["docstrings/test"])
    texts = {name: set(rows["text"]) for name, rows in queries.groupby("test")}
    assert len(texts[DEV]) == 30
    assert not texts[DEV] & (texts[""] | texts["docstrings/test"])
    assert dev.candidates["score"].notna().equals(dev.candidates["retrieved"])
    by_rank = test.candidates[test.candidates["retrieved"]].groupby("query_id")["score"]
    assert by_rank.is_monotonic_decreasing.all()
    assert (
        "on 30 queries of docstrings/dev, which are not tested"
        in contract(study, collection, "docstrings/test")["with first stage"]
    )


def test_what_is_reached_together_is_measured_beside_the_models_own(study):
    collection, run = open_collection(study), study.run("listwise-w12-s0")
    table = evaluate_run(study, run, collection, CPU)
    last = table[table["exposure"] == 960].set_index("metric")
    assert set(table["collection"]) == {"docstrings/test"}
    names = [
        metric + ending for metric in study.evaluation.metrics for ending in (" with first stage", " by rank fusion")
    ]
    assert set(names) < set(last.index)
    assert all(map(rising, names))
    for name in names:
        own = last.loc[name.split(" ")[0]]
        assert last.loc[name, ["ceiling", "first_stage", "random_order"]].tolist() == pytest.approx(
            own[["ceiling", "first_stage", "random_order"]].tolist()
        )
    weight = last["first_stage_weight"].dropna()
    assert set(weight.index) == {name for name in names if name.endswith("with first stage")}
    assert weight.nunique() == 1
    assert weight.iloc[0] in np.arange(0, 101, 5) / 100
    found = run_with_first_stage(study, run, table)
    row = found.set_index("metric").loc["nDCG@10 with first stage"]
    assert row["value"] == pytest.approx(last.loc["nDCG@10 with first stage", "value"])
    values = pd.read_parquet(study.run_folder(run) / "per_query.parquet")
    values = values[(values["exposure"] == 960) & (values["metric"] == "nDCG@10 with first stage")]
    tested = stats.ttest_1samp(values["value"] - values["first_stage"], 0).confidence_interval()
    assert (row["over_first_stage_lo"], row["over_first_stage_hi"]) == pytest.approx(tuple(tested))
    (said,) = together_sentences(found)
    assert said.startswith("Together with the first stage, scores interpolated, w12 trained listwise reaches nDCG@10 ")
    assert f"{row['over_first_stage_lo']:+.4f}" in said
    assert set(names) < set(references(study, collection)["metric"])


def test_own_values_are_what_they_are_without(study, trained):
    collection, plain = open_collection(study), open_collection(trained)
    run = study.run("listwise-w8-s0")
    both, alone = evaluate_run(study, run, collection, CPU), evaluate_run(trained, run, plain, CPU)
    kept = both[both["metric"].isin(alone["metric"])].reset_index(drop=True)[list(alone)]
    pd.testing.assert_frame_equal(kept, alone)
    assert plain.has_dev is False


def test_only_the_tests_own_queries_are_yielded(by_hand):
    scores = np.arange(7, dtype=np.float32)
    dev = dataclasses.replace(by_hand, name=DEV)
    found = [ranked_test(test, scores, reference_values(test)) for test in (dev, by_hand)]
    assert [ranked.test.name for ranked in together(found, wanted=True)] == ["by hand"]
    assert [ranked.first_stage_weight for ranked in together(found[1:], wanted=False)] == [None]


def test_dev_is_neither_trained_nor_tested(new_study):
    tests = {"nf": {"ir_datasets": "beir/nfcorpus/test"}}
    with pytest.raises(StudyError, match=r"with_first_stage = .*: dev is trained or tested on: name a collection of"):
        new_study(evaluation={"tests": tests}, with_first_stage={"dev": tests["nf"]})
    assert new_study(with_first_stage=True).with_first_stage.queries == 300
    assert new_study(with_first_stage=False).with_first_stage is None


@pytest.mark.parametrize("objective", ["contrastive", "generation"])
def test_other_families_are_measured_together_with_it_too(new_study, objective):
    """Where a model searches, what it finds is left as it is."""
    study = new_study(
        objectives={objective: {"seeds": [0], "learning_rate": {"base": 1e-3}}},
        training=TINY["training"] | {"exposures": [48, 96]},
        evaluation={"queries": 20, "depth": 10, "negatives": 16, "pool": 100, "metrics": ["nDCG@10"]},
        with_first_stage={"queries": 10},
    )
    collection, run = open_collection(study), study.run(f"{objective}-w4-s0")
    train(study, run, collection, CPU)
    table = evaluate_run(study, run, collection, CPU)
    metrics = {task: set(rows["metric"]) for task, rows in table.groupby("task")}
    names = {"nDCG@10 with first stage", "nDCG@10 by rank fusion"}
    assert names < metrics[RERANK]
    assert not names & metrics.get(SEARCH, set())
    assert (SEARCH in metrics) == (objective == "contrastive")
    assert set(table["collection"]) == {"docstrings/test"}
    known = references(study, collection)
    assert known.groupby("task")["metric"].agg(set).to_dict().keys() == metrics.keys()
    assert names < set(known["metric"])
