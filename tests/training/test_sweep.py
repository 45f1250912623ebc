"""A sweep chooses a rung's rate on training queries alone, once for all seeds, and the ledger says what it saw."""

import signal

import numpy as np
import pytest

from rankscale_utils.collections.groups import DEV_QUERIES, split
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.machine.progress import Progress
from rankscale_utils.training import sweep
from rankscale_utils.training.health import Diverged
from rankscale_utils.training.trainer import Trainer
from tests.training.test_run import short, train_one

SWEEP = {"base": 3e-3, "sweep": [0.01, 1, 2]}


def swept(new_study, name="tiny", **changes):
    objectives = {"listwise": {"seeds": [0, 1], "learning_rate": SWEEP | changes}}
    return new_study(name, objectives=objectives, training=short(exposures=[600, 720]))


def test_the_best_factor_on_the_dev_part_sets_the_rate_and_is_recorded(new_study):
    study = swept(new_study)
    ledger = train_one(study, "listwise-w8-s0")
    losses = ledger["sweep"]["losses"]
    assert set(losses) == {"0.01", "1.0", "2.0"}
    assert ledger["sweep"]["factor"] == float(min(losses, key=losses.get)) != 0.01
    assert ledger["learning_rate"] == pytest.approx(ledger["sweep"]["factor"] * 3e-3 * 4**0.75)
    assert train_one(swept(new_study), "listwise-w8-s0") == ledger


def test_seeds_share_the_choice_and_a_killed_sweep_goes_on(new_study, monkeypatch):
    study = swept(new_study)
    first = train_one(study, "listwise-w8-s0")["sweep"]
    file = study.folder / "learning_rates" / "listwise-w8.json"
    kept = read_json(file)
    monkeypatch.setattr(sweep, "_dev_loss", None)  # whatever would train again, fails
    assert train_one(study, "listwise-w8-s1")["sweep"] == first
    assert kept["losses"] == first["losses"]


def test_a_sweep_that_is_told_to_stop_ends_at_once_and_keeps_what_it_knows(new_study, monkeypatch):
    study, file, seen = swept(new_study), "learning_rates/listwise-w8.json", []

    def advance(progress, count, note=""):
        seen.append(count)
        if len(seen) in (75, 130):  # within the second factor's fifty steps, and the third's
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Progress, "advance", advance)
    for known in (1, 2):
        with pytest.raises(StudyError, match=r"^run listwise-w8-s0 was told to stop while its learning rate was"):
            train_one(study, "listwise-w8-s0")
        assert len(read_json(study.folder / file)["losses"]) == known
    steps = len(seen)
    ledger = train_one(study, "listwise-w8-s0")
    assert len(seen) > steps
    assert train_one(swept(new_study, "spared"), "listwise-w8-s0")["sweep"] == ledger["sweep"]


def test_a_factor_that_fails_is_never_chosen(new_study, monkeypatch):
    def loss(trainer):
        return "failed: made up" if trainer.rate > 1e-2 else 0.5

    monkeypatch.setattr(sweep, "_dev_loss", loss)
    ledger = train_one(swept(new_study, sweep=[2, 1]), "listwise-w8-s0")
    assert ledger["sweep"] == {"factor": 1.0, "losses": {"2.0": "failed: made up", "1.0": 0.5}}


def test_when_every_factor_fails_the_smallest_is_taken(new_study, monkeypatch):
    def fails(*_, **__):
        raise Diverged("made up")

    monkeypatch.setattr(Trainer, "advance", fails)
    ledger = train_one(swept(new_study, sweep=[2, 1]), "listwise-w8-s0")
    assert ledger["sweep"]["factor"] == 1.0
    assert ledger["status"] == "failed: made up"


def test_the_dev_part_shares_no_query_with_the_rest(collection):
    training = collection.training_queries()
    dev, rest = split(training, 4)
    assert not set(dev.query_rows) & set(rest.query_rows)
    assert len(dev.query_rows) + len(rest.query_rows) == len(training.query_rows)
    assert 4 <= len(np.unique(dev.query_rows)) <= DEV_QUERIES
    for items in (dev, rest):
        assert len(items.positive_rows) == len(items.hard_rows) == len(items.grades) == len(items.query_rows)


def test_without_a_sweep_the_rule_alone_decides(tiny_study):
    ledger = train_one(tiny_study)
    assert ledger["sweep"] is None
    assert not (tiny_study.folder / "learning_rates").exists()
