"""One page of all runs, joined of a page each: what they share stands once, what is a run's own folds."""

import re
from collections.abc import Mapping
from html import escape

CELL = '<div class="cell '
OUTPUT = re.compile(r'<div class="output_wrapper">.*(?=</div>\s*$)', re.DOTALL)  # all of a cell but its own end
HEADING = re.compile(r"<h2 .*?</h2>", re.DOTALL)
FINDING = re.compile(r'<div class="finding[^>]*>(.*?)</div>', re.DOTALL)
EXECUTED = re.compile(r"<tr><th>executed</th><td>(.*?)</td></tr>")


def runs_page(pages: Mapping[str, str]) -> str:
    """Return the page of all runs; pages: HTML that was rendered from one notebook, by the run's name.

    The notebook's opening comes first, then each run's own results below its finding, then the sections whose results
    all runs share.
    """
    name, first = next(iter(pages.items()))
    before, rest = first.split("<main>")
    crumbs, _ = _cells(first)
    by_run = {run: _cells(page)[1] for run, page in pages.items()}
    opening, *sections = _sections(by_run[name])
    own = [place for place, cell in enumerate(by_run[name]) if OUTPUT.search(cell) and _differ(by_run, place)]
    reading = [section for section in sections if set(section) & set(own)]
    shared = [place for section in sections if section not in reading for place in section]
    cells = by_run[name]
    read = [HEADING.sub("", OUTPUT.sub("", cells[place])) for section in reading for place in section]
    read = "".join(sorted(read, key=lambda cell: "code_cell" in cell))  # prose, then the code of all of it
    runs = "".join(_run(run, [of_run[place] for place in own], pages[run]) for run, of_run in by_run.items())
    main = crumbs + "".join(cells[place] for place in opening)
    title = "The run" if len(pages) == 1 else f"The {len(pages)} runs"
    main += f'<h2 id="runs">{title}</h2>{read}{runs}' + "".join(cells[place] for place in shared)
    footer = rest[rest.index("<footer>") :].replace(f"<tr><th>run</th><td>{escape(name)}</td></tr>", "")
    return f"{_contents(before, main + footer)}<main>{main}{EXECUTED.sub('', footer)}"


def _cells(page: str) -> tuple[str, list[str]]:
    """Return what stands before a page's first cell, and its cells."""
    head, *cells = page.split("<main>")[1].split("<footer>")[0].split(CELL)
    return head, [CELL + cell for cell in cells]


def _sections(cells: list[str]) -> list[list[int]]:
    """Return the places of the cells of each section, the opening's first."""
    sections: list[list[int]] = [[]]
    for place, cell in enumerate(cells):
        if HEADING.search(cell):
            sections.append([])
        sections[-1].append(place)
    return sections


def _differ(by_run: Mapping[str, list[str]], place: int) -> bool:
    """Whether a cell says something of each run; one run's cells all do."""
    return len(by_run) == 1 or len({cells[place] for cells in by_run.values()}) > 1


def _run(name: str, cells: list[str], page: str) -> str:
    """Return what is a run's own: its finding, in sight, and folded below it the rest and when it was made."""
    results = [OUTPUT.search(cell)[0] for cell in cells]
    said = "".join(found[1] for result in results if (found := FINDING.search(result)))
    said = said.replace("<p>", "<span>").replace("</p>", "</span>")
    rest = "".join(result for result in results if not FINDING.search(result))
    return (
        f'<details class="fold" id="{escape(name)}"><summary><h3>{escape(name)}</h3>{said}</summary>'
        f"{rest}<p><small>Executed {EXECUTED.search(page)[1]}.</small></p></details>"
    )


def _contents(before: str, main: str) -> str:
    """Return a page's head with contents of the sections that are left."""
    heads = re.findall(r'<h2 id="(.*?)">(.*?)[<]', main)
    links = "".join(f'\n<li><a href="#{anchor}">{title}</a></li>' for anchor, title in heads)
    return re.sub(r"(<ol>).*?(</ol>)", lambda ol: f"{ol[1]}{links}\n{ol[2]}", before, flags=re.DOTALL)
