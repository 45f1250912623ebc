"""Publish a study: render every page and, last, its index: `python -m rankscale_utils.publish STUDY`."""

import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from rankscale_utils.files import whole_file
from rankscale_utils.index import index_page
from rankscale_utils.report import TEMPLATE, render
from rankscale_utils.study import Study, load_study


def render_study(study: Study) -> Path:
    """Render every page of a study and, last, its index; return the index's path."""
    for run in study.all_runs:
        for step in ("1_train", "2_evaluate"):
            notebook = study.run_folder(run) / f"{step}.ipynb"
            render(notebook, study, study.reports / "runs" / f"{run.name}-{step[2:]}.html", [run.name, step[2:]])
    for notebook in sorted(study.folder.glob("[3-8]_*.ipynb")):
        render(notebook, study, study.reports / f"{notebook.stem[2:]}.html", [notebook.stem[2:]])
    templates = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    index = study.reports / "index.html"
    with whole_file(index) as temporary:
        temporary.write_text(templates.get_template("index.html.j2").render(index_page(study)))
    return index


if __name__ == "__main__":
    print(render_study(load_study(sys.argv[1])))
