"""What every notebook calls first: its parameters, checked whole, become the study, the run and the device."""

import ast
import os
from types import SimpleNamespace

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.device import compute_device
from rankscale_utils.machine.files import RESULTS, read_only
from rankscale_utils.report import figures, lab
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

from .written import forget


def start(**parameters: str | int | float) -> SimpleNamespace:
    """Return a notebook's study and, where it has such parameters, its run and further values; set the figures' style.

    A notebook of one run, or of a number of threads, has a device too. One that the batch does not run reads results
    and writes none, but for the training that it goes on with.
    Papermill lets unknown parameters pass; here each name that it injected must be one that the notebook declares.

    Raises:
        StudyError: a parameter is unknown, or its value is not one that the study has.
    """
    unknown = sorted(_injected() - set(parameters))
    if unknown:
        raise StudyError(f"unknown parameter {', '.join(unknown)}: this notebook has {', '.join(parameters)}.")
    study = load_study(str(parameters["study"]))
    opened = SimpleNamespace(**parameters | {"study": study})
    if "run" in parameters:
        opened.run = study.run(str(parameters["run"]))
    if "run" in parameters or "threads" in parameters:
        opened.device = compute_device(int(parameters.get("threads", study.training.threads)))
    figures.use_style()
    os.environ.setdefault(RESULTS, "read")
    if read_only():
        lab.show_figures_wide()
        if "run" in parameters and not paths.ledger_file(study.run_folder(opened.run)).exists():
            forget(study.folder, f"train run={opened.run.name}")  # what is trained by hand is not what the batch noted
        print(f"Run by hand: the results in {study.folder} are read and none is changed; `make study` writes them.")
    return opened


def _injected() -> set[str]:
    """Return the names that papermill's injected cell assigns; none outside papermill."""
    try:
        from IPython import get_ipython
    except ImportError:
        return set()
    shell = get_ipython()
    cells = [cell for cell in (shell.user_ns.get("In", []) if shell else []) if cell.startswith("# Parameters\n")]
    statements = ast.parse(cells[-1]).body if cells else []
    return {target.id for line in statements if isinstance(line, ast.Assign) for target in line.targets}
