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

from . import figures

TEMPLATE = Path(__file__).resolve().parent / "template"
SMALLEST = 0.76  # of a figure's width: narrower, its text would be under eleven pixels


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


def inline_svg(svg: str) -> str:
    """Return a figure for use inside a page: named by its title and axes, its ink the page's, light or dark.

    It is shown no narrower than its text can be read; what holds it scrolls.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    parts = {part: text for part, text in re.findall(r'<g id="(title|x|y)">.*?<text[^>]*>(.*?)</text>', svg, re.DOTALL)}
    svg = re.sub(r'<g id="[^"]*">', "<g>", re.sub(r"<[^>]+>", _rounded, svg))  # one page holds many figures
    name, smallest = _name_of_figure(parts), SMALLEST * float(re.search(r'width="([\d.]+)pt"', svg)[1])
    head = f'<svg role="img" aria-label="{name}" style="min-width:{smallest:.0f}pt" '
    for light, dark in figures.IN_THE_DARK.items():
        svg = svg.replace(light, f"light-dark({light},{dark})")
    svg = svg.replace(figures.INK, "currentColor").replace("<svg ", head, 1)
    return re.sub(r"(<svg[^>]*>)", rf"\1<title>{name}</title>", svg, count=1)


def _name_of_figure(parts: dict[str, str]) -> str:
    """Return a figure's name from its title and axis labels, which are escaped already."""
    against = " against ".join(parts[axis] for axis in ("y", "x") if parts.get(axis))
    return ": ".join(filter(None, [parts.get("title"), against])).replace('"', "&quot;") or "figure"


def _rounded(tag: re.Match) -> str:
    """Cut a tag's coordinates after a hundredth of a point, which is enough and halves the page."""
    return re.sub(r"(\.\d\d)\d+", r"\1", tag[0])


def render_page(notebook: Path, study: Study, target: Path, crumbs: list[str]) -> None:
    """Write an executed notebook as one self-contained page."""
    nb = nbformat.read(notebook, as_version=4)
    nb.cells = [
        cell for cell in nb.cells if "injected-parameters" not in cell.metadata.get("tags", [])
    ]  # see provenance
    home = Path(*[".."] * len(target.relative_to(study.reports).parent.parts), paths.index_file(study.reports).name)
    page = {
        "title": title_of(nb),
        "study": study.name,
        "home": home.as_posix(),
        "crumbs": crumbs,
        "css": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "script": (TEMPLATE / "page.js").read_text(encoding="utf-8"),
        "provenance": provenance(nb),
    }
    html, _ = _exporter().from_notebook_node(nb, resources={"page": page})
    with whole_file(target) as temporary:
        temporary.write_text(html, encoding="utf-8")


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
