import pytest

from rankscale_utils.machine.files import read_json
from rankscale_utils.report import train as page
from tests.report.html import cells

RUN = "listwise-w8-s0"


@pytest.fixture
def ledger(trained):
    return read_json(trained.folder / RUN / "ledger.json")


def test_a_runs_facts_are_those_of_its_ledger(ledger):
    facts = dict(cells(page.facts_table(ledger)))
    assert facts["status"] == "complete"
    assert facts["rung"] == "w8, seed 0"
    assert f"{ledger['params']:,}" in facts["parameters"]
    assert f"{ledger['params_non_embedding']:,}" in facts["parameters"]
    assert facts["learning rate"] == f"{ledger['learning_rate']:.3g}"
    count = f"{ledger['flops_per_pair']:,.0f}"
    assert facts["training FLOPs a pair"] == f"{count}, 1 times those counted in a forward pass of its encoder"
    off = dict(cells(page.facts_table(ledger | {"flops_counted": 0.4167})))
    assert off["training FLOPs a pair"].startswith(f"{count}, 0.417 times those counted")
    uncounted = dict(cells(page.facts_table(ledger | {"flops_per_pair": None})))
    assert uncounted["training FLOPs a pair"] == "–"


def test_a_sweep_says_what_it_tried(ledger):
    sweep = {"factor": 2.0, "losses": {"1": 1.5, "2": 1.25, "4": "diverged"}}
    facts = dict(cells(page.facts_table(ledger | {"learning_rate": 0.006, "sweep": sweep})))
    assert facts["learning rate"] == (
        "0.006, the rule&#x27;s times 2, by the loss on held-out training queries: ×1 1.5000, ×2 1.2500, ×4 diverged"
    )


@pytest.mark.parametrize(("last", "verb"), [(0.5, "fell from"), (1.5, "did not fall")])
def test_the_sentence_on_training_follows_the_loss(ledger, last, verb):
    rows = [dict(row, loss=loss) for row, loss in zip(ledger["checkpoints"], (1.0, 0.9, last), strict=True)]
    said = page.loss_sentence(ledger | {"checkpoints": rows})
    assert verb in said
    assert "240 to 960 training pairs" in said
    assert f"{last:.3f}" in said


def test_a_failed_run_says_so(ledger):
    failed = {"status": "failed: the loss became nan at step 4"}
    assert "no fit uses it" in page.loss_sentence(ledger | failed)
    assert "before its first checkpoint" in page.loss_sentence(ledger | failed | {"checkpoints": []})


def test_a_run_on_annotated_pairs_says_who_annotated_them_and_where_it_ended(ledger):
    assert cells(page.checkpoints_table(ledger))[0][-1] == "cool-down loss"
    assert "own end" not in page.loss_sentence(ledger)
    rows = [row | {"dev": dev} for row, dev in zip(ledger["checkpoints"], (3.0, 2.5, 2.75), strict=True)]
    annotated = ledger | {"source": "inverse_cloze", "annotations": 2000, "checkpoints": rows}
    assert dict(cells(page.facts_table(annotated)))["annotated pairs"] == "2,000, inverse cloze"
    assert "Its own end is at 480 pairs" in page.loss_sentence(annotated)
    assert "2.5000 nats" in page.loss_sentence(annotated)
    assert [row[-1] for row in cells(page.checkpoints_table(annotated))] == [
        "dev entropy",
        "3.0000",
        "2.5000",
        "2.7500",
    ]


def test_the_figure_shows_the_trunk_and_its_checkpoints(ledger):
    trunk, checkpoints = page.loss_curve(ledger).lines
    assert list(trunk.get_ydata()) == ledger["curve"]["loss"]
    assert list(checkpoints.get_xdata()) == [240, 480, 960]
