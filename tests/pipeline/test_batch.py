import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from rankscale_utils.machine.files import read_json
from rankscale_utils.pipeline import batch
from rankscale_utils.pipeline.batch import _lock, _shown, main


@pytest.fixture
def snakemake(monkeypatch):
    """Stand in for Snakemake: note its command and environment, and return the status set."""
    called, status = [], [0]

    def call(command, env, log, lock):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        called.append((command, env))
        return status[0]

    monkeypatch.setattr(batch, "_supervised", call)
    return {"calls": called, "status": status}


def test_a_study_that_is_not_there_stops_with_one_sentence(tiny_study, snakemake, capsys):
    assert main("tinny") == 2
    assert snakemake["calls"] == []
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "rankscale: study 'tinny' is neither a YAML file nor one of params/: tiny.\n"


def test_measurements_that_cannot_be_fitted_stop_before_any_work(tiny_study, snakemake, tmp_path, capsys):
    pd.DataFrame({"objective": ["listwise"]}).to_csv(tmp_path / "ladder.csv", index=False)
    (tmp_path / "mine.yaml").write_text("measurements: ladder.csv\nheld_out: {rungs: [1b]}\n")
    assert main(str(tmp_path / "mine.yaml")) == 2
    assert snakemake["calls"] == []
    assert "lacks the columns rung, params" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_more_gpus_than_there_are_stop_before_any_work(new_study, snakemake, monkeypatch, capsys):
    training = {"exposures": [960], "gpus": 4}
    new_study(training=training)
    monkeypatch.setattr(batch, "visible_gpus", lambda: 2)
    assert main("tiny") == 2
    assert snakemake["calls"] == []
    assert "training.gpus = 4: this machine shows 2: lower it or use a larger machine." in capsys.readouterr().err
    monkeypatch.setattr(batch, "visible_gpus", lambda: 0)  # on a CPU, one process trains a run
    assert main("tiny") == 0


def test_a_finished_study_ends_with_the_path_of_its_report(tiny_study, snakemake, capsys):
    assert main("tiny") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tiny_study.reports / "index.html")
    command, environment = snakemake["calls"][0]
    told = read_json(Path(command[command.index("--configfile") + 1]))
    assert told["study"] == str(tiny_study.source)
    assert environment["PYTHONUTF8"] == "1"
    assert environment["PYTHONSAFEPATH"] == "1"  # the root may be somebody else's
    assert environment["RANKSCALE_PROGRESS"] == str(tiny_study.folder / "progress.log")
    assert environment["RANKSCALE_ROOT"] == str(tiny_study.folder.parents[1])


def test_a_study_that_stopped_says_how_to_go_on(tiny_study, snakemake, capsys):
    snakemake["status"][0] = 1
    assert main("tiny") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "study tiny stopped; `make study STUDY=tiny` goes on from here" in said.err


@pytest.mark.parametrize("place", ["runs", "reports"])
def test_results_that_cannot_be_written_stop_before_any_work(tiny_study, snakemake, tmp_path, capsys, place):
    (tmp_path / place).write_text("a file, where a folder should be")
    assert main("tiny") == 2
    assert snakemake["calls"] == []
    said = capsys.readouterr().err
    assert f"rankscale: {tmp_path / place}" in said
    assert "cannot be written to (" in said
    assert "Traceback" not in said


def test_a_study_runs_once_at_a_time(tiny_study, snakemake, capsys):
    tiny_study.folder.mkdir(parents=True)
    with _lock(tiny_study):
        assert main("tiny") == 2
    assert snakemake["calls"] == []
    assert "study tiny is running already: wait for it, or stop it first" in capsys.readouterr().err
    assert main("tiny") == 0


def test_two_studies_of_one_name_do_not_share_a_folder(tiny_study, snakemake, tmp_path, capsys):
    assert main("tiny") == 0
    other = tmp_path / "elsewhere" / "tiny.yaml"
    other.parent.mkdir()
    other.write_text(tiny_study.source.read_text())
    assert main(str(other)) == 2
    assert f"holds the results of {tiny_study.source}: rename tiny.yaml" in capsys.readouterr().err
    assert len(snakemake["calls"]) == 1
    tiny_study.source.unlink()  # moved, not copied
    assert main(str(other)) == 0


@pytest.mark.parametrize(("gpus", "kernel"), [(0, "rankscale-cpu"), (2, "rankscale-gpu")])
def test_the_kernel_is_the_one_that_the_machine_has(tiny_study, gpus, kernel):
    command = batch.command(tiny_study, core_count=3, gpu_count=gpus)
    assert read_json(tiny_study.folder / "graph.json")["kernel"] == kernel
    assert command[command.index("--cores") + 1] == "3"
    assert command[command.index("--resources") + 1] == f"gpu={gpus}"


