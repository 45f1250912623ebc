"""The controls of 9_explore: what is moved is shown, what lacks is said, and a query can be read."""

import shutil

import pandas as pd
import pytest
import torch

from rankscale_utils import query_gains, read_query, training_curves
from rankscale_utils.collections import open_collection
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.read_query import open_rankings
from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.per_query import per_query
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.report import explore, explore_queries
from rankscale_utils.report.controls import choose_study, follow
from tests.conftest import use_root, write_tiny
from tests.faults.finished import contents

RUNGS = ["w4", "w6", "w8", "w12"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, session_root):
    """The tiny study, trained and evaluated."""
    root = tmp_path_factory.mktemp("explored")
    with pytest.MonkeyPatch.context() as patch:
        use_root(patch, root, session_root / "cache")
        patch.setenv("RANKSCALE_RESULTS", "write")
        tiny = write_tiny(root, forecasting={"metrics": ["nDCG@10", "CE9"], "draws": 100})
        shutil.copytree(session_root / "runs" / tiny.name, tiny.folder)
        prepare(tiny)
        small = open_collection(tiny)
        for run in tiny.runs:
            evaluate_run(tiny, run, small, torch.device("cpu"))
        yield tiny


def test_gains_are_the_larger_rungs_in_either_direction(study):
    values = per_query(study, study.runs)
    values = values[(values["exposure"] == 960) & (values["rung"].isin(["w4", "w12"]))]
    for metric, sign in (("nDCG@10", 1), ("CE9", -1)):
        gains = query_gains(study, "w4", "w12", metric=metric)
        wide = values[values["metric"] == metric].pivot(index="query_id", columns="rung", values="value")
        wanted = sign * (wide["w12"] - wide["w4"])
        pd.testing.assert_series_equal(
            gains.set_index("query_id")["gain"], wanted[gains["query_id"]], check_names=False
        )
        assert gains["gain"].is_monotonic_increasing
        assert len(gains) == 40
    with pytest.raises(StudyError, match="rung = 'w5': no query was measured so; use one of w4, w6, w8, w12"):
        query_gains(study, "w5", "w12")


def test_a_query_is_read_as_rungs_rank_it(study):
    query = query_gains(study, "w4", "w12")["query_id"].iloc[0]
    read = read_query(study, query, ["w4", "w12"], depth=3)
    collection = open_collection(study)
    texts = collection.documents().set_index("document_id")["text"]
    assert read.text == collection.queries().set_index("query_id").loc[query, "text"]
    assert read.documents["text"].tolist() == texts[read.documents["document_id"]].tolist()
    assert ((read.documents[["w4", "w12"]] <= 3).any(axis=1)).all()
    assert sorted(read.documents["w12"])[:3] == [1, 2, 3]
    judged = collection.test_judgments(collection.tests[0]).query("query_id == @query")
    seen = read_query(study, query, ["w4"]).documents  # all ten candidates
    assert len(seen) == 10
    relevant = set(judged["document_id"]) & set(seen["document_id"])
    assert set(seen.loc[seen["judged"] > 0, "document_id"]) == relevant
    with pytest.raises(StudyError, match="query = 'q0' is not among the 40 queries of docstrings/test"):
        read_query(study, "q0", ["w4"])


def test_documents_are_marked_moved_and_escaped(study):
    documents = pd.DataFrame(
        [("d1", 1.0, 2, 2, 1, "<b> & $x$"), ("d2", float("nan"), 1, 1, 2, "y" * 300)],
        columns=["document_id", "judged", "first_stage", "w4", "w12", "text"],
    )
    found = open_rankings(study).read(query_gains(study, "w4", "w12")["query_id"].iloc[0], ["w4"], "listwise")
    html = explore_queries.documents_table(type(found)("q", "a < b", documents), ["w4", "w12"])
    assert "a &lt; b" in html
    assert "&lt;b&gt; &amp; $x$" in html
    assert html.index("relevant") < html.index("▲1") + 200
    assert html.count("▲1") == html.count("▼1") == 1
    assert "<details>" in html
    assert "tex2jax_ignore" in html


def test_losses_of_all_ended_runs(study):
    curves = training_curves(study, "listwise")
    assert curves["rung"].unique().tolist() == RUNGS
    assert (curves.groupby("run")["exposure"].max() <= 960).all()
    assert curves["loss"].between(0, 10).all()
    axes = explore.losses_figure(curves)
    assert {text.get_text() for text in axes.texts} == set(RUNGS)


def test_what_is_moved_is_shown_with_its_line_of_python(study):
    before = contents(study.folder.parents[1])
    chosen = choose_study(study)
    assert chosen.options == (("tiny", str(study.source)),)
    queries = follow(chosen, explore_queries.explore_queries, open_rankings).children[0]
    controls, gains, query, reading = queries.children
    assert "read_query(&#x27;tiny&#x27;" in reading.value
    assert "w12 ranks" in gains.value
    query.value = query.options[-1][1]
    assert query.value in reading.value
    metric = next(control for control in controls.children if control.description == "metric")
    metric.value = "CE9"
    assert "by CE9" in gains.value
    training = follow(chosen, explore.explore_training).children[0]
    assert "training_curves(&#x27;tiny&#x27;, &#x27;listwise&#x27;)" in training.children[-1].value
    forecasts = follow(chosen, explore.explore_forecasts).children[0]
    shown, ticks = forecasts.children[-1], forecasts.children[1]
    assert "Laws see w4, w6, w8: 3 runs" in shown.value
    assert shown.value.count("<svg") == 2
    ticks.boxes["w4"].value = False
    assert "2 rungs are left, and a law of size needs 3: leave out less." in shown.value
    ticks.boxes["w4"].value = True
    prior = next(control for control in forecasts.children[-2].children if control.description == "prior")
    prior.value = "off"
    assert "your choices" in shown.value
    assert "prior=&#x27;off&#x27;" in shown.value
    assert contents(study.folder.parents[1]) == before


def test_what_a_study_lacks_is_said_in_place_of_a_section(tiny_study):
    chosen = choose_study(tiny_study)
    for section, sentence in (
        (explore.explore_forecasts, "has not been evaluated: run `make study STUDY=tiny` first."),
        (explore.explore_training, "no run of tiny has ended yet: `make study STUDY=tiny` trains them."),
        (explore_queries.explore_queries, "no run of tiny was measured yet: `make study STUDY=tiny` does it."),
    ):
        more = [open_rankings] if section is explore_queries.explore_queries else []
        (said,) = follow(chosen, section, *more).children
        assert sentence in said.value


def test_runs_too_short_for_a_curve_say_so(study, monkeypatch):
    monkeypatch.setattr("rankscale_utils.measurements.training_curves.read_json", _without_curve)
    with pytest.raises(StudyError, match="the runs of tiny are too short for a curve, of which a point is the mean of"):
        training_curves(study)


def _without_curve(path):
    return read_json(path) | {"curve": {"pairs": [], "loss": []}}
