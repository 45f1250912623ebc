"""The page of all runs: what they share stands once, what is a run's own folds under its name."""

import nbformat
import pytest

from rankscale_utils.report.page import page_of, slim_page
from rankscale_utils.report.runs_page import runs_page
from rankscale_utils.study.loading import load_study


@pytest.fixture
def page(tmp_path):
    """Return the page of an executed notebook of a run that reached a value."""

    def made(run: str, value: float) -> str:
        def code(source: str, html: str = "") -> nbformat.NotebookNode:
            shown = [nbformat.v4.new_output("execute_result", {"text/html": html}, execution_count=1)] if html else []
            return nbformat.v4.new_code_cell(source, outputs=shown)

        text = nbformat.v4.new_markdown_cell
        cells = [
            text("# What is a run?\nA run is a run."),
            code("first = 1"),
            text("## The contract\nHow it was measured."),
            code("contract()", "<table><tr><td>the same for all</td></tr></table>"),
            text("## All metrics\nA column an exposure."),
            code("metrics()", f"<table><tr><td>value</td><td>{value}</td></tr></table>"),
            code("finding()", f'<div class="finding"><p>It reached {value}.</p></div>'),
        ]
        for place, cell in enumerate(cells):
            cell["id"] = f"2-{place}"
        run_of = {"parameters": {"run": run}, "start_time": "2026-01-31T12:00:00", "duration": value}
        notebook = tmp_path / run / "2_evaluate.ipynb"
        notebook.parent.mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"papermill": run_of}), notebook)
        return page_of(notebook, load_study("published"))

    return made


def test_what_runs_share_stands_once_and_what_is_a_runs_own_folds(page, chromium, tmp_path):
    runs = {"listwise-w8-s0": 0.5, "listwise-w16-s0": 0.6}
    html = slim_page(runs_page({run: page(run, value) for run, value in runs.items()}))
    for once in ("A run is a run.", "How it was measured.", "the same for all", "A column an exposure.", "metrics()"):
        assert html.count(once) == 1, once
    (tmp_path / "evaluate.html").write_text(html)
    shown = chromium.new_page()
    shown.goto(f"{(tmp_path / 'evaluate.html').as_uri()}#listwise-w16-s0")
    assert shown.locator("nav.contents li").all_inner_texts() == ["The 2 runs", "The contract", "Provenance"]
    for run, value in runs.items():
        fold = shown.locator(f"#{run}")
        assert fold.locator("summary").inner_text().split("\n") == [run, f"It reached {value}."]
        assert fold.locator("table").is_visible() == (run == "listwise-w16-s0")  # the one that the address names
        assert fold.locator("td").all_text_contents() == ["value", str(value)]
        assert fold.locator("small").text_content() == f"Executed 2026-01-31 12:00:00 UTC, {value} s."
    rows = shown.locator("footer tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["papermill"]  # what is a run's own is said there
    assert shown.evaluate("document.querySelectorAll('main div').length") == html.count("</div>") - 1
    shown.close()


def test_one_run_shows_all_that_it_has(page):
    html = runs_page({"listwise-w8-s0": page("listwise-w8-s0", 0.5)})
    fold = html[html.index('<details class="fold"') : html.index("</details>", html.index("<small>"))]
    assert "the same for all" in fold
    assert "<td>0.5</td>" in fold
