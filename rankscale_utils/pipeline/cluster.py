"""A study's jobs on a cluster: what a user's `cluster.yaml` may say, and what Snakemake is told of it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest
from rankscale_utils.machine.sockets import socket_folder
from rankscale_utils.study import paths
from rankscale_utils.study.fields import Finite, Part, Whole, refusal
from rankscale_utils.study.loading import read_fields, read_section
from rankscale_utils.study.study import Study

from .stage import MORE_OF_A_JOB

PLUGIN = "snakemake-executor-plugin-slurm"
# What a job is known by, and what the study and the other fields say of it: options that a user cannot give besides.
OURS = re.compile(
    r"--(job-name|comment|output|error|parsable|export|chdir|workdir|signal|array|account|partition|constraint|qos|"
    r"clusters|time|nodes|ntasks|ntasks-per-gpu|cpus-per-task|cpus-per-gpu|mem|mem-per-cpu|gres|gpus)(=|$)|"
    r"-[JoeDaApCqMtNncG]"
)
PROFILES = paths.shipped_folder() / "profiles"


class Cluster(Part):
    """What a user asks the cluster for in every job; all of it may be left out."""

    account: str = ""
    partition: str = ""
    constraint: str = Field("", description="features of nodes, as sbatch's --constraint has them")
    qos: str = ""
    gpu_model: str = Field("", description="as the cluster names it, such as h100")
    options: str = Field("", description="further options of sbatch")
    gpus: bool = Field(True, description="false: jobs ask for no GPU and compute on CPUs")
    cpus: Whole = Field(8, gt=0, description="CPUs of a job; training.threads where that is more")
    rate: Finite | None = Field(
        None, ge=1e6, le=1e18, description="FLOP/s that a large rung sustains on one GPU; an H100's 1e14 unless said"
    )
    time_factor: Finite = Field(3.0, ge=1, le=1000, description="minutes that are asked for, of those expected")
    memory_factor: Finite = Field(1.5, ge=1, le=1000, description="memory that is asked for, of that expected")
    longest: Whole = Field(24 * 60, gt=10, description="minutes that the partition allows; a longer run goes on anew")
    warning: Whole = Field(120, ge=10, le=600, description="seconds before its end at which a run keeps its state")
    ask: Whole = Field(
        10, gt=0, le=180, description="seconds after which Slurm is asked how the jobs are; while none ends, longer"
    )

    @refusal("gpu_model")
    def _is_no_name(value: str, _: dict) -> Iterator[str]:
        if not re.fullmatch(r"[A-Za-z0-9_.]*", value):
            yield "is no name of letters, digits, dots and underscores: write one, or choose GPUs by constraint"

    @refusal("options")
    def _are_not_ours(value: str, _: dict) -> Iterator[str]:
        try:
            given = shlex.split(value)
        except ValueError as error:
            yield f"cannot be read as options ({error}): correct it"
            return
        for option in given:
            if OURS.match(option):
                yield f"{option} is said of every job already, by the study or another field: remove it"

    @refusal("warning")
    def _leaves_time(value: int, given: dict) -> Iterator[str]:
        if value > 30 * given.get("longest", value):
            yield f"is more than half of longest = {given['longest']} minutes: lower it"


def cluster_file() -> Path:
    """Where a user says it."""
    return paths.ROOT / "cluster.yaml"


def job_logs(study: Path) -> Path:
    """What the cluster's jobs of a study said besides their stages."""
    return paths.log_file(study, "jobs").with_suffix("")


def read_cluster() -> Cluster:
    """Return what the user's cluster.yaml says, or what holds where there is none.

    Raises:
        StudyError: it has mistakes; one message names them all.
    """
    file = cluster_file()
    fields = read_fields(file, "`partition: gpu` and the like, a line each") if file.exists() else {}
    return read_section(Cluster, fields, file.name)


def check_profile(name: str) -> None:
    """Make sure that there is a profile of that name, and, of Slurm, its commands.

    Raises:
        StudyError: there is not.
    """
    if not (PROFILES / name / "config.yaml").is_file():
        known = ", ".join(sorted(path.parent.name for path in PROFILES.glob("*/config.yaml")))
        raise StudyError(f"ON = {name}: there is no profiles/{name}/config.yaml: use {known}, or write one.")
    if name == "slurm" and (lacking := [tool for tool in ("sbatch", "squeue", "scontrol") if not shutil.which(tool)]):
        raise StudyError(f"ON = slurm: no {', '.join(lacking)} here: run it on a login node of the cluster.")
    if name == "slurm" and not find_spec(PLUGIN.replace("-", "_")):
        raise StudyError(f"ON = slurm: no {PLUGIN} in this environment: install it with pip.")


