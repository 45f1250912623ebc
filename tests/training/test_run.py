import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import torch

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.groups import training_steps
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.machine.files import digest, read_json
from rankscale_utils.machine.progress import Progress
from rankscale_utils.measurements.reading import study_measurements
from rankscale_utils.measurements.table import measured_rows
from rankscale_utils.models.build import build_model
from rankscale_utils.models.counts import parameters, pass_flops
from rankscale_utils.study.study import run_seed
from rankscale_utils.training import health
from rankscale_utils.training import run as run_module
from rankscale_utils.training.losses import LOSSES
from rankscale_utils.training.run import Branch, plan_branches, train
from rankscale_utils.training.trainer import Trainer

CPU = torch.device("cpu")
RUN = "listwise-w8-s0"
RATE = {"base": 3.0e-3}
EXPOSURES = [240, 480, 960]

# What scripts of the tests begin with that train study argv[1] slowly.
SLOWLY = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from rankscale_utils.training import run as training
from rankscale_utils.collections import Collection
from rankscale_utils.study.loading import load_study

class Slow(training.Progress):
    def advance(self, *of):
        time.sleep(0.02)
        super().advance(*of)

training.Progress = Slow
torch.set_num_threads(1)
study = load_study(sys.argv[1])
"""

# Trains run argv[2] of study argv[1] on the collection in the folders argv[3:6], slowly.
SLOW_RUN = f"""
{SLOWLY}
collection = Collection(*map(Path, sys.argv[3:6]))
training.train(study, study.run(sys.argv[2]), collection, torch.device("cpu"))
"""


def results(study, run=RUN):
    """Return a run's weights by checkpoint and its ledger without what depends on the clock."""
    folder = study.folder / run
    ledger = read_json(folder / "ledger.json")
    del ledger["pairs_per_second"]
    return weights(folder), ledger


def weights(folder):
    """Return every checkpoint's weights, as bytes, by its name."""
    files = {path: sorted(path.rglob("*.safetensors")) for path in folder.glob("exposure-*")}
    return {path.name: b"".join(file.read_bytes() for file in files[path]) for path in files if files[path]}


def short(**changes):
    """Return the tiny training with some of its fields changed."""
    groups = {"hard": 1, "random": 1, "hard_depth": 10, "queries_per_step": 4}
    return {"exposures": EXPOSURES, "groups": groups, "cooldown": 0.25, "warmup_steps": 5} | changes


def train_one(study, run=RUN):
    return train(study, study.run(run), open_collection(study), CPU)


def test_the_plan_cools_down_over_a_share_of_each_exposure(new_study):
    study = new_study(training=short(exposures=[240, 485, 960]))
    assert plan_branches(study) == [Branch(240, 15, 20), Branch(480, 30, 40), Branch(960, 60, 80)]
    assert plan_branches(new_study(training=short(cooldown=0))) == [
        Branch(240, 20, 20),
        Branch(480, 40, 40),
        Branch(960, 80, 80),
    ]


def test_a_run_leaves_a_checkpoint_an_exposure_and_a_ledger(trained):
    checkpoints, ledger = results(trained)
    assert sorted(checkpoints) == [f"exposure-{exposure:09d}" for exposure in EXPOSURES]
    assert [row["exposure"] for row in ledger["checkpoints"]] == EXPOSURES
    assert [row["queries"] for row in ledger["checkpoints"]] == [80, 160, 320]
    assert ledger["status"] == "complete"
    assert (ledger["objective"], ledger["rung"], ledger["seed"]) == ("listwise", "w8", 0)
    assert ledger["learning_rate"] == pytest.approx(3e-3 * 4**0.75)
    assert {path.name for path in (trained.folder / RUN).iterdir()} == {"ledger.json", ".lock.1", *checkpoints}


