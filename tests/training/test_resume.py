"""What a run leaves when it is killed, when the disk is full, and when files are damaged: nothing is lost."""

import re
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.machine.progress import Progress
from rankscale_utils.models.build import build_model
from rankscale_utils.study import paths
from rankscale_utils.training import resume
from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.resume import hold_folder, keep_state
from rankscale_utils.training.run import plan_branches, planned_steps
from rankscale_utils.training.trainer import Trainer
from tests.training.test_run import EXPOSURES, RUN, SLOWLY, results, short, train_one, weights

KILLS = 20

# Trains run argv[2] of study argv[1], on the collection in the folders argv[4:], in one child process after the other:
# the first argv[3] are killed at random moments, and the next may end.
KILLER = f"""
{SLOWLY}
collection = Collection(*map(Path, sys.argv[4:]))
moments = random.Random(4)
for left in reversed(range(int(sys.argv[3]) + 1)):
    child = os.fork()
    if not child:
        training.train(study, study.run(sys.argv[2]), collection, torch.device("cpu"))
        os._exit(0)
    if left:
        time.sleep(moments.uniform(0.02, 0.6))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WTERMSIG(status) == (signal.SIGKILL if left else 0), status
"""

# Trains run argv[2] of study argv[1], on the collection in the folders argv[4:], where no file exceeds argv[3] bytes.
NO_ROOM = """
import resource, sys
from pathlib import Path
import torch
from rankscale_utils.training import run as training
from rankscale_utils.collections import Collection
from rankscale_utils.errors import DiskFull
from rankscale_utils.study.loading import load_study

torch.set_num_threads(1)
study = load_study(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    training.train(study, study.run(sys.argv[2]), Collection(*map(Path, sys.argv[4:])), torch.device("cpu"))
except DiskFull as error:
    print(error)
"""


def run_script(script, study, collection, number):
    folders = [str(folder) for folder in (collection.texts, collection.candidates, collection.tokens)]
    command = [sys.executable, "-c", script, str(study.source), RUN, str(number), *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def whole(session_root):
    """Return the weights and the ledger of the same run, trained without interruption."""
    folder = session_root / "runs" / "tiny" / RUN
    ledger = read_json(folder / "ledger.json")
    del ledger["pairs_per_second"]
    return weights(folder), ledger


def left(study):
    """Return the names of what lies in the run's folder beside its checkpoints."""
    names = [path.name for path in (study.folder / RUN).iterdir() if not path.name.startswith("exposure-")]
    return {".lock" if re.fullmatch(r"\.lock\.\d+", name) else name for name in names}


def interrupted(study, monkeypatch, after=2):
    """Train until so many checkpoints are kept, then stop as a kill would."""
    kept = []

    class Killed(BaseException):
        pass

    def keep(*of):
        resuming_keep(*of)
        kept.append(of)
        if len(kept) == after:
            raise Killed

    resuming_keep = keep_state
    with monkeypatch.context() as patch:
        patch.setattr("rankscale_utils.training.run.keep_state", keep)
        with pytest.raises(Killed):
            train_one(study)
    return study.folder / RUN


def test_a_run_killed_at_twenty_random_moments_ends_as_if_it_had_not_been(new_study, collection):
    training = short(exposures=[120 * n for n in range(1, 11)])
    killed, spared = new_study("killed", training=training), new_study("spared", training=training)
    run_script(KILLER, killed, collection, KILLS)
    train_one(spared)
    assert results(killed) == results(spared)
    assert left(killed) == {"ledger.json", ".lock"}


@pytest.mark.parametrize(("number", "every"), [(signal.SIGURG, 7), (signal.SIGTERM, 64), (signal.SIGINT, 64)])
def test_a_run_that_is_told_to_stop_loses_no_step(tiny_study, session_root, monkeypatch, number, every):
    seen, stopped = [], []

    def advance(progress, count, note=""):
        seen.append(count)
        if len(seen) % every == every // 2:
            signal.raise_signal(number)

    monkeypatch.setattr(Progress, "advance", advance)
    monkeypatch.setattr("rankscale_utils.machine.warning.in_notebook", lambda: number == signal.SIGINT)
    while True:
        try:
            train_one(tiny_study)
            break
        except StudyError as error:
            stopped.append(str(error))
    assert len(stopped) >= len(seen) // every > 0
    assert re.match(rf"run {RUN} was told to stop after \d+ pairs and has kept its state: the same", stopped[0])
    assert len(seen) == planned_steps(plan_branches(tiny_study))  # none is taken twice
    assert results(tiny_study) == whole(session_root)
    assert left(tiny_study) == {"ledger.json", ".lock"}


@pytest.mark.parametrize("bytes_left", [3_000, 20_000])
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tiny_study, collection, session_root, bytes_left):
    said = run_script(NO_ROOM, tiny_study, collection, bytes_left)
    assert "no room on the disk for" in said
    assert "free some and run the same command again, which goes on from what was finished" in said
    assert left(tiny_study) <= {".lock", "resume.pt"}
    train_one(tiny_study)
    assert results(tiny_study) == whole(session_root)