def test_progress_is_shown_while_it_is_written(tmp_path, capsys):
    path = tmp_path / "progress.log"
    path.write_text("")
    with _shown(path, tmp_path / "jobs"), open(path, "a", encoding="utf-8") as out:
        out.write("first\n")
        out.flush()
        (tmp_path / "jobs").mkdir()
        (tmp_path / "jobs" / "train.log").write_text("of a job\n")
        out.write("last\n")
    assert sorted(capsys.readouterr().out.splitlines()) == ["first", "last", "of a job"]


def test_a_user_without_a_home_has_folders_beside_the_results(tiny_study, snakemake, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("MPLCONFIGDIR", "/chosen")
    assert main("tiny") == 0
    environment = snakemake["calls"][0][1]
    assert environment["XDG_CACHE_HOME"] == str(tiny_study.folder / "home" / "xdg_cache_home")
    assert environment["MPLCONFIGDIR"] == "/chosen"


def test_stages_that_failed_say_why(tiny_study, snakemake, monkeypatch, capsys):
    def fails(command, env, log, lock):
        (tiny_study.folder / "failures.log").write_text("tiny: fit failed: no rung is left (the log is x)\n")
        return 1

    monkeypatch.setattr(batch, "_supervised", fails)
    assert main("tiny") == 1
    assert capsys.readouterr().err.splitlines() == [
        "rankscale: tiny: fit failed: no rung is left (the log is x)",
        "rankscale: study tiny stopped; `make study STUDY=tiny` goes on from here.",
    ]


def test_the_graphs_own_reason_is_said_where_no_stage_failed(tiny_study, snakemake, monkeypatch, capsys):
    def fails(command, env, log, lock):
        log.write_text(
            "Building DAG of jobs...\nMissingInputException in rule fit in file Snakefile, line 3:\nMissing: x\n"
        )
        return 1

    monkeypatch.setattr(batch, "_supervised", fails)
    tiny_study.folder.joinpath("logs").mkdir(parents=True)
    assert main("tiny") == 1
    reason = "the graph of tiny failed: MissingInputException in rule fit in file Snakefile, line 3: Missing: x"
    assert reason in capsys.readouterr().err


# Supervises a graph of two generations that would outlive it, as study argv[1]'s batch does.
SUPERVISOR = """
import sys
from pathlib import Path
from rankscale_utils.errors import one_sentence
from rankscale_utils.pipeline.batch import _lock, _supervised
from rankscale_utils.study.loading import load_study

@one_sentence
def main(name):
    study = load_study(name)
    graph = ["sh", "-c", "echo $$ > pid; sleep 60 & echo $! >> pid; wait"]
    import os
    os.chdir(study.folder)
    with _lock(study) as lock:
        return _supervised(graph, dict(os.environ), Path("log"), lock)

sys.exit(main(sys.argv[1]))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_what_ends_the_batch_ends_what_it_started_and_the_lock_lives_as_long(tiny_study, number, monkeypatch):
    tiny_study.folder.mkdir(parents=True)
    command = [sys.executable, "-c", SUPERVISOR, str(tiny_study.source)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as batch_process:
        pids = tiny_study.folder / "pid"
        until = time.monotonic() + 30
        while not pids.exists() or len(pids.read_text().split()) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        graph, stage = map(int, pids.read_text().split())
        batch_process.send_signal(number)
        said = batch_process.communicate(timeout=30)[1]
    assert "Traceback" not in said
    until = time.monotonic() + (5 if number == signal.SIGKILL else 0)  # nobody is left to wait for them
    while alive(graph) or alive(stage):
        assert time.monotonic() < until
        time.sleep(0.05)
    with _lock(tiny_study):  # free again
        pass


def test_a_stage_that_was_ended_from_outside_is_named(tiny_study, snakemake, monkeypatch, capsys):
    logs = tiny_study.folder / "logs"
    told = f"tiny: fit failed: no rung is left (the log is {logs / '3_fit.log'})"

    def fails(command, env, log, lock):
        for rule, own in (("fit", "3_fit.log"), ("index", "report.log")):
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "a", encoding="utf-8") as out:
                out.write(
                    f"RuleException:\nError in rule {rule}:\n    message: None\n    jobid: 4\n"
                    f"    log: {logs / own} (check log file(s) for error details)\n    shell:\n"
                )
        (tiny_study.folder / "failures.log").write_text(f"{told}\n")
        return 1

    monkeypatch.setattr(batch, "_supervised", fails)
    assert main("tiny") == 1
    assert capsys.readouterr().err.splitlines()[:2] == [
        f"rankscale: {told}",
        f"rankscale: tiny: index was ended from outside before it could say why (its log is {logs / 'report.log'})",
    ]
