"""Models that exist, measured on a study's tests and compared with its ladder."""

import numpy as np
import pandas as pd
import pytest
import torch

from rankscale_utils.analysis.significance import paired
from rankscale_utils.analysis.systems import compare_systems
from rankscale_utils.collections import open_collection
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import metrics_per_query, open_test
from rankscale_utils.evaluation.speed import measure_study
from rankscale_utils.evaluation.systems import checkpoint_of_system, evaluate_system
from rankscale_utils.evaluation.trec_runs import scores_of_run
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.report.systems import systems_sentences
from rankscale_utils.study.loading import load_study
from tests.conftest import write_tiny
from tests.dictionary import undescribed
from tests.models.tiny import save_encoder

CPU = torch.device("cpu")


@pytest.fixture
def study(trained, tmp_path):
    """Return the tiny study, trained, with a reranker of random weights beside it."""
    save_encoder(tmp_path / "params" / "theirs", "roberta", 16, reranker=True)
    return write_tiny(tmp_path, systems={"theirs": "theirs"})


def test_a_system_is_measured_as_checkpoints_are(study):
    collection = open_collection(study)
    table = evaluate_system(study, "theirs", collection, CPU)
    test = open_test(study, collection)
    scores = scores_of_run(test, checkpoint_of_system(study, "theirs"))
    means = metrics_per_query(test, scores).groupby("metric")["value"].mean()
    found = table.set_index("metric")["value"]
    assert found[list(means.index)].to_dict() == pytest.approx(means.to_dict())
    row = table.iloc[0]
    assert (row["system"], row["pretrained"], row["family"], row["pair_tokens"]) == (
        "theirs",
        "theirs",
        "cross_encoder",
        102,
    )
    assert row["excluded"] == ""
    assert row["first_stage"] < row["ceiling"] <= 1
    assert 0 <= row["cut"] < 1


def test_systems_stand_beside_the_largest_rung_query_by_query(study, small_batch):
    collection = open_collection(study)
    for run in study.runs:
        evaluate_run(study, run, collection, CPU)
    evaluate_system(study, "theirs", collection, CPU)
    scored = pd.DataFrame(
        [{"objective": "listwise", "rung": "w12", "metric": "nDCG@10", "collection": "docstrings/test", "score": "own",
          "task": "rerank", "kind": "new_run", "law": "average", "forecast": 0.5, "lo": 0.4, "hi": 0.6}]
    )  # fmt: skip
    table = compare_systems(study, scored)
    values = pd.read_parquet(study.folder / "systems" / "theirs" / "per_query.parquet")
    ladder = pd.read_parquet(study.folder / "listwise-w12-s0" / "per_query.parquet")
    ladder = ladder[ladder["exposure"] == 960]
    for row in table.to_dict("records"):
        own, rung = (some[some["metric"] == row["metric"]].set_index("query_id")["value"] for some in (values, ladder))
        assert (row["rung"], row["value"], row["rung_value"]) == ("w12", *map(pytest.approx, (own.mean(), rung.mean())))
        expected = paired(rung - own)
        assert [row[f"difference{end}"] for end in ("", "_lo", "_hi")] == pytest.approx(
            [expected[name] for name in ("difference", "lo", "hi")]
        )
    forecast = table.set_index("metric")["forecast"]
    assert forecast["nDCG@10"] == 0.5
    assert forecast.drop("nDCG@10").isna().all()
    timed = measure_study(study, collection, CPU, queries=3, repeats=1)
    stored = timed.assign(bytes_per_document=timed["bytes_per_document"].where(timed["name"] != "theirs", 96.0))
    assert systems_sentences(table, "nDCG@10", stored)[0].endswith("theirs, whose embeddings of documents are stored.")
    (said,) = systems_sentences(table, "nDCG@10", timed)
    assert "are stored" not in said
    assert said.startswith("Train w12, or take theirs as it is? w12 with the listwise objective, forecast to reach 0.5")
    assert " candidates take " in said
    assert not [fault for fault in undescribed(study.folder, set()) if "systems" in fault]


def test_a_model_that_tells_nothing_apart_is_excluded(study, monkeypatch):
    constant = lambda published, pairs, *rows: np.zeros(len(rows[0]), np.float32)  # noqa: E731
    monkeypatch.setattr("rankscale_utils.evaluation.systems.score_published", constant)
    assert set(evaluate_system(study, "theirs", open_collection(study), CPU)["excluded"]) == {"constant scores"}


def test_what_cannot_work_is_refused_before_anything_is_prepared(new_study, tmp_path):
    study = new_study(systems={"theirs": "bare"})
    save_encoder(tmp_path / "params" / "bare", "bert", 16)
    with pytest.raises(StudyError, match=r"^systems\.theirs = .* has neither a head for scores nor"):
        prepare(study)
    assert not study.folder.exists()


def test_a_study_that_brings_measurements_has_no_systems(new_study, tmp_path):
    (tmp_path / "params" / "own.yaml").write_text(
        "measurements: own.csv\nsystems: {theirs: some/model}\nheld_out: {rungs: [large]}\n"
    )
    new_study()
    with pytest.raises(StudyError, match=r"systems = .*: a study that brings its measurements has no texts"):
        load_study("own")
