"""The host a step ahead of a GPU: what it prepares early, and that numbers stay what they are."""

import threading
import time

import numpy as np
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.groups import training_steps
from rankscale_utils.machine.transfer import ahead, fetch, send
from rankscale_utils.training import health
from rankscale_utils.training import run as run_module
from rankscale_utils.training.trainer import Trainer
from tests.training.test_run import RUN, results, short, train_one

CPU = torch.device("cpu")


class Early(Trainer):
    """A trainer whose host is a step ahead on the CPU too."""

    def __init__(self, *of):
        super().__init__(*of)
        self.early = True


@pytest.mark.parametrize("early", [False, True])
def test_everything_is_prepared_once_and_in_order(early):
    prepared = []

    def prepare(item):
        prepared.append(item)
        return item * 10

    assert list(ahead(prepare, range(20), early)) == [item * 10 for item in range(20)]
    assert prepared == list(range(20))
    assert list(ahead(prepare, [], early)) == []


def test_the_next_one_is_prepared_in_a_thread_while_one_is_used_and_no_further():
    prepared = []

    def prepare(item):
        prepared.append((item, threading.get_ident()))
        return item

    for item in ahead(prepare, range(6), early=True):
        until = time.monotonic() + 10
        while len(prepared) < min(item + 2, 6) and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.01)
        assert [each for each, _ in prepared] == list(range(min(item + 2, 6)))
    assert threading.get_ident() not in {thread for _, thread in prepared}


def test_what_cannot_be_prepared_fails_where_it_is_used():
    def prepare(item):
        return 1 / item

    taken = ahead(prepare, [1, 2, 0, 4], early=True)
    assert [next(taken), next(taken)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(taken)


def test_numbers_come_back_as_they_were_sent():
    numbers = torch.randn(3, 4, requires_grad=True)
    assert np.array_equal(fetch(send(numbers, CPU))(), numbers.detach().numpy())


@pytest.mark.parametrize("objective", ["listwise", "pairwise"])
def test_a_host_that_is_a_step_ahead_trains_the_same_model_to_the_bit(new_study, monkeypatch, objective):
    objectives = {objective: {"learning_rate": {"base": 3.0e-3}}}
    found = []
    for name, kind in (("early", Early), ("plain", Trainer)):
        monkeypatch.setattr(run_module, "Trainer", kind)
        study = new_study(name, objectives=objectives)
        run = f"{objective}-w8-s0"
        train_one(study, run)
        found.append(results(study, run))
    assert found[0] == found[1]
    assert len(found[0][0]) == 3


def test_memory_that_runs_out_halves_once_though_the_next_step_is_prepared(new_study, monkeypatch):
    def score(trainer, batch, part):
        if trainer.seen.step >= 30 and len(batch.sequences.counts) > 6:
            raise torch.OutOfMemoryError("made up")
        return whole(trainer, batch, part)

    whole = Trainer._outputs
    monkeypatch.setattr(Trainer, "_outputs", score)
    monkeypatch.setattr(run_module, "Trainer", Early)
    ledger = train_one(new_study())
    assert ledger["micro_batches"] == [{"step": 0, "pairs": 12}, {"step": 30, "pairs": 6}]


def test_a_failed_run_says_the_step_that_failed_it(new_study, monkeypatch):
    monkeypatch.setattr(health, "STEPS_WATCHED", 10)
    score = Trainer._outputs
    monkeypatch.setattr(Trainer, "_outputs", lambda *of: 0 * score(*of))
    monkeypatch.setattr(run_module, "Trainer", Early)
    ledger = train_one(new_study())
    assert ledger["status"] == "failed: the scores of every group were tied for 10 steps by step 25"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("objective", ["listwise", "pairwise", "pointwise"])
def test_no_step_waits_for_a_gpu(new_study, objective):
    study = new_study(objectives={objective: {"learning_rate": {"base": 3.0e-3}}}, training=short(precision="bf16"))
    run, collection = study.run(f"{objective}-w8-s0"), open_collection(study)
    trainer = Trainer(study, run, collection, torch.device("cuda"))
    taken = training_steps(collection.training_queries(), study.training.groups, 0)
    ready = [trainer._ready(next(taken)) for _ in range(8)]
    for one in ready[:4]:  # kernels are loaded, memory is taken
        trainer._step(one)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for one in ready[4:]:
            trainer._step(one)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer._read(0)
    assert np.isfinite(trainer.seen.health.losses).all()
    assert len(trainer.seen.health.losses) == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_trains_what_the_cpu_trains(new_study):
    study = new_study(training=short(precision="fp32"))
    losses = []
    for device in (CPU, torch.device("cuda")):
        trainer = Trainer(study, study.run(RUN), open_collection(study), device)
        taken = training_steps(trainer.queries, study.training.groups, 0)
        for _ in range(5):
            trainer._step(trainer._ready(next(taken)))
        trainer._read(0)
        losses.append(trainer.seen.health.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
