"""Render every page of a study and, last, its index: `python -m rankscale_utils.report.render STUDY`."""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from rankscale_utils.analysis.evidence import pack_study
from rankscale_utils.machine.device import cores
from rankscale_utils.machine.files import whole_file
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

from .glossary import explained
from .index import index_page
from .page import TEMPLATE, render_page
from .prose import written


def render_study(study: Study) -> Path:
    """Render every page of a study, as many at once as there are cores, its zip and, last, its index's; return that."""
    with ProcessPoolExecutor(cores()) as processes:
        list(processes.map(_render, *zip(*_pages(study), strict=True)))
    pack_study(study)
    return render_index(study)


def render_index(study: Study) -> Path:
    """Render the first page of a study, of what its notebooks wrote; return its path."""
    index = paths.index_file(study.reports)
    with whole_file(index) as temporary:
        temporary.write_text(filled("index.html.j2", index_page(study)), encoding="utf-8")
    return index


def filled(template: str, values: dict[str, Any]) -> str:
    """Return a template of a page with its values."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATE, encoding="utf-8"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"written": written, "explained": explained}
    return templates.get_template(template).render(values)


def _pages(study: Study) -> Iterator[tuple[Study, Path, Path]]:
    """Yield every page: the study, an executed notebook, and where its page goes."""
    for run in study.all_runs:
        for step in ("1_train", "2_evaluate"):
            page = paths.run_page_file(study.reports, run.name, step)
            yield study, paths.notebook_file(study.run_folder(run), step), page
    for notebook in paths.study_notebooks(study.folder):
        yield study, notebook, paths.page_file(study.reports, notebook.stem)


def _render(study: Study, notebook: Path, page: Path) -> None:
    crumbs = [notebook.stem[2:]] if notebook.parent == study.folder else [notebook.parent.name, notebook.stem[2:]]
    render_page(notebook, study, page, crumbs)


if __name__ == "__main__":
    print(render_study(load_study(sys.argv[1])))
