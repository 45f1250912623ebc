"""Notebooks run by hand in a real JupyterLab: nothing fails, nothing stands on red, and the study stays as it was.

In CI three of them; `RANKSCALE_FUZZ=1 pytest tests/faults/test_lab.py` runs them all, which takes minutes.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from rankscale_utils.machine.files import RESULTS, digest
from tests.faults.conftest import FUZZ
from tests.faults.finished import run

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SHORT = ["1_train", "5_allocate", "9_explore"]
LONG = ["2_evaluate", "3_fit", "4_forecast", "6_speedup"]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}
OPENED = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type === 'code')
  .map(cell => ({count: cell.executionCount, outputs: cell.outputs.toJSON()}))"""
DONE = f"() => ({CELLS})().every(cell => cell.count) || ({CELLS})().some(cell => cell.outputs.some(o => o.ename))"
FIGURES = """() => [...document.querySelectorAll('.jp-OutputArea-output .figures')].map(figures =>
  [figures.getBoundingClientRect().width, figures.closest('.jp-OutputArea-output').clientWidth,
    Math.max(...[...figures.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width))])"""
INK = "() => [...document.querySelectorAll('.figures svg')].every(svg => !svg.outerHTML.includes('#1c2128'))"


@pytest.fixture
def lab(finished, tmp_path):
    """The address of a JupyterLab over copies of the notebooks, whose parameters name the finished study."""
    folder, settings = tmp_path / "notebooks", tmp_path / "settings" / "@jupyterlab"
    folder.mkdir()
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        parameters.source = parameters.source.replace('"demo"', '"tiny"').replace("w16", "w8")
        nbformat.write(notebook, folder / path.name)
    for name, value in SETTINGS.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{settings / name}.jupyterlab-settings").write_text(json.dumps(value), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != RESULTS} | {
        "RANKSCALE_ROOT": str(finished),
        "JUPYTERLAB_SETTINGS_DIR": str(settings.parent),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}/lab/tree"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as asked:
            if not asked.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    pytest.fail("JupyterLab did not start")


def hashes(root):
    """Return what every file of the study holds, but for what processes say of themselves."""
    files = [path for part in ("runs", "reports") for path in (root / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): digest(path) for path in files if ".lock" not in path.name}


def run_all(page, lab, name):
    """Open a notebook, choose Run All Cells from the menu, and return its code cells when all have run."""
    page.goto(f"{lab}/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
    page.wait_for_function(OPENED, timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(DONE, timeout=300_000)
    return page.evaluate(CELLS)


def test_notebooks_by_hand_run_through_and_change_nothing(chromium, finished, lab):
    before = hashes(finished)
    for name in SHORT + LONG * bool(os.environ.get(FUZZ)):
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        outputs = [output for cell in run_all(page, lab, name) for output in cell["outputs"]]
        failed = [output["evalue"] for output in outputs if output["output_type"] == "error"]
        assert failed == [], name
        assert [output["text"] for output in outputs if output.get("name") == "stderr"] == [], name
        page.wait_for_selector(".jp-OutputArea-output svg")
        for width, whole, widest in page.evaluate(FIGURES):
            assert width > 0.95 * whole, name
            assert widest > 0.45 * whole, name
        assert page.evaluate(INK), name
        assert page.locator(".finding mjx-container, table mjx-container, .finding .MathJax").count() == 0, name
        if name == "9_explore":
            _explored(page)
        page.close()
    assert hashes(finished) == before
    run(finished)
    assert {name: sha for name, sha in hashes(finished).items() if name.endswith((".ipynb", ".parquet"))} == {
        name: sha for name, sha in before.items() if name.endswith((".ipynb", ".parquet"))
    }


def _explored(page):
    """Move a control: what is forecast, and the line of Python that does so, follow."""
    section = page.locator(".jp-Cell", has_text="page.explore_forecasts")
    section.locator(".widget-dropdown", has_text="prior").locator("select").select_option("off")
    section.get_by_text("prior='off'").wait_for(timeout=60_000)
    assert section.get_by_text("your choices").count() == 1
    section.locator(".widget-checkbox", has_text="w4").locator("input").click()
    section.get_by_text("2 rungs are left, and a law of size needs 3: leave out less.").wait_for(timeout=60_000)
    read = page.locator(".jp-Cell", has_text="open_rankings)").last
    assert read.get_by_text("relevant", exact=True).count() >= 1
