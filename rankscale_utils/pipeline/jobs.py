"""What each job of a study asks a cluster for, from the figures of `pipeline.estimate`, and how many there are."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from rankscale_utils.report.prose import duration
from rankscale_utils.study.study import Run, Study
from rankscale_utils.training.run import plan_branches, planned_steps

from .cluster import Cluster, slurm_extra
from .estimate import (
    H100,
    MEMORY,
    REACHED,
    Machine,
    count_costs,
    estimate_systems,
    passes_of_a_step,
    planned_config,
    tokens_of_a_pair,
)
from .planned_work import pairs_of_tests

CPU = 1e10  # FLOP/s that a CPU sustains in float32, assumed as slow ones do
WIDE = 1024  # hidden size from which a GPU reaches the rate that it sustains; smaller rungs in proportion
BASE_MINUTES, BASE_MB = 20, 6000  # of any job: imports, caches, what a notebook holds
COLLECTION_MINUTES, COLLECTION_MB = 8 * 60, 32_000  # BM25 and tokens of MS MARCO's 8.8 million passages fit in these
HOST_COPIES = 3 * 12  # bytes a parameter in the host's memory: the trunk's state, a branch's, and what is written


@dataclass(frozen=True)
class Asked:
    """What a job asks for. hours: expected, on all its GPUs."""

    gpu: int
    gpu_model: str
    cpus_per_task: int
    mem_mb: int
    runtime: int
    hours: float
    slurm_extra: str


def plan_jobs(study: Study, cluster: Cluster) -> dict[str, Asked]:
    """Return every job by its rule and run, as the graph submits them; short notebooks run beside the graph."""
    small = study.collection == "docstrings"
    of_collection = (BASE_MB, BASE_MINUTES) if small else (COLLECTION_MB, COLLECTION_MINUTES)
    jobs = {"collection": _asked(study, cluster, 0, 0.0, *of_collection)}
    if any(run.source == "generated" for run in study.annotation_runs):
        jobs["generated"] = _asked(study, cluster, 1, 1.0, BASE_MB)
    for run, trained, scored, params in _work(study, cluster):
        gpus = study.training.gpus if cluster.gpus else 1
        memory = gpus * (BASE_MB + HOST_COPIES * params / 1e6)  # every process keeps whole copies
        jobs[f"train {run.name}"] = _asked(study, cluster, gpus, trained / gpus, memory)
        jobs[f"evaluate {run.name}"] = _asked(study, cluster, 1, scored, BASE_MB + 8 * params / 1e6)
    rate = cluster.rate or (H100 if cluster.gpus else CPU * study.training.threads)
    for system in estimate_systems(study, Machine("", 1, MEMORY, rate / REACHED, rate, 0.0)).itertuples():
        jobs[f"system {system.system}"] = _asked(study, cluster, 1, system.hours, BASE_MB + 8 * system.params / 1e6)
    evaluated = max((job.hours for name, job in jobs.items() if name.startswith("evaluate")), default=0.0)
    largest = max(job.mem_mb for job in jobs.values())
    jobs["speedup"] = _asked(study, cluster, 1, evaluated, largest / cluster.memory_factor, alone=True)
    return jobs


def asked_of(study: Study, cluster: Cluster) -> dict[str, dict]:
    """Return what the Snakefile reads of every job; it counts GPUs itself."""
    jobs = plan_jobs(study, cluster) if study.training else {}
    read = ("gpu_model", "cpus_per_task", "mem_mb", "runtime", "slurm_extra")
    return {name: {field: getattr(job, field) for field in read} for name, job in jobs.items()}


def _work(study: Study, cluster: Cluster) -> Iterator[tuple[Run, float, float, int]]:
    """Yield every run with the hours of its training and evaluation on one GPU, or its CPUs, and its parameters."""
    tokens, _ = tokens_of_a_pair(study)
    costs = {
        (family, rung): count_costs(study, family, rung, tokens) for family in study.families for rung in study.ladder
    }
    for run in study.all_runs:
        family = study.family_of(run.objective)
        _, counts, flops = costs[family, run.rung]
        hour = 3600 * _rate(study, cluster, planned_config(study, run.rung, family).hidden_size)
        pairs = planned_steps(plan_branches(study, run)) * study.training.groups.pairs_per_step
        pairs += study.training.exposures[0] * len(study.objectives[run.objective].learning_rate.sweep)
        trained, scored = pairs * passes_of_a_step(study), pairs_of_tests(study) * len(study.training.exposures)
        yield run, trained * flops / hour, scored * flops / hour, counts.total


def _rate(study: Study, cluster: Cluster, hidden: int) -> float:
    """Return the FLOP/s that a rung sustains on one GPU, or on the CPUs of a run."""
    if not cluster.gpus:
        return cluster.rate or CPU * study.training.threads
    return (cluster.rate or H100) * min(1.0, hidden / WIDE)


def _asked(
    study: Study,
    cluster: Cluster,
    gpus: int,
    hours: float,
    memory: float,
    minutes: int = BASE_MINUTES,
    alone: bool = False,
) -> Asked:
    """Return what a job asks for that is expected to take so many hours and so much of the host's memory, in MB."""
    threads = study.training.threads if study.training else 1
    return Asked(
        gpu=gpus if cluster.gpus else 0,
        gpu_model=cluster.gpu_model if cluster.gpus and gpus else "",
        cpus_per_task=max(cluster.cpus, threads * max(1, gpus)),
        mem_mb=ceil(cluster.memory_factor * memory),
        runtime=min(cluster.longest, ceil(minutes + cluster.time_factor * 60 * hours)),
        hours=hours,
        slurm_extra=slurm_extra(cluster) + " --exclusive" * alone,
    )


def cluster_text(study: Study, cluster: Cluster) -> str:
    """Return for people to read what the study is to a cluster: its jobs, their hours, and how they wait."""
    jobs = plan_jobs(study, cluster)
    fitted = [run.name for run in study.fitted_runs + study.fitted_annotation_runs]
    held_out = [run.name for run in study.all_runs if run.name not in fitted]
    trained = [job for name, job in jobs.items() if name.startswith("train ")]
    hours = sum(job.hours * max(1, job.gpu) for job in jobs.values())
    chain = sum(_longest(jobs, names) for names in (fitted, held_out)) + jobs["speedup"].hours
    device = "GPU" if cluster.gpus else "job"
    minutes, memory = sorted(job.runtime for job in trained), sorted(job.mem_mb / 1e3 for job in trained)
    rate = (cluster.rate or (H100 if cluster.gpus else CPU)) / 1e12
    return (
        f"On a cluster (ON=slurm): {len(jobs)} jobs of {hours:.3g} {device} hours; {len(fitted)} runs may train at "
        f"once, then {len(held_out)} held-out ones; the longest chain, the largest of both and the timing, takes "
        f"{duration(chain)} and the queue. A run asks for {minutes[0]:,} to {minutes[-1]:,} minutes, "
        f"{memory[0]:.0f} to {memory[-1]:.0f} GB, {trained[0].cpus_per_task} CPUs and {trained[0].gpu} GPU: "
        f"{cluster.time_factor:g} times what is expected at {rate:g} TFLOP/s a {device}."
    )


def _longest(jobs: dict[str, Asked], runs: list[str]) -> float:
    """Return the hours of the run that trains and is evaluated longest."""
    return max((jobs[f"train {run}"].hours + jobs[f"evaluate {run}"].hours for run in runs), default=0.0)
