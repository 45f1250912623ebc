import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from rankscale_utils.errors import StudyError
from rankscale_utils.pipeline.notebook import start
from tests.by_hand import run_by_hand

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
RUN = "listwise-w8-s0"

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def executed(tiny_study, tmp_path):
    """Run a notebook of two cells under papermill, given parameters by its command line."""
    cells = [
        nbformat.v4.new_code_cell(f'study = "tiny"\nrun = "{RUN}"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from rankscale_utils.pipeline.notebook import start\n"
            "this = start(study=study, run=run)\n"
            "print('opened', this.study.name, this.run.name, this.device.type)"
        ),
    ]
    spec = {"name": "python3", "display_name": "Python", "language": "python"}
    nb = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})
    nbformat.write(nb, tmp_path / "in.ipynb")

    def execute(*parameters):
        given = [part for name, value in parameters for part in ("-p", name, value)]
        command = [sys.executable, "-m", "papermill", str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
        done = subprocess.run(
            [*command, "-k", "rankscale-cpu", "--no-progress-bar", *given], capture_output=True, text=True, timeout=100
        )
        assert (tmp_path / "out.ipynb").exists(), done.stderr
        out = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        texts = [output.get("text", "") for cell in out.cells for output in cell.get("outputs", [])]
        return done, "".join(texts)

    return execute


def test_a_notebook_opens_its_study_its_run_and_its_device(executed):
    done, printed = executed(("study", "tiny"), ("run", "listwise-w6-s0"))
    assert done.returncode == 0
    assert "opened tiny listwise-w6-s0 cpu" in printed  # its kernel hides any GPU


def test_a_parameter_that_the_notebook_does_not_have_is_refused(executed):
    done, printed = executed(("study", "tiny"), ("runn", RUN))
    assert done.returncode != 0
    assert "unknown parameter runn: this notebook has study, run." in done.stderr
    assert "opened" not in printed


def test_outside_papermill_the_defaults_open(tiny_study):
    this = start(study="tiny", run=RUN)
    assert (this.study, this.run.name, this.device.type) == (tiny_study, RUN, this.device.type)
    only = start(study=str(tiny_study.source), rounds=3)
    assert (only.study, only.rounds) == (tiny_study, 3)
    assert not hasattr(only, "run")


def test_a_wrong_value_is_refused(tiny_study):
    with pytest.raises(StudyError, match="run 'listwise-w9-s0' is not in study tiny: use one of"):
        start(study="tiny", run="listwise-w9-s0")
    with pytest.raises(StudyError, match="'5' is neither a YAML file nor one of params/: tiny"):
        start(study=5)


def test_the_notebooks_are_there():
    assert [path.stem[0] for path in NOTEBOOKS] == sorted({path.stem[0] for path in NOTEBOOKS})
    assert {"1_train", "2_evaluate"} <= {path.stem for path in NOTEBOOKS}


@each
def test_notebooks_are_committed_without_outputs(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert "papermill" not in nb.metadata


@each
def test_notebooks_are_thin(path):
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15
            kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
            assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}


@pytest.mark.parametrize(
    ("name", "study", "sentence"),
    [
        ("7_annotations", "tiny", "study tiny has no annotations: give it some, or"),
        ("8_families", "tiny", "study tiny trains one family, the cross-encoder: choose"),
        ("7_annotations", "dense", "has not been evaluated: run `make study STUDY=dense` first."),
        ("8_families", "families", "study families has not been timed: run `make study STUDY=families` first."),
    ],
)
def test_where_there_is_nothing_to_show_a_notebook_says_so_in_a_sentence(tiny_study, tmp_path, name, study, sentence):
    source = tiny_study.source if study == "tiny" else NOTEBOOKS[0].parents[1] / "params" / f"{study}.yaml"
    (error,) = run_by_hand(name, source, tmp_path, tmp_path)
    assert error.startswith("rankscale: ")
    assert sentence in error
    assert "\n" not in error


@each
def test_notebooks_ask_a_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\?$", first.source.splitlines()[0])


@each
def test_every_parameter_is_documented_and_checked(path):
    nb = nbformat.read(path, as_version=4)
    tagged = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    assert all(re.fullmatch(r"\w+ = .+  # .{10,}", line) for line in lines)
    names = [line.split(" ")[0] for line in lines]
    assert names[0] == "study"
    assert any(f"start({', '.join(f'{name}={name}' for name in names)})" in cell.source for cell in nb.cells)


@each
def test_the_defaults_read_a_study_that_ships(path):
    nb = nbformat.read(path, as_version=4)
    tagged = next(cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", []))
    values = {}
    exec(tagged.source, values)
    study = {"7_annotations": "dense", "8_families": "families"}.get(path.stem, "demo")  # the demo has one family
    assert values["study"] == study
    opened = start(**{name: value for name, value in values.items() if name in ("study", "run")})
    assert opened.study.name == study
