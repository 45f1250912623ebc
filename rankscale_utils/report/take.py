"""What readers take from a study's first page: its tables as downloads, how to cite it, how to repeat it."""

from html import escape
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd
import yaml

from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

FILES = (paths.forecasts_file, paths.rungs_on_tests_file, paths.baselines_file, paths.seals_file,
         *(paths.ALLOCATION_FILES[name] for name in ("exponents", "within_budget", "next_runs")))  # fmt: skip
SAFE = " ,:;/?@=+$!*'()[]{}|^`"  # what an address of data within double quotes may hold as it is
WORKS = {  # of which pages speak
    "Scaling laws for cross-encoder reranking (P0)": "2603.04816",
    "Scaling laws for dense retrieval": "2403.18684",
    "ED2LM": "2204.11458",
    "Chinchilla: compute-optimal training": "2203.15556",
}


class Download(NamedTuple):
    """A file that a page holds or leads to: its name, kilobytes, and the address from which a browser saves it."""

    name: str
    kilobytes: float
    address: str


def downloads(study: Study) -> list[Download]:
    """Return the tables of a study that have rows, and its YAML, each within the page."""
    found = [file(study.folder) for file in FILES]
    found = [path for path in found if path.is_file() and path.stat().st_size > 1]
    return [_download(path.name, path.read_bytes(), "text/csv") for path in found] + [
        _download(study.source.name, study.source.read_bytes(), "text/yaml")
    ]


def evidence(study: Study) -> Download | None:
    """Return the zip beside the page that holds all of a study's evidence, where it was packed."""
    file = paths.zip_file(study.reports)
    return Download(file.name, file.stat().st_size / 1000, file.name) if file.is_file() else None


def _download(name: str, content: bytes, kind: str) -> Download:
    return Download(name, len(content) / 1000, f"data:{kind};charset=utf-8,{quote(content, SAFE)}")


def citation(study: Study, scored: pd.DataFrame) -> str:
    """Return BibTeX of the package, as CITATION.cff has it, with the study, its date and its seal."""
    cited = _cited()
    sealed = scored.iloc[0] if len(scored) else {"sealed_at": "", "sealed_sha256": ""}
    seal = f", sealed {sealed['sealed_at']}, SHA-256 {sealed['sealed_sha256']}" if sealed["sealed_sha256"] else ""
    year = f"\n  year = {{{sealed['sealed_at'][:4]}}}," if sealed["sealed_at"][:4].isdigit() else ""
    return (
        f"@misc{{rankscale-{study.name},\n  author = {{{cited['authors']}}},\n"
        f"  title = {{{study.title or study.name}}},{year}\n"
        f"  note = {{Study {study.name}{seal}. Made with {cited['title']}, version {cited['version']}}}\n}}"
    )


def _cited() -> dict[str, str]:
    """Return authors, title and version as CITATION.cff states them; outside a checkout, as the package does."""
    file = paths.shipped_folder() / "CITATION.cff"
    stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    authors = " and ".join(author.get("name") or author["family-names"] for author in stated["authors"])
    return {"authors": f"{{{authors}}}", "title": stated["title"], "version": version("rankscale")}


def works() -> str:
    """Return links to the works that pages speak of, as HTML."""
    links = (
        f'<a href="https://arxiv.org/abs/{number}">{escape(title)}, arXiv {number}</a>'
        for title, number in WORKS.items()
    )
    return "; ".join(links)
