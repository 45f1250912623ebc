import sys

import pytest

from rankscale_utils.pipeline.stage import main, reason
from rankscale_utils.study import paths


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Run a Python program as a stage; return its status, what watchers saw, and the sentences of failure."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("RANKSCALE_PROGRESS", str(tmp_path / "progress.log"))
    failures = paths.failures_file(paths.study_folder("mine"))
    failures.parent.mkdir(parents=True)

    def run(program):
        command = [sys.executable, "-c", program]
        status = main(["mine", "fit ", str(tmp_path / "logs" / "fit.log"), *command])
        files = (tmp_path / "progress.log", failures)
        return status, *(file.read_text() if file.exists() else "" for file in files)

    return run


def test_a_stage_that_is_done_says_so(stage, tmp_path):
    assert stage("print('worked')") == (0, "mine: fit done\n", "")
    assert (tmp_path / "logs" / "fit.log").read_text() == "worked\n"


def test_a_stage_that_failed_says_why_and_where(stage, tmp_path):
    status, progress, failures = stage("print('much')\nraise ValueError('value = 3 is too large')")
    assert (status, progress) == (1, "")
    assert failures == (
        f"mine: fit failed: ValueError: value = 3 is too large (the log is {tmp_path / 'logs' / 'fit.log'})\n"
    )


def test_a_stage_that_was_killed_says_by_what(stage):
    killed = stage("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")[2]
    assert "mine: fit failed: it was killed (SIGKILL, most likely for want of memory)" in killed
    assert "it was killed (SIGTERM)" in stage("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")[2]


@pytest.mark.parametrize(("log", "why"), [
    ("rankscale: study x has no rung w9.\nshell ended\n", "study x has no rung w9"),
    ("Traceback\n\x1b[31mKeyError\x1b[0m: 1\npapermill.exceptions.PapermillExecutionError: \n--\n", "KeyError: 1"),
    ("rankscale_utils.errors.StudyError: seeds = 0.\n\n", "seeds = 0"),
    ("Killed\n", "Killed"),
    ("", "it said nothing"),
])  # fmt: skip
def test_the_reason_is_the_last_line_that_tells(log, why):
    assert reason(log) == why
