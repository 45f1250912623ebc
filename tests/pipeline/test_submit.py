import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rankscale_utils.pipeline import submit

JOB, OTHER = "rule_train_wildcards_listwise-w8-s0", "rule_train_wildcards_listwise-w4-s0"
ARGUMENTS = ["--parsable", "--job-name", "rankscale-1_new", "--comment", JOB, "--wrap=x"]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Return what puts shell scripts in place of Slurm's commands; they note how they were called."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    told = {"SBATCH": tmp_path / "sbatch", "JOBS": "rankscale-1", "JOBS_PROGRESS": tmp_path / "progress"}
    told |= {"FAILURES": tmp_path / "tiny" / "failures.log", "PLAIN_WARM": "", "PLAIN_PATH": "/usr/bin:/bin"}
    for name, value in told.items():
        monkeypatch.setenv(f"RANKSCALE_{name}", str(value))
    monkeypatch.setattr(submit, "WAITS", (0.0, 0.0))
    (tmp_path / "tiny").mkdir()

    def put(**scripts):
        for name, script in scripts.items():
            file = tmp_path / name
            file.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n{script}\n')
            file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return lambda: (tmp_path / "called").read_text()

    return put


def test_a_job_is_submitted_with_the_environment_of_jobs(slurm, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WARM", "here")
    slurm(squeue="", scontrol="", sbatch=f"env > {tmp_path}/env; echo 12")
    assert submit.submit(ARGUMENTS) == 0
    assert capsys.readouterr().out == "12\n"
    environment = (tmp_path / "env").read_text().splitlines()
    assert f"RANKSCALE_PROGRESS={tmp_path}/progress/train.listwise-w8-s0.log" in environment
    assert "PATH=/usr/bin:/bin" in environment
    assert not [line for line in environment if line.startswith(("WARM=", "RANKSCALE_PLAIN"))]


def test_a_script_is_given_to_every_try(slurm, tmp_path, capsys):
    slurm(squeue="", sbatch=f"cat >> {tmp_path}/script; test -e {tmp_path}/back && echo 12 && exit; "
          f"touch {tmp_path}/back; echo 'sbatch: error: Connection refused' >&2; exit 1")  # fmt: skip
    assert submit.submit(ARGUMENTS[:-1], "#!/bin/sh\nsrun x\n") == 0
    assert (tmp_path / "script").read_text() == 2 * "#!/bin/sh\nsrun x\n"


def test_a_job_that_still_runs_is_taken_over(slurm, capsys):
    listed = [f"7|RUNNING|rankscale-2_old|{JOB}", f"8|RUNNING|rankscale-1_old|{OTHER}"]
    listed += [f"9|PENDING|rankscale-1_old|{JOB}"]
    called = slurm(squeue="".join(f"echo '{line}';" for line in listed), scontrol="", sbatch="echo 12")
    assert submit.submit(ARGUMENTS) == 0
    assert capsys.readouterr().out == "9\n"
    assert "scontrol update JobId=9 JobName=rankscale-1_new\n" in called()
    assert "\nsbatch" not in called()


def test_a_job_that_is_on_its_way_back_to_the_queue_is_waited_for(slurm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(submit, "ENDING", 0.0)
    (tmp_path / "states").write_text("COMPLETING\nCOMPLETING\nPENDING\n")
    first = f"head -1 {tmp_path}/states; sed -i 1d {tmp_path}/states"
    called = slurm(squeue=f'echo "9|$({first})|rankscale-1_old|{JOB}"', scontrol="", sbatch="echo 12")
    assert submit.submit(ARGUMENTS) == 0
    assert capsys.readouterr().out == "9\n"
    assert "\nsbatch" not in called()


def test_a_controller_that_is_away_for_a_while_is_asked_again(slurm, tmp_path, capsys):
    away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    slurm(squeue="", scontrol="", sbatch=f"test -e {tmp_path}/back && echo 12 && exit; touch {tmp_path}/back; "
          f"echo '{away}' >&2; exit 1")  # fmt: skip
    assert submit.submit(ARGUMENTS) == 0
    assert capsys.readouterr().out == "12\n"


def test_while_slurm_does_not_say_whether_a_job_still_runs_none_is_submitted(slurm, tmp_path, capsys):
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    called = slurm(squeue=f"test -e {tmp_path}/back && echo '9|RUNNING|rankscale-1_old|{JOB}' && exit; "
                   f"touch {tmp_path}/back; echo '{away}' >&2; exit 1", scontrol="", sbatch="echo 12")  # fmt: skip
    assert submit.submit(ARGUMENTS) == 0
    assert capsys.readouterr().out == "9\n"
    assert "\nsbatch" not in called()


def test_a_refusal_is_one_sentence(slurm, tmp_path, capsys):
    said = "sbatch: error: invalid partition specified: gpus\nsbatch: error: Batch job submission failed: No such thing"
    called = slurm(squeue="", scontrol="", sbatch=f"echo '{said}' >&2; exit 1")
    assert submit.submit(ARGUMENTS) == 1
    assert capsys.readouterr().err == f"{said}\n"
    assert called().count("sbatch ") == 1
    assert (tmp_path / "tiny" / "failures.log").read_text() == (
        "tiny: train listwise-w8-s0 was refused by sbatch: invalid partition specified: gpus; "
        "Batch job submission failed: No such thing\n"
    )


def test_it_starts_without_the_package():
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(Path(submit.__file__)), "--comment", "x"]
    said = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}).stderr
    assert "rankscale_utils" not in said.replace(str(Path(submit.__file__)), "")
