"""Render every page of a study and, last, its index: `python -m rankscale_utils.report.render STUDY`."""

import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
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
from .page import TEMPLATE, page_of, render_page, slim_page
from .prose import written
from .runs_page import runs_page


def render_study(study: Study) -> Path:
    """Render every page of a study, as many at once as there are cores, its zip and, last, its index's; return that."""
    notebooks = paths.study_notebooks(study.folder)
    names = [run.name for run in study.all_runs]
    with ProcessPoolExecutor(cores()) as processes:
        list(processes.map(render_page, notebooks, repeat(study)))
        for step in paths.STEPS_OF_RUNS if names else ():
            of_runs = (paths.notebook_file(study.run_folder(run), step) for run in study.all_runs)
            pages = dict(zip(names, processes.map(page_of, of_runs, repeat(study)), strict=True))
            with whole_file(paths.page_file(study.reports, step)) as temporary:
                temporary.write_text(slim_page(runs_page(pages)), encoding="utf-8")
    pack_study(study)
    return render_index(study)


def render_index(study: Study) -> Path:
    """Render the first page of a study, of what its notebooks wrote; return its path."""
    index = paths.index_file(study.reports)
    with whole_file(index) as temporary:
        temporary.write_text(slim_page(filled("index.html.j2", index_page(study))), encoding="utf-8")
    return index


def filled(template: str, values: dict[str, Any]) -> str:
    """Return a template of a page with its values."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATE, encoding="utf-8"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"written": written, "explained": explained}
    return templates.get_template(template).render(values)


if __name__ == "__main__":
    print(render_study(load_study(sys.argv[1])))
