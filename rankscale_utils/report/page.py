"""Render an executed notebook as a self-contained page."""

import re
from functools import cache
from pathlib import Path

import nbformat
import papermill
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

from rankscale_utils.machine.files import whole_file
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .svg import inline_svg, sheet, slim

TEMPLATE = Path(__file__).resolve().parent / "template"


class Page(Preprocessor):
    """Make a notebook fit to be read: formulas as MathML, figures in the page's own ink, no progress lines."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        """Return the cell as the page shows it."""
        if cell.cell_type == "markdown":
            cell.source = mathml(cell.source)
        else:
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
            for output in cell.outputs:
                _beautify(output.get("data", {}))
        return cell, resources


def mathml(markdown: str) -> str:
    """Return Markdown with its TeX formulas as MathML, which browsers show without a script; code stays as it is."""
    parts = re.split(r"(```.*?```|`[^`]*`)", markdown, flags=re.DOTALL)
    return "".join(part if place % 2 else _formulas(part) for place, part in enumerate(parts))


def _formulas(text: str) -> str:
    blocks = re.sub(r"\$\$(.+?)\$\$", lambda m: convert(m[1].strip(), display="block"), text, flags=re.DOTALL)
    return re.sub(r"(?<![\\$])\$([^$\n]+?)\$", lambda m: convert(m[1]), blocks)


def _beautify(data: dict) -> None:
    if "text/markdown" in data:
        data["text/markdown"] = mathml(data["text/markdown"])
    if "image/svg+xml" in data:
        data["image/svg+xml"] = inline_svg(data["image/svg+xml"])
        data.pop("image/png", None)


def render_page(notebook: Path, study: Study) -> None:
    """Write an executed notebook of a study as one self-contained page."""
    with whole_file(paths.page_file(study.reports, notebook.stem)) as temporary:
        temporary.write_text(slim_page(page_of(notebook, study)), encoding="utf-8")


def page_of(notebook: Path, study: Study) -> str:
    """Return an executed notebook, a study's or a run's, as one self-contained page for the study's reports."""
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [
        cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # see provenance
    page = {
        "title": title_of(nb),
        "study": study.name,
        "home": paths.index_file(study.reports).name,
        "crumb": notebook.stem[2:],
        "css": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "script": (TEMPLATE / "page.js").read_text(encoding="utf-8"),
        "provenance": provenance(nb),
    }
    html, _ = _exporter().from_notebook_node(nb, resources={"page": page})
    return html


def slim_page(html: str) -> str:
    """Return a page that looks and says the same in fewer bytes: of figures, code, and hidden numbers of cells."""
    styles: dict[str, str] = {}

    def shorter(figure: re.Match) -> str:
        svg, found = slim(figure[0])
        styles.update(found)
        return svg

    html = re.sub(r'<svg [^>]*xmlns="http.*?</svg>', shorter, html, flags=re.DOTALL)
    html = re.sub(r"<pre>.*?</pre>", lambda code: re.sub(r"</?span[^>]*>", "", code[0]), html, flags=re.DOTALL)
    html = re.sub(r'<div class="prompt[^>]*>[^<]*</div>\n?', "", html)
    return html.replace("</head>", f'<style id="figures">{sheet(styles)}</style>\n</head>', 1) if styles else html


@cache
def _exporter() -> HTMLExporter:
    """Return the one that renders every page, as its templates take a while to compile."""
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(TEMPLATE)])
    exporter.register_preprocessor(Page(), enabled=True)
    return exporter


def title_of(nb: NotebookNode) -> str:
    """Return a notebook's first heading."""
    return next(line[2:] for cell in nb.cells for line in cell.source.splitlines() if line.startswith("# "))


def provenance(nb: NotebookNode) -> dict[str, str]:
    """Return what made a page: its parameters and how long it took."""
    run = nb.metadata.get("papermill", {})
    given = {name: Path(value).name if name == "study" else value for name, value in run.get("parameters", {}).items()}
    return given | {
        "executed": f"{run.get('start_time', '')[:19].replace('T', ' ')} UTC, {run.get('duration') or 0:.1f} s",
        "papermill": papermill.__version__,
    }