def options(study: Study, name: str, cluster: Cluster) -> list[str]:
    """Return Snakemake's options that submit a study's jobs by a profile, with what the user asks for."""
    given = ["--profile", str(PROFILES / name)]
    if name != "slurm":
        return given
    asked = {
        "slurm_account": cluster.account,
        "slurm_partition": cluster.partition,
        "constraint": cluster.constraint,
        "qos": cluster.qos,
        "slurm_extra": slurm_extra(cluster),
        "nodes": 1,  # which has all of a run's GPUs
    }
    logs = ["--slurm-logdir", str(job_logs(study.folder)), "--slurm-jobname-prefix", prefix(study)]
    logs += ["--slurm-init-seconds-before-status-checks", str(cluster.ask)]
    told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    if "accounting_storage/slurmdbd" not in told:  # sacct knows nothing
        logs += ["--slurm-status-command", "squeue"]
    return [*given, *logs, "--default-resources", *(f"{field}={value!r}" for field, value in asked.items() if value)]


def slurm_extra(cluster: Cluster) -> str:
    """Return the further options of sbatch: a warning before the end, and logs that a requeued job goes on with."""
    return f"--signal=URG@{cluster.warning} --open-mode=append {cluster.options}".strip()


def prefix(study: Study) -> str:
    """Return what the names of a study's jobs begin with, wherever the studies of this name lie."""
    return f"rankscale-{digest(str(study.folder), length=12)}"


@contextmanager
def submitting(study: Study, environment: dict[str, str], plain: dict[str, str]) -> Iterator[dict[str, str]]:
    """Let `sbatch` be `pipeline.submit` while the block runs; yield the environment in which it is.

    plain: the environment of the jobs, which know nothing of what runs beside the one who submits them.
    """
    with socket_folder() as folder:
        sbatch = Path(folder) / "bin" / "sbatch"
        sbatch.parent.mkdir()
        hidden = [name for name in environment if environment[name] != plain.get(name)]
        told = {
            "RANKSCALE_SBATCH": str(shutil.which("sbatch")),
            "RANKSCALE_JOBS": prefix(study),
            "RANKSCALE_JOBS_PROGRESS": str(paths.progress_of_jobs(study.folder)),
            "RANKSCALE_FAILURES": str(paths.failures_file(study.folder)),
            "RANKSCALE_NOTES": str(paths.written_file(study.folder, "x").parent),
            **{f"RANKSCALE_PLAIN_{name}": plain.get(name, "") for name in hidden},
        }
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("submit.py"))]
        sbatch.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        sbatch.chmod(0o700)
        yield environment | told | {"PATH": f"{sbatch.parent}{os.pathsep}{environment['PATH']}"}


# What Slurm says of a job that it ended itself; of one that failed, its stage has said why.
ENDED = {
    "TIMEOUT": "reached its time limit: raise time_factor, or longest, in cluster.yaml",
    "OUT_OF_MEMORY": f"ran out of the memory that it asked for: {MORE_OF_A_JOB}",
    "CANCELLED": "was cancelled",
    "NODE_FAIL": "lost its node, and Slurm did not queue it again",
    "PREEMPTED": "was preempted, and Slurm did not queue it again",
    "REVOKED": "was taken back by Slurm",
    "FORGOTTEN": "is over, and Slurm has forgotten how it ended",
    "BOOT_FAIL": "lost its node, which did not start",
    "DEADLINE": "could not end before its deadline",
}
MEMORY = re.compile(
    r"oom.kill event|exceeded (job |step )?memory limit"
)  # in its log, of a job that Slurm calls failed
SUBMITTED = re.compile(r"SLURM jobid (\d+) \(log: (.+)\)\.")
MISSING = re.compile(r"^MissingOutputException in rule (\w+) .*\nJob .*\n(.+?) \(missing", re.MULTILINE)
FAILED = re.compile(r"SLURM-job '(\d+)' failed.*?'([A-Z_]+)'", re.DOTALL)


def failures(study: Study, graph: str, told: list[str]) -> list[str]:
    """Return a sentence for every job that failed: its stage's own, of those told, or how Slurm ended it.

    graph: what the graph's log says.
    """
    logs = {number: Path(log) for number, log in SUBMITTED.findall(graph)}
    for number, state in FAILED.findall(graph):
        log = logs.get(number, Path())
        rule, run = log.parent.name, ""
        if not rule.startswith("rule_"):
            rule, run = log.parent.parent.name, f" run={rule}"
        stage = f"{study.name}: {rule.removeprefix('rule_')}{run}"
        if state == "FAILED" and log.is_file() and MEMORY.search(log.read_text(encoding="utf-8", errors="replace")):
            state = "OUT_OF_MEMORY"
        own = [sentence for sentence in told if sentence.startswith(f"{stage} failed")]
        if state in ENDED:  # of which a stage knows no more than what it met with
            told = [sentence for sentence in told if sentence not in own]
            told.append(f"{stage} {ENDED[state]} (Slurm's job {number}; its log is {log})")
        elif not own:
            told.append(f"{stage} did not begin: Slurm's job {number} is {state} (its log is {log})")
    return told + [
        f"{study.name}: {rule} is over for Slurm, but {file} is not to be seen here: raise latency-wait in "
        "profiles/slurm/config.yaml where the file system is slow"
        for rule, file in MISSING.findall(graph)
    ]
