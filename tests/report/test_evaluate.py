import pandas as pd
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.report import evaluate as page
from tests.report.html import cells, records

RUN = "listwise-w8-s0"


def test_a_runs_metrics_stand_beside_their_limits(trained):
    table = evaluate_run(trained, trained.run(RUN), open_collection(trained), torch.device("cpu"))
    value = table[(table["metric"] == "AP") & (table["exposure"] == 480)]["value"].item()
    shown = page.metrics_table(table)
    head = ["metric", "240", "480", "960", "random order", "first stage", "ceiling"]
    assert cells(shown)[0] == head
    rows = {row["metric"]: row for row in records(shown)}
    assert rows["AP"]["480"] == f"{value:.4f}"
    assert (rows["CE9"]["ceiling"], rows["CE9"]["random order"]) == ("–", "2.3026")  # ln 10

    both = page.metrics_table(pd.concat([table, table.assign(collection="another", value=0.5)]))
    assert cells(both)[0] == ["collection", *head]
    of_ap = {row["collection"]: row["480"] for row in records(both) if row["metric"] == "AP"}
    assert of_ap == {table["collection"].iloc[0]: f"{value:.4f}", "another": "0.5000"}

    both = page.metrics_table(pd.concat([table, table.assign(task="search", value=0.25)]))
    of_ap = {row["collection"]: row["480"] for row in records(both) if row["metric"] == "AP"}
    assert of_ap == {"docstrings/test": f"{value:.4f}", "docstrings/test, searched": "0.2500"}


@pytest.mark.parametrize(("value", "side"), [(0.9, "above"), (0.1, "below")])
def test_the_sentence_on_evaluation_compares_with_the_first_stage(tiny_study, value, side):
    row = {
        "metric": "nDCG@10",
        "collection": "first",
        "task": "rerank",
        "score": "own",
        "exposure": 960.0,
        "value": value,
        "first_stage": 0.5,
        "ceiling": 0.95,
        "random_order": 0.2,
        "excluded": "",
    }
    others = [
        row | other | {"value": 0.2} for other in ({"collection": "second"}, {"task": "search"}, {"score": "both"})
    ]
    table = pd.DataFrame([row | {"exposure": 240.0, "value": 0.0}, row, *others])
    said = page.last_checkpoint_sentence(tiny_study, table)
    assert f"After 960 pairs nDCG@10 on first is {value:.4f}, {side} the candidates' own order (0.5000)" in said
    assert "a random order of them reaches 0.2000 on average, a perfect reranking 0.9500." in said
    lost = page.chance_sentences(tiny_study, table)
    assert (
        lost == []
        if value == 0.9
        else lost[0].startswith("Not shown to be better than a random order: nDCG@10 0.1000 against 0.2000.")
    )
    near = table.assign(over_random_lo=-0.01, over_random_hi=1.4)
    assert page.chance_sentences(tiny_study, near)  # its interval over queries holds nothing
    excluded = page.last_checkpoint_sentence(tiny_study, table.assign(excluded="constant scores"))
    assert "excluded from fits: constant scores" in excluded


def test_a_figure_shows_each_metric_with_the_candidates_limits():
    row = {"objective": "listwise", "collection": "first", "value": 0.6}
    row |= {"first_stage": 0.5, "ceiling": 0.95, "random_order": 0.2}
    entropy = {"metric": "CE9", "exposure": 240.0, "value": 2.0}
    entropy |= {"first_stage": None, "ceiling": None, "random_order": 2.3026}
    table = pd.DataFrame([row | {"metric": "AP", "exposure": e} for e in (480.0, 240.0)] + [row | entropy])
    ranked, fallen = page.run_by_exposure(table, ["AP", "CE9"])
    assert ranked.lines[0].get_xdata().tolist() == [240, 480]
    assert [text.get_text() for text in ranked.texts] == ["ceiling", "first stage", "random order"]
    assert (ranked.get_ylabel(), fallen.get_ylabel()) == ("AP", "CE9, nats")
    assert [text.get_text() for text in fallen.texts] == ["random order"]
