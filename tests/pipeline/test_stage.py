import os
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


@pytest.mark.parametrize(
    ("job", "more"), [("7", "raise memory_factor in cluster.yaml"), ("", "give it more, or lower")]
)
def test_a_stage_that_ran_out_of_memory_says_where_more_is_asked_for(stage, tmp_path, monkeypatch, job, more):
    events = tmp_path / "job_7" / "memory.events"
    events.parent.mkdir()
    events.write_text("high 0\noom 1\noom_kill 1\n")
    (tmp_path / "own").write_text("4:memory:/elsewhere\n0::/job_7\n")
    monkeypatch.setattr("rankscale_utils.pipeline.stage.OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr("rankscale_utils.pipeline.stage.MEMORY_EVENTS", f"{tmp_path}{{group}}/memory.events")
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    killed = "import os; os.kill(os.getpid(), 9)"
    said = stage(f"open({str(events)!r}, 'w').write('oom_kill 2\\n'); {killed}")[2]
    assert f"fit failed: memory ran out and the system killed it: {more}" in said
    said = stage(killed)[2]  # which no control group counted
    assert ("most likely for want of memory: raise memory_factor in cluster.yaml)" in said) == bool(job)


def test_a_kernel_that_was_killed_is_told_from_a_signal_to_papermill(stage):
    """Papermill ends with 138, which a shell would take for SIGUSR1."""
    died = (
        "nbclient.exceptions.DeadKernelError: its kernel died: it was killed (SIGKILL, most likely for want of memory)"
    )
    failures = stage(f"import sys; print({died!r}); sys.exit(138)")[2]
    assert "fit failed: its kernel died: it was killed (SIGKILL, most likely for want of memory) (the log" in failures


def test_a_folder_that_became_read_only_is_said(stage, monkeypatch):
    monkeypatch.setattr("rankscale_utils.pipeline.stage.unwritable", lambda folder: f"{folder} cannot be written to")
    assert "fit failed: /" in (said := stage("print('cut')\nraise SystemExit(1)")[2])
    assert "cannot be written to" in said


@pytest.mark.parametrize(("log", "why"), [
    (
        "zmq.error.ZMQError: Too many open files\nError occurred while starting new kernel client for kernel x\n"
        "RuntimeError: Kernel died before replying to kernel_info\n",
        "zmq.error.ZMQError: Too many open files",
    ),
    ("rankscale: study x has no rung w9.\nshell ended\n", "study x has no rung w9"),
    ("Traceback\n\x1b[31mKeyError\x1b[0m: 1\npapermill.exceptions.PapermillExecutionError: \n--\n", "KeyError: 1"),
    ("rankscale_utils.errors.StudyError: seeds = 0.\n\n", "seeds = 0"),
    ("Killed\n", "Killed"),
    ("", "it said nothing"),
])  # fmt: skip
def test_the_reason_is_the_last_line_that_tells(log, why):
    assert reason(log) == why


@pytest.mark.parametrize(
    ("state", "number", "told"),
    [("RUNNING", "SIGURG", "requeue 7\n"), ("RUNNING", "SIGTERM", "requeue 7\n"), ("COMPLETING", "SIGTERM", "")],
)
def test_a_job_whose_end_is_near_goes_back_to_the_queue(stage, tmp_path, monkeypatch, state, number, told):
    for tool, script in {"squeue": f"echo {state}", "scontrol": f'echo "$@" >> {tmp_path}/told'}.items():
        (tmp_path / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / tool).chmod(0o755)
    (tmp_path / "told").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("rankscale_utils.pipeline.stage.SECONDS_TO_END", 0.0)
    status, progress, failures = stage(
        f"import os, signal; os.kill(os.getppid(), signal.{number}); raise SystemExit(3)"
    )
    assert (status, failures) == (3, "")  # Slurm knows why
    assert (tmp_path / "told").read_text() == told
    assert progress == ("mine: fit goes back to the queue, as the end of its job is near\n" if told else "")
