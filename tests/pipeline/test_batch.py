import pandas as pd
import pytest

from rankscale_utils.pipeline import batch
from rankscale_utils.pipeline.batch import _lock, _shown, main


@pytest.fixture
def snakemake(monkeypatch):
    """Stand in for Snakemake: note its command and environment, and return the status set."""
    called, status = [], [0]

    def call(command, env):
        called.append((command, env))
        return status[0]

    monkeypatch.setattr(batch.subprocess, "call", call)
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
    assert f"study={tiny_study.source}" in command
    assert environment["RANKSCALE_PROGRESS"] == str(tiny_study.folder / "progress.log")
    assert environment["RANKSCALE_ROOT"] == str(tiny_study.folder.parents[1])


def test_a_study_that_stopped_says_how_to_go_on(tiny_study, snakemake, capsys):
    snakemake["status"][0] = 1
    assert main("tiny") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "study tiny stopped; `make study STUDY=tiny` goes on from here" in said.err


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
    command = batch.command(tiny_study, cores=3, gpu_count=gpus)
    assert f"kernel={kernel}" in command
    assert command[command.index("--cores") + 1] == "3"
    assert command[command.index("--resources") + 1] == f"gpu={gpus}"


def test_progress_is_shown_while_it_is_written(tmp_path, capsys):
    path = tmp_path / "progress.log"
    path.write_text("")
    with _shown(path), open(path, "a") as out:
        out.write("first\n")
        out.flush()
        out.write("last\n")
    assert capsys.readouterr().out == "first\nlast\n"
