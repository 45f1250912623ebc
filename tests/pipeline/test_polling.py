import asyncio
import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from rankscale_utils.pipeline import polling
from rankscale_utils.pipeline.polling import Executor


class Asking(Executor):
    """The executor without a graph: what it reports is kept."""

    status_rate_limiter, run_uuid, wait = nullcontext(), "rankscale-1_x", True

    def __init__(self):
        settings = SimpleNamespace(status_command="squeue", init_seconds_before_status_checks=10)
        self.workflow, self.told = SimpleNamespace(executor_settings=settings), []

    def report_job_success(self, job):
        self.told.append(f"{job.external_jobid} is done")

    def report_job_error(self, job, msg):
        self.told.append(msg.strip())

    def ask(self, jobs):
        async def still():
            return [job.external_jobid async for job in self.check_active_jobs(jobs)]

        return asyncio.run(still())


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return what lets squeue run a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(polling, "LOOKS", 0.01)

    def runs(script):
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o700)

    return runs


@pytest.fixture
def job(tmp_path):
    (tmp_path / "7.log").touch()
    return SubmittedJobInfo(None, external_jobid="7", aux={"slurm_logfile": tmp_path / "7.log"})


def test_a_slurm_that_does_not_answer_is_asked_until_it_does(squeue, job, tmp_path):
    squeue(f"test -e {tmp_path}/back && echo '7|RUNNING' && exit; touch {tmp_path}/back; exit 1")
    slurm = Asking()
    assert (slurm.ask([job]), slurm.told) == (["7"], [])


def test_jobs_that_are_over_are_reported(squeue, job, tmp_path):
    other = SubmittedJobInfo(None, external_jobid="8", aux={"slurm_logfile": tmp_path / "8.log"})
    squeue("echo '7|COMPLETED'; echo '8|TIMEOUT'")
    slurm = Asking()
    assert slurm.ask([job, other]) == []
    assert slurm.told == ["7 is done", "SLURM-job '8' failed: 'TIMEOUT'."]
    assert not (tmp_path / "7.log").exists()


@pytest.mark.parametrize(("said", "state"), [("7|NODE_FAIL", "NODE_FAIL"), ("8|RUNNING", "FORGOTTEN")])
def test_a_job_that_slurm_lost_for_good_is_waited_for_no_longer(squeue, job, monkeypatch, said, state):
    slurm = Asking()
    squeue(f"echo '{said}'")
    assert slurm.ask([job]) == ["7"]
    squeue("echo '7|PENDING'")  # queued again
    assert slurm.ask([job]) == ["7"]
    squeue(f"echo '{said}'")
    assert slurm.ask([job]) == ["7"]
    monkeypatch.setattr(polling, "PASSES", 0.0)
    assert slurm.ask([job]) == []
    assert slurm.told == [f"SLURM-job '7' failed: '{state}'."]


def test_slurm_is_asked_ever_more_seldom_and_soon_after_a_stage_has_ended(tmp_path, monkeypatch):
    clock, slurm, notes = SimpleNamespace(now=1000.0), Asking(), tmp_path / "written"
    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setenv("RANKSCALE_NOTES", str(notes))
    monkeypatch.setenv("RANKSCALE_FAILURES", str(tmp_path / "failures.log"))
    slurm.ended = clock.now
    for clock.now, seconds in ((1000.0, 10.0), (1100.0, 25.0), (3000.0, 180.0)):
        assert slurm._seconds() == seconds
    notes.mkdir()
    assert slurm._seconds() == 10.0
