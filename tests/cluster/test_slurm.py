"""A tiny study on a real Slurm: what it measures is what it measures here, to the last bit, whatever is killed."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from rankscale_utils.pipeline import cluster as settings
from rankscale_utils.pipeline.leader import SIGNAL_WHEN_PARENT_ENDS
from tests.cluster import slurm
from tests.faults.finished import contents, differences, write
from tests.pipeline.test_polling import Asking

pytestmark = pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "-")
WAIT = 900.0  # seconds; on a busy machine a job of a second takes a minute
TRAIN = "rule_train_wildcards_"  # what the comments of training jobs begin with
CLUSTER = {"cpus": 1, "memory_factor": 1, "ask": 1}


@pytest.fixture(scope="module")
def cluster():
    with slurm.guarded() as environment:
        yield environment


def start(root, cluster):
    """Start the study on the cluster; it leads a process group of its own."""
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", "tiny", "slurm"]
    environment = os.environ | cluster | {"RANKSCALE_ROOT": str(root)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=end_with_parent, **streams)


def end_with_parent():
    ctypes.CDLL(None).prctl(SIGNAL_WHEN_PARENT_ENDS, signal.SIGTERM)


def jobs(cluster, states="all"):
    """Return number, state and comment of every job."""
    command = ["squeue", "--noheader", f"--states={states}", "--format=%i|%T|%k"]
    said = subprocess.run(command, env=os.environ | cluster, capture_output=True, text=True, check=True).stdout
    return [line.split("|") for line in said.splitlines()]


def until(true, process):
    """Wait, while a process lives, until something is true, and return it."""
    last = time.monotonic() + WAIT
    while not (value := true()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < last
        time.sleep(0.05)
    return value


def number_of(cluster, comment, states="RUNNING"):
    return next((number for number, _, said in jobs(cluster, states) if said == comment), "")


def ran(cluster, *command):
    subprocess.run(command, env=os.environ | cluster, check=True, capture_output=True)


def test_a_study_measures_the_same_whatever_is_killed(tmp_path, cluster, finished):
    there = tmp_path / "there"
    there.mkdir()
    write(there)
    (there / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER))
    runs = there / "runs" / "tiny"

    # The command is killed while a run trains, which is warned meanwhile: it keeps its state and goes on.
    first = start(there, cluster)
    until(lambda: list(runs.glob("*/resume.pt")), first)
    os.killpg(first.pid, signal.SIGKILL)
    [(lost, _, waited)] = jobs(cluster, "PENDING")  # of three runs on two nodes
    warned = number_of(cluster, TRAIN + next(runs.glob("*/resume.pt")).parent.name)
    ran(cluster, "scancel", "--signal=URG", warned)
    second = start(there, cluster)

    # The node of the run that waited for one fails while Slurm's controller is away.
    until(lambda: (runs / waited.removeprefix(TRAIN) / "resume.pt").exists(), second)
    slurm.saved(cluster)
    with slurm.without_node(cluster, node_of(cluster, lost)):
        with slurm.without_controller(cluster):
            time.sleep(2 * CLUSTER["ask"])
        until(lambda: restarts(cluster, lost), second)
    until(lambda: restarts(cluster, warned), second)

    # The held-out run is preempted by a job of a higher partition.
    until(lambda: (runs / "listwise-w12-s0" / "resume.pt").exists(), second)
    preempted = number_of(cluster, f"{TRAIN}listwise-w12-s0")
    ran(cluster, "sbatch", "--partition=high", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 1")
    until(lambda: number_of(cluster, f"{TRAIN}listwise-w12-s0", "PENDING"), second)

    # A job is cancelled: the study says so and stops.
    cancelled = until(lambda: number_of(cluster, "rule_evaluate_wildcards_listwise-w12-s0"), second)
    ran(cluster, "scancel", cancelled)
    said, _ = second.communicate(timeout=WAIT)
    assert second.returncode, said
    assert f"rankscale: tiny: evaluate run=listwise-w12-s0 was cancelled (Slurm's job {cancelled}; its log" in said
    assert said.count("rankscale: tiny: ") == 1
    assert "Traceback" not in said

    third = start(there, cluster)
    said, _ = third.communicate(timeout=WAIT)
    assert third.returncode == 0, said
    assert "tiny: evaluate run=listwise-w12-s0 done" in said
    submitted = [comment for *_, comment in jobs(cluster) if comment.startswith("rule_train")]
    assert sorted(submitted) == sorted(f"{TRAIN}listwise-w{size}-s0" for size in (4, 6, 8, 12))
    assert [restarts(cluster, number) for number in (warned, lost, preempted)] == [1, 1, 1]

    told = differences(contents(finished), contents(there))
    assert [
        name for name in told if not name.endswith((".ipynb", "index.html"))
    ] == []  # these tell moments and warnings


def restarts(cluster, number):
    return int(of_job(cluster, number, r"Restarts=(\d+)"))


def node_of(cluster, number):
    return of_job(cluster, number, r"\bNodeList=(\S+)")


def of_job(cluster, number, pattern):
    command = ["scontrol", "show", "job", number]
    said = subprocess.run(command, env=os.environ | cluster, capture_output=True, text=True, check=True).stdout
    return re.search(pattern, said)[1]


def test_a_held_job_is_told_of_with_what_releases_it(tmp_path, cluster, monkeypatch, capsys):
    for name, value in (cluster | {"RANKSCALE_FAILURES": str(tmp_path / "mine" / "failures.log")}).items():
        monkeypatch.setenv(name, value)
    asked = ["--parsable", "--hold", f"--job-name={Asking.run_uuid}", f"--comment={TRAIN}a", "--output=/dev/null"]
    held = subprocess.run(["sbatch", *asked, "--wrap=true"], check=True, capture_output=True, text=True).stdout.strip()
    slurm_jobs = [SubmittedJobInfo(None, external_jobid=held, aux={"slurm_logfile": tmp_path / "log"})]
    slurm = Asking()
    assert slurm.ask(slurm_jobs) == [held]
    told = f"mine: train a waits in Slurm's queue: JobHeldUser; `scontrol release {held}` lets go on\n"
    assert capsys.readouterr().err == told
    ran(cluster, "scontrol", "release", held)
    deadline = time.monotonic() + WAIT
    while slurm.ask(slurm_jobs) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert slurm.told == [f"{held} is done"]


def test_what_a_job_made_while_nobody_waited_is_made_again_when_its_settings_change(tmp_path, cluster):
    (tmp_path / "Snakefile").write_text(
        'rule one:\n    output: "made"\n    params: config["number"]\n    shell: "sleep 2; echo {params} > {output}"\n'
    )
    made, told = tmp_path / "made", {"RANKSCALE_FAILURES": str(tmp_path / "log"), "RANKSCALE_NOTES": str(tmp_path)}
    profile = ["--profile", str(settings.PROFILES / "slurm"), "--slurm-status-command", "squeue", "--latency-wait", "9"]
    asked = ["--slurm-init-seconds-before-status-checks", "1", "--default-resources"]
    asked += ["mem_mb=100", "runtime=5", "cpus_per_task=1"]

    def start(number):
        command = [sys.executable, "-m", "rankscale_utils.pipeline.polling", "--directory", str(tmp_path), "--nolock"]
        command += ["--snakefile", str(tmp_path / "Snakefile"), *profile, *asked, "--config", f"number={number}"]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=os.environ | cluster | told, start_new_session=True, **streams)

    first = start(1)
    job = until(lambda: number_of(cluster, "rule_one"), first)
    os.killpg(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT
    while of_job(cluster, job, r"JobState=(\S+)") != "COMPLETED" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert made.read_text() == "1\n"
    for number in (2, 2):
        said, _ = start(number).communicate(timeout=WAIT)
        assert made.read_text() == "2\n", said
    assert len([comment for *_, comment in jobs(cluster) if comment.strip() == "rule_one"]) == 2
