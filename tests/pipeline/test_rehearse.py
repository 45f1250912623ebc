"""A study is rehearsed when it is prepared, and again when its settings of fits change before all is trained."""

import math

import pandas as pd
import pytest

from rankscale_utils.errors import StudyError
from rankscale_utils.pipeline.batch import check
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.study import paths

FEW = {"draws": 100}


def test_a_prepared_study_says_what_will_be_left_out_and_is_rehearsed_again(new_study):
    study = new_study(forecasting=FEW)
    check(study)  # nothing is prepared yet, so nothing is known
    prepare(study)
    left_out = pd.read_csv(paths.rehearsal_file(study.folder))["left_out"].tolist()
    ceiling = "{0} on docstrings/test: {0} is its ceiling, 0.6, in every run: reranking the candidates cannot change it"
    assert ceiling.format("R@10") in left_out  # at a depth of ten
    check(study)
    with pytest.raises(StudyError, match=r"forecasting\.metrics \['nDCG@5'\] will not be measured: name some of"):
        check(new_study(forecasting=FEW | {"metrics": ["nDCG@5"]}))
    with pytest.raises(StudyError, match=r"forecasting\.metrics = \['R@10'\]: nothing can be forecast, as R@10 is its"):
        check(new_study(forecasting=FEW | {"metrics": ["R@10"]}))
    check(new_study(forecasting=FEW | {"metrics": ["R@5"]}, evaluation={"queries": 40, "depth": 20}))  # prepared anew


def test_a_study_that_can_never_be_fitted_is_refused_and_nothing_is_prepared(new_study):
    ladder = {"deep": {"hidden": 8}, "wide": {"hidden": 8}, "w6": {"hidden": 6}, "w12": {"hidden": 12}}
    study = new_study(ladder=ladder, forecasting=FEW)
    with pytest.raises(StudyError, match="the fitted rungs deep, wide, w6 of the cross_encoder have 2 sizes"):
        prepare(study)
    assert not paths.ladder_file(study.folder).exists()


def test_a_metric_that_ir_measures_cannot_compute_here_is_named(new_study):
    study = new_study(evaluation={"queries": 40, "depth": 10, "metrics": ["nDCG@10", "ERR@10"]})
    with pytest.raises(StudyError, match="ir-measures cannot compute ERR@10 on docstrings/test"):
        prepare(study)


def test_a_search_lies_between_a_random_one_and_a_perfect_one(new_study):
    objectives = {"contrastive": {"learning_rate": {"base": 1e-3}}}
    study = new_study(objectives=objectives, evaluation={"queries": 40, "depth": 10, "negatives": 64}, forecasting=FEW)
    prepare(study)
    between = pd.read_csv(paths.references_file(study.folder)).set_index(["task", "metric"])
    documents = pd.read_json(paths.collection_file(study.folder), typ="series")["tests"]["docstrings/test"]["documents"]
    assert between.loc[("search", "R@5"), "random_order"] == pytest.approx(5 / documents)
    assert between.loc[("search", "R@10"), "ceiling"] == 1
    assert between.loc[("search", "CE64"), "random_order"] == pytest.approx(math.log(65))
    assert between.loc[("rerank", "CE9"), "random_order"] == pytest.approx(math.log(10))
    assert between.loc[("rerank", "R@10"), "random_order"] == between.loc[("rerank", "R@10"), "ceiling"]
