import asyncio
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
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
        kept = SimpleNamespace(backup_output=lambda result: self.told.append(f"{result.name} is kept"))
        kept._code = kept._params = kept._input = kept._software_stack_hash = lambda of: None
        kept.started, kept._write_record = lambda job: self.told.append("marked"), lambda *_: self.told.append("noted")
        kept._incomplete_path, kept._record_path = "marks", lambda folder, file: f"{file}.{folder}"
        waits = SimpleNamespace(latency_wait=1)
        self.workflow = SimpleNamespace(executor_settings=settings, persistence=kept, execution_settings=waits)
        self.told = []

    def report_job_success(self, job):
        self.told.append(f"{job.external_jobid} is done")

    def report_job_error(self, job, msg):
        self.told.append(msg.strip())

    def ask(self, jobs):
        async def still():
            return [job.external_jobid async for job in self.check_active_jobs(jobs)]

        with ThreadPoolExecutor(1) as thread:  # as a browser's test before may have left a loop running in this one
            return thread.submit(asyncio.run, still()).result()


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Return what lets squeue run a shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(polling, "LOOKS", 0.01)
    monkeypatch.setenv("RANKSCALE_FAILURES", str(tmp_path / "runs" / "mine" / "failures.log"))

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


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_runs_its_rules_command_as_a_step_once_its_inputs_are_there(squeue, tmp_path, fails):
    (tmp_path / "srun").write_text(f'#!/bin/sh\necho "$@" | head -1 >> {tmp_path}/called\n'
                                   'while [ "$1" != bash ]; do shift; done\nexec "$@"\n')  # fmt: skip
    (tmp_path / "srun").chmod(0o700)
    given, old, new = tmp_path / "it's given", tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("as it was")
    job = SimpleNamespace(input=[str(given)], output=[str(old), str(new)], resources=SimpleNamespace(cpus_per_task=3))
    job.rule = SimpleNamespace(name="rule")
    job.shellcmd = f'cat "{given}" > {new}; echo "$HOME" >> {new}; {"false" if fails else "true"} | true; echo went on'
    slurm = Asking()
    script = slurm.format_job_exec(job)
    assert slurm.told == ["marked", "noted", "noted", "old.csv is kept"]
    marks = [file.with_name(f"{file.name}.marks") for file in (old, new)]
    for mark in marks:
        mark.touch()
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as started:
        assert not new.exists()
        given.write_text("read\n")  # by another node, just now
        said, _ = started.communicate()
    assert (started.returncode != 0) == fails
    assert new.read_text() == f"read\n{os.environ['HOME']}\n"
    assert said == ("" if fails else "went on\n")
    assert [mark.exists() for mark in marks] == [fails, fails]  # of results that are not whole
    assert (tmp_path / "called").read_text().startswith("--nodes=1 --ntasks=1 --cpus-per-task=3 --cpu-bind=quiet bash")


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
    squeue("case \"$*\" in *%r*) ;; *) echo '7|PENDING';; esac")  # queued again, and it is its turn
    assert slurm.ask([job]) == ["7"]
    squeue(f"echo '{said}'")
    assert slurm.ask([job]) == ["7"]
    monkeypatch.setattr(polling, "PASSES", 0.0)
    assert slurm.ask([job]) == []
    assert slurm.told == [f"SLURM-job '7' failed: '{state}'."]


def test_what_waits_for_more_than_its_turn_is_told_of_once(squeue, job, tmp_path, capsys):
    held, limit, train = "launch failed requeued held", "QOSMaxGRESPerUser", "rule_train_wildcards_"
    waits = [f"7|Priority|{train}a", f"8|{held}|{train}b", f"9|{limit}|{train}c", f"10|{limit}|rule_rank"]
    waits += ["11|JobHeldAdmin|rule_speed"]
    (tmp_path / "waits").write_text("\n".join(waits))
    squeue(f"case \"$*\" in *%r*) cat {tmp_path}/waits;; *) sed 's/|.*/|PENDING/' {tmp_path}/waits;; esac")
    slurm = Asking()
    jobs = [job, *(SubmittedJobInfo(None, external_jobid=number, aux={}) for number in ("8", "9", "10", "11"))]
    assert slurm.ask(jobs) == slurm.ask(jobs) == ["7", "8", "9", "10", "11"]
    assert capsys.readouterr().err.splitlines() == [
        f"mine: train b waits in Slurm's queue: {held}; `scontrol release 8` lets go on",
        f"mine: train c and 1 more wait in Slurm's queue: {limit}",
        "mine: speed waits in Slurm's queue: JobHeldAdmin",
    ]


def test_slurm_is_asked_ever_more_seldom_and_soon_after_a_stage_has_ended(tmp_path, monkeypatch):
    clock, slurm, notes = SimpleNamespace(now=1000.0), Asking(), tmp_path / "written"
    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setenv("RANKSCALE_NOTES", str(notes))
    monkeypatch.setenv("RANKSCALE_FAILURES", str(tmp_path / "failures.log"))
    slurm.ended = clock.now
    for clock.now, seconds in ((1000.0, 10.0), (1100.0, 25.0), (3000.0, 180.0)):
        assert slurm._seconds(asked=clock.now) == seconds
    clock.now = 3004.0
    notes.mkdir()
    assert slurm._seconds(asked=3000.0) == 6.0  # two seconds after the mark
    clock.now = 3009.0
    (notes / "fit.json").touch()
    os.utime(notes, (0, 1))
    assert slurm._seconds(asked=3000.0) == 10.0  # but no later than without it
