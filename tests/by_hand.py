"""A notebook run by hand, in a kernel of its own: what it says, and that it changes nothing of the study."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from rankscale_utils.machine.files import RESULTS, digest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def run_by_hand(name: str, study: Path, root: Path, folder: Path) -> list[str]:
    """Run all cells of a notebook on a study of a root; return the errors that cells ended with, as they show them."""
    before = _files(root / "runs")
    executed = folder / f"{name}.ipynb"
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / executed.name), str(executed), "-k", "rankscale-cpu"]
    environment = {key: value for key, value in os.environ.items() if key != RESULTS} | {"RANKSCALE_ROOT": str(root)}
    done = subprocess.run(
        [*command, "--no-progress-bar", "-p", "study", str(study)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert executed.exists(), done.stderr
    assert _files(root / "runs") == before
    outputs = [output for cell in nbformat.read(executed, as_version=4).cells for output in cell.get("outputs", [])]
    errors = ["\n".join(output["traceback"]) for output in outputs if output["output_type"] == "error"]
    assert bool(done.returncode) == bool(errors), done.stderr
    return errors


def _files(folder: Path) -> dict[str, str]:
    return {str(path): digest(path) for path in folder.rglob("*") if path.is_file()}