def test_the_ledger_counts_the_pairs_that_were_really_seen(trained, collection):
    _, ledger = results(trained)
    run, pairs = trained.run(RUN), collection.pairs()
    model = build_model(trained, run, collection.tokenizer().get_vocab_size())
    counts = parameters(model)
    assert (ledger["params"], ledger["params_non_embedding"]) == (counts.total, counts.non_embedding)
    data = training_steps(collection.training_queries(), trained.training.groups, run_seed(run, "data"))
    lengths = [pairs.lengths(step.query_rows.ravel(), step.document_rows.ravel()) for step in islice(data, 80)]
    for row, end in zip(ledger["checkpoints"], (20, 40, 80), strict=True):
        seen = np.concatenate(lengths[:end])
        assert len(seen) == row["exposure"]
        assert row["tokens"] == seen.sum()
        assert row["flops"] == pytest.approx(3 * pass_flops(model).forward(seen).sum(), rel=1e-12)
    assert ledger["flops_per_pair"] == pytest.approx(ledger["checkpoints"][-1]["flops"] / 960)
    assert ledger["flops_counted"] == 1


def test_flops_that_are_off_of_a_counted_pass_are_said(tiny_study, collection, monkeypatch, capsys):
    monkeypatch.setattr("rankscale_utils.training.run.MISCOUNTED", -1)  # then none are near enough
    train(tiny_study, tiny_study.run(RUN), collection, CPU)
    assert f"{RUN}: rung w8's FLOPs are 1.00 times those that torch counts in a forward pass" in capsys.readouterr().err


def test_padding_is_counted_where_there_is_any(trained, collection):
    assert results(trained)[1]["padding"] == 0
    run = trained.run(RUN)
    trainer = Trainer(trained, run, collection, torch.device("cpu"))
    taken = training_steps(collection.training_queries(), trained.training.groups, run_seed(run, "data"))
    step = next(step for step in taken if np.ptp(trainer.learner.lengths(step)))
    lengths = trainer.learner.lengths(step)
    every = np.arange(len(lengths))
    assert trainer.learner.computed(step, every) == lengths.sum()
    trainer.model.encoder.set_attn_implementation("sdpa")
    assert trainer.learner.computed(step, every) == len(lengths) * lengths.max()


def test_the_first_steps_loss_is_that_of_chance_and_training_lowers_it(tiny_study, collection):
    trainer = Trainer(tiny_study, tiny_study.run(RUN), collection, CPU)
    progress = Progress("", 10**9, "pairs")
    trainer.advance(1, cool=False, progress=progress)
    assert trainer.seen.health.losses == [pytest.approx(math.log(3), rel=1e-6)]
    trainer.advance(150, cool=False, progress=progress)
    assert np.mean(trainer.seen.health.losses[-30:]) < math.log(3) - 0.05


def rates(study, collection, monkeypatch, advance):
    trainer = Trainer(study, study.run(RUN), collection, CPU)
    used = []
    step = trainer._step

    def noted(*rows):
        used.append(trainer.optimizer.param_groups[0]["lr"] / trainer.rate)
        assert len({group["lr"] for group in trainer.optimizer.param_groups}) == 1
        return step(*rows)

    monkeypatch.setattr(trainer, "_step", noted)
    advance(trainer, Progress("", 10**9, "pairs"))
    return used


def test_the_rate_warms_up_stays_and_cools_down_to_nearly_zero(new_study, collection, monkeypatch):
    study = new_study(training=short(warmup_steps=4))

    def advance(trainer, progress):
        trainer.advance(10, cool=False, progress=progress)
        trainer.advance(30, cool=True, progress=progress)

    used = rates(study, collection, monkeypatch, advance)
    assert used[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])
    assert used[10:] == pytest.approx([1 - n / 20 for n in range(20)])
    assert used[-1] == pytest.approx(0.05)


def test_only_matrices_decay_and_all_rungs_alike(tiny_study, collection):
    trainer = Trainer(tiny_study, tiny_study.run(RUN), collection, CPU)
    decay, none = trainer.optimizer.param_groups
    assert {tensor.dim() for tensor in decay["params"]} == {2}
    assert {tensor.dim() for tensor in none["params"]} == {1}
    base = tiny_study.objectives["listwise"].learning_rate.base
    assert decay["weight_decay"] * trainer.rate == pytest.approx(0.01 * base)
    assert none["weight_decay"] == 0
    assert len(decay["params"]) + len(none["params"]) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_a_checkpoint_is_the_end_of_a_run_of_that_exposure_alone(trained, new_study, exposure):
    alone = new_study("alone", training=short(exposures=[exposure]))
    train_one(alone)
    name = f"exposure-{exposure:09d}"
    (own, ledger), (all_weights, all_ledger) = results(alone), results(trained)
    assert own == {name: all_weights[name]}
    assert ledger["checkpoints"] == [row for row in all_ledger["checkpoints"] if row["exposure"] == exposure]