def test_a_damaged_resume_file_starts_the_run_again(tiny_study, session_root, monkeypatch, capsys):
    path = interrupted(tiny_study, monkeypatch) / "resume.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    train_one(tiny_study)
    assert "resume.pt is damaged, so the run starts again" in capsys.readouterr().err
    assert results(tiny_study) == whole(session_root)


@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_checkpoint_is_trained_again(tiny_study, session_root, monkeypatch, capsys, finished):
    folder = interrupted(tiny_study, monkeypatch)
    if finished:
        train_one(tiny_study)
    file = next(paths.checkpoint_file(folder, EXPOSURES[0]).rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    train_one(tiny_study)
    assert "model.safetensors is not what was written), so the run is trained again" in capsys.readouterr().err
    assert results(tiny_study) == whole(session_root)


def test_a_damaged_ledger_is_written_again(tiny_study, session_root, capsys):
    train_one(tiny_study)
    ledger = tiny_study.folder / RUN / "ledger.json"
    ledger.write_text(ledger.read_text()[:100])
    train_one(tiny_study)
    assert "ledger.json is damaged, so the run is trained again" in capsys.readouterr().err
    assert results(tiny_study) == whole(session_root)


def test_two_processes_do_not_train_one_run(tiny_study, monkeypatch):
    folder, run = tiny_study.folder / RUN, tiny_study.run(RUN)
    monkeypatch.setattr(resume, "SECONDS_TO_WAIT", 0.1)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with hold_folder(folder, run, Processes()), pytest.raises(StudyError, match="is trained by another process"):
        train_one(tiny_study)
    assert train_one(tiny_study)["status"] == "complete"


def test_dropout_draws_the_same_after_an_interruption(new_study, monkeypatch):
    def with_dropout(*of):
        model = build(*of)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.2
        return model

    build = build_model
    monkeypatch.setattr("rankscale_utils.training.trainer.build_model", with_dropout)
    stopped, spared = new_study("stopped"), new_study("spared")
    interrupted(stopped, monkeypatch)
    torch.rand(7)  # other random numbers drawn meanwhile
    train_one(stopped)
    train_one(spared)
    assert results(stopped) == results(spared)
    monkeypatch.undo()


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_no_step(tiny_study, session_root, monkeypatch):
    def score(trainer, batch, part):
        if trainer.seen.step >= 30 and len(batch.sequences.counts) > 5:
            raise torch.OutOfMemoryError("made up")
        return whole_score(trainer, batch, part)

    whole_score = Trainer._outputs
    monkeypatch.setattr(Trainer, "_outputs", score)
    ledger = train_one(tiny_study)
    assert ledger["micro_batches"] == [{"step": 0, "pairs": 12}, {"step": 30, "pairs": 6}, {"step": 30, "pairs": 3}]
    losses = [row["loss"] for row in whole(session_root)[1]["checkpoints"]]
    assert [row["loss"] for row in ledger["checkpoints"]] == pytest.approx(losses, rel=1e-4)


def test_memory_that_does_not_hold_one_pair_is_one_sentence(tiny_study, monkeypatch):
    def score(*_):
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(Trainer, "_outputs", score)
    with pytest.raises(StudyError, match="memory ran out with 1 items at once: set training"):
        train_one(tiny_study)
