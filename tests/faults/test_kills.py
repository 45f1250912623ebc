"""Stages that are killed in their midst: the same command then ends with every file that an undisturbed run has."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from rankscale_utils.study import paths
from tests.faults.conftest import few
from tests.faults.finished import contents, differences, run, seals, start

# What makes a stage run again: its results, and what it would otherwise take from an earlier run.
MAKES_ANEW = {
    "fit": ["3_fit.ipynb", "fits.npz"],
    "forecast": ["4_forecast.ipynb"],
    "allocate": ["5_allocate.ipynb"],
    "index": ["../../reports/tiny/index.html"],
    "evaluate run=listwise-w6-s0": ["listwise-w6-s0/2_evaluate.ipynb", "listwise-w6-s0/measurements.parquet"],
    "train run=listwise-w6-s0": ["listwise-w6-s0/1_train.ipynb", "listwise-w6-s0/ledger.json"],
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def kill_in(root, stage, number, group, seconds):
    """Have a stage run again, and so many seconds after it began end the study; return what it said."""
    runs = root / "runs" / "tiny"
    for name in MAKES_ANEW[stage]:
        (runs / name).unlink(missing_ok=True)
    process, until = start(root), time.monotonic() + 180
    while paths.written_file(runs, stage).exists() and process.poll() is None:  # which a stage takes away first
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(seconds)
    os.killpg(process.pid, number) if group else process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    until = time.monotonic() + 20
    while left := processes_of(root):
        assert time.monotonic() < until, left
        time.sleep(0.1)
    return said


def processes_of(root):
    """Return the processes that work for a root's studies."""
    mark, found = f"RANKSCALE_ROOT={root}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):  # empty of a process that has ended
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def assert_ends_as_ever(root, stage, number, group, seconds):
    before, sealed = contents(root), seals(root)
    said = kill_in(root, stage, number, group, seconds)
    assert "Traceback" not in said
    assert seals(root) == sealed
    for place in ("runs", "reports"):  # as whoever is killed while writing leaves
        (root / place / "tiny" / ".index.html.7071dbe9").write_text("<html>")
    assert (root / "runs" / "tiny" / "fits.json").exists()  # an old result stands until the new one does
    assert "Traceback" not in run(root)
    assert differences(before, contents(root)) == []
    assert seals(root) == sealed


@pytest.mark.parametrize(
    ("stage", "number", "group", "seconds"),
    [
        ("fit", signal.SIGKILL, True, 2),
        ("forecast", signal.SIGHUP, False, 1.5),
        ("index", signal.SIGTERM, False, 0.7),
    ],
)
def test_a_study_of_measurements_ends_as_ever(measured_root, stage, number, group, seconds):
    assert_ends_as_ever(measured_root, stage, number, group, seconds)


@few(ci=0, fuzz=2)
def test_random_kills_of_a_study_of_measurements(measured_root, seed):
    moment = random.Random(seed)
    stage = moment.choice(["fit", "forecast", "allocate", "index"])
    number = moment.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    assert_ends_as_ever(measured_root, stage, number, moment.random() < 0.5, moment.uniform(0, 4))


@few(ci=0, fuzz=1)
def test_random_kills_of_training_and_evaluation(root, seed):
    moment = random.Random(seed)
    stage = moment.choice([name for name in MAKES_ANEW if " " in name])
    number = moment.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    assert_ends_as_ever(root, stage, number, moment.random() < 0.5, moment.uniform(0, 4))