def test_a_checkpoint_is_not_the_trunk_that_went_on(new_study):
    cooled, constant = new_study("cooled"), new_study("constant", training=short(cooldown=0))
    train_one(cooled)
    train_one(constant)
    assert not set(results(cooled)[0].values()) & set(results(constant)[0].values())


def test_a_second_call_returns_at_once_and_a_change_trains_again(trained, new_study, monkeypatch):
    before = results(trained)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "Trainer", None)  # whatever would train now, fails
        assert train_one(trained)["identity"] == before[1]["identity"]
        assert results(trained) == before
        with pytest.raises(TypeError):
            train_one(new_study(training=short(weight_decay=0.5)))
    changed = new_study(training=short(weight_decay=0.5))
    assert train_one(changed)["identity"] != before[1]["identity"]
    assert results(changed)[0].keys() == before[0].keys()
    assert results(changed)[0] != before[0]


def test_a_run_killed_in_mid_training_ends_as_if_it_had_not_been(tiny_study, collection, session_root):
    command = [sys.executable, "-c", SLOW_RUN, str(tiny_study.source), RUN]
    command += [str(folder) for folder in (collection.texts, collection.candidates, collection.tokens)]
    folder = tiny_study.folder / RUN
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (folder / "resume.pt").exists():
        assert killed.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.2)  # about ten steps into the second exposure
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=30)
    assert not (folder / "ledger.json").exists()
    kept = list(folder.glob("exposure-*"))
    assert 0 < len(kept) < len(EXPOSURES)
    before = {path.name: path.stat().st_mtime_ns for path in kept}

    train_one(tiny_study)
    assert all((folder / name).stat().st_mtime_ns == time for name, time in before.items())  # not trained again
    checkpoints, ledger = results(tiny_study)
    whole = session_root / "runs" / "tiny" / RUN  # trained without interruption
    assert checkpoints == weights(whole)
    uninterrupted = read_json(whole / "ledger.json")
    del uninterrupted["pairs_per_second"]
    assert ledger == uninterrupted
    assert not (folder / "resume.pt").exists()


def test_what_other_settings_left_to_resume_is_not_used(tiny_study, session_root):
    folder = tiny_study.folder / RUN
    folder.mkdir(parents=True)
    torch.save({"identity": "of other settings", "trunk": None, "checkpoints": [1, 2]}, folder / "resume.pt")
    train_one(tiny_study)
    whole = session_root / "runs" / "tiny" / RUN
    assert results(tiny_study)[0] == weights(whole)


def diverge(patch, step):
    """Let the listwise loss become NaN after so many steps."""
    calls, loss = iter(range(10**9)), LOSSES["listwise"]
    patch.setitem(LOSSES, "listwise", lambda *of: loss(*of) * (math.nan if next(calls) >= step else 1))


def test_a_diverging_run_is_marked_failed_and_no_fit_uses_it(new_study, trained, collection, monkeypatch):
    study = new_study("tiny", objectives={"listwise": {"seeds": [0, 1], "learning_rate": RATE}})
    failed = study.run("listwise-w8-s1")
    for run in study.fitted_runs:
        with monkeypatch.context() as patch:
            if run == failed:
                diverge(patch, 30)  # after the first checkpoint (20 steps) and before the second
            train(study, run, collection, CPU)
        evaluate_run(study, run, collection, CPU)
    ledger = train_one(study, failed.name)  # it stays failed
    assert re.fullmatch(r"failed: the loss became nan at step \d+", ledger["status"])
    assert [row["exposure"] for row in ledger["checkpoints"]] == [240]
    table = study_measurements(study, fitted_only=True)
    assert set(table.loc[table["run"] == failed.name, "excluded"]) == {ledger["status"]}
    assert set(table["run"]) - set(measured_rows(table)["run"]) == {failed.name}


