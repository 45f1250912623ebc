import re

import pytest

from rankscale_utils.pipeline.cluster import Cluster
from rankscale_utils.pipeline.estimate import count_costs
from rankscale_utils.pipeline.jobs import asked_of, cluster_text, plan_jobs
from rankscale_utils.study.loading import load_study
from tests.training.test_run import short


def test_every_job_of_the_graph_asks_for_what_its_rung_needs(tiny_study):
    jobs = asked_of(tiny_study, Cluster())
    runs = [f"listwise-w{size}-s0" for size in (4, 6, 8, 12)]
    assert set(jobs) == {"collection", "speedup", *(f"{rule} {run}" for rule in ("train", "evaluate") for run in runs)}
    assert jobs["speedup"]["slurm_extra"].endswith("--exclusive")  # its clock would measure the neighbours


def test_hours_are_those_of_the_flops_at_the_rate_that_a_rung_reaches(tiny_study):
    job = plan_jobs(tiny_study, Cluster(gpus=False, rate=1e6))["train listwise-w8-s0"]
    _, _, flops = count_costs(tiny_study, "cross_encoder", "w8", 48.0)
    assert job.hours == pytest.approx(3 * 1140 * flops / 1e6 / 3600)  # 1,140 pairs with cool-downs, three passes
    assert job.runtime == pytest.approx(20 + 3 * 60 * job.hours, abs=1)
    assert job.gpu == 0
    narrow = plan_jobs(tiny_study, Cluster(rate=1e6))["train listwise-w8-s0"]
    assert narrow.hours == pytest.approx(job.hours * 1024 / 8)


def test_larger_rungs_ask_for_more_and_none_for_more_than_the_partition_allows():
    study = load_study("msmarco")
    planned = plan_jobs(study, Cluster())
    jobs = [planned[f"train listwise-{rung}-s0"] for rung in study.ladder]
    for field in ("runtime", "mem_mb", "hours"):
        values = [getattr(job, field) for job in jobs]
        assert values == sorted(set(values))
    assert jobs[-1].mem_mb == pytest.approx(1.5 * (6000 + 36 * 1028), rel=0.01)
    assert plan_jobs(study, Cluster(longest=60))["train listwise-1b-s0"].runtime == 60


def test_a_run_on_several_gpus_asks_for_them_and_for_less_time(new_study):
    several = plan_jobs(new_study(training=short(gpus=2)), Cluster(rate=1e6))["train listwise-w8-s0"]
    single = plan_jobs(new_study(training=short()), Cluster(rate=1e6))["train listwise-w8-s0"]
    assert several.gpu == 2
    assert several.hours == pytest.approx(single.hours / 2)
    assert several.mem_mb == pytest.approx(2 * single.mem_mb, abs=1)  # every process keeps whole copies


def test_a_model_of_gpus_is_asked_for_where_gpus_are(tiny_study):
    jobs = asked_of(tiny_study, Cluster(gpu_model="h100"))
    assert {name for name, job in jobs.items() if job["gpu_model"] != "h100"} == {"collection"}
    assert not any(job["gpu_model"] for job in asked_of(tiny_study, Cluster(gpu_model="h100", gpus=False)).values())


def test_the_plan_says_jobs_hours_width_and_the_longest_chain():
    study = load_study("msmarco")
    text = cluster_text(study, Cluster())
    jobs = plan_jobs(study, Cluster())
    assert f"{len(jobs)} jobs" in text
    assert f"{len(study.fitted_runs)} runs may train at once" in text
    hours = [jobs[f"train {run.name}"].hours + jobs[f"evaluate {run.name}"].hours for run in study.runs]
    chain = float(re.search(r"about ([\d.]+) hours and the queue", text)[1])
    assert max(hours) < chain < 4 * max(hours)
