"""A Slurm with accounting, which is asked by sacct, and a job of it that asked for too little memory."""

import os
import signal

import pytest
import yaml

from rankscale_utils.pipeline import cluster as settings
from rankscale_utils.study.paths import log_file
from tests.cluster import slurm
from tests.cluster.test_slurm import CLUSTER, WAIT, jobs, number_of, ran, start, until
from tests.faults.finished import write

pytestmark = pytest.mark.skipif(bool(slurm.missing(accounting=True)), reason=slurm.missing(accounting=True) or "-")
LITTLE = "50"  # MB, less than Python takes with what the study imports


def test_a_job_that_runs_out_of_memory_says_so_once_and_sacct_knows_it_after_a_restart(
    tmp_path, tiny_study, monkeypatch
):
    write(tmp_path)
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER | {"options": "--hold"}))
    with slurm.guarded(accounting=True) as cluster:
        with monkeypatch.context() as there:
            for name, value in cluster.items():
                there.setenv(name, value)
            assert "squeue" not in settings.options(tiny_study, "slurm", settings.Cluster())  # but sacct
        first = start(tmp_path, cluster)
        job = until(lambda: number_of(cluster, "rule_collection", "PENDING"), first)
        os.killpg(first.pid, signal.SIGKILL)
        graph = log_file(tmp_path / "runs" / "tiny", "graph")
        graph.unlink()
        second = start(tmp_path, cluster)
        until(lambda: graph.exists() and f"SLURM jobid {job}" in graph.read_text(), second)
        ran(cluster, "scontrol", "update", f"JobId={job}", f"MinMemoryNode={LITTLE}")
        ran(cluster, "scontrol", "release", job)
        said, _ = second.communicate(timeout=WAIT)
        assert [number for number, *_ in jobs(cluster)] == [job], said
    assert second.returncode, said
    assert f"rankscale: tiny: collection ran out of the memory that it asked for: {settings.MORE_OF_A_JOB} (" in said
    assert said.count("rankscale: tiny: ") == 1