def test_a_run_that_fails_before_its_first_checkpoint_has_a_ledger(tiny_study, monkeypatch):
    diverge(monkeypatch, 3)
    ledger = train_one(tiny_study)
    assert ledger["status"] == "failed: the loss became nan at step 4"
    assert ledger["checkpoints"] == []
    assert ledger["flops_per_pair"] is None
    assert not list((tiny_study.folder / RUN).glob("exposure-*"))


def test_a_run_without_a_checkpoint_stops_no_study(trained, collection, monkeypatch):
    for run in trained.fitted_runs:
        if run.name == RUN:
            shutil.rmtree(trained.run_folder(run))
            diverge(monkeypatch, 3)
            train_one(trained)
        evaluate_run(trained, run, collection, CPU)
    assert RUN not in set(measured_rows(study_measurements(trained, fitted_only=True))["run"])


def test_an_absurd_learning_rate_never_gives_a_measurement_that_is_not_a_number(new_study, collection):
    study = new_study(objectives={"listwise": {"learning_rate": {"base": 0.999, "power": 20}}})
    ledger = train_one(study, "listwise-w4-s0")
    assert ledger["status"] == "complete" or ledger["status"].startswith("failed: ")
    if ledger["checkpoints"]:
        table = measured_rows(evaluate_run(study, study.run("listwise-w4-s0"), collection, CPU))
        assert np.isfinite(table["value"]).all()


def test_objectives_learn_different_weights_from_the_same_start(new_study):
    rate = {"learning_rate": RATE}
    study = new_study(
        objectives={"pointwise": rate, "pairwise": rate, "listwise": rate}, training=short(exposures=[240])
    )
    names = [f"{objective}-w4-s0" for objective in ("pointwise", "pairwise", "listwise")]
    ledgers = [train_one(study, name) for name in names]
    assert all(ledger["status"] == "complete" for ledger in ledgers)
    assert len({digest(*results(study, name)[0].values()) for name in names}) == 3


def test_gradient_checkpointing_changes_no_weight(new_study, session_root):
    study = new_study(training=short(gradient_checkpointing=True))
    train_one(study)
    assert results(study)[0] == weights(session_root / "runs" / "tiny" / RUN)


def test_bf16_trains_on_weights_in_fp32_and_says_so(new_study, trained):
    study = new_study("half", training=short(precision="bf16", exposures=[240]))
    ledger = train_one(study)
    assert ledger["hardware"]["precision"] == "bf16"
    assert results(trained)[1]["hardware"]["precision"] == "fp32"
    assert results(study)[0]["exposure-000000240"] != results(trained)[0]["exposure-000000240"]
    assert ledger["checkpoints"][0]["loss"] == pytest.approx(results(trained)[1]["checkpoints"][0]["loss"], rel=0.02)


def test_how_a_run_is_computed_trains_nothing_again(trained, new_study, monkeypatch):
    study = new_study(training=short(micro_batch=3, gradient_checkpointing=True, gpus=2, sharded=True, threads=2))
    monkeypatch.setattr(run_module, "Trainer", None)  # whatever would train now, fails
    assert train_one(study)["status"] == "complete"


def test_scores_that_stay_tied_stop_the_run(new_study, monkeypatch):
    monkeypatch.setattr(health, "STEPS_WATCHED", 10)
    score = Trainer._outputs
    monkeypatch.setattr(Trainer, "_outputs", lambda *of: 0 * score(*of))
    ledger = train_one(new_study())
    assert ledger["status"] == "failed: the scores of every group were tied for 10 steps by step 25"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpus": 5}, "training.gpus = 5: a step of queries_per_step = 4 has no query for each of them"),
        ({"sharded": True}, "training.sharded = True: with gpus = 1 there is nothing to divide the weights among"),
        ({"micro_batch": 0}, "training.micro_batch = 0"),
        ({"precision": "fp16"}, "training.precision = 'fp16'"),
    ],
)
def test_settings_that_cannot_be_are_refused(new_study, changes, said):
    with pytest.raises(StudyError, match=re.escape(said)):
        new_study(training=short(**changes))
