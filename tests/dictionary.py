"""`docs/results.md` as a dictionary, and what a study wrote held against it."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from rankscale_utils.machine.files import read_json

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
HALF_WRITTEN = re.compile(r"^\..+\.[0-9a-f]{8}$")  # as the page's first lines say
SHARED = "Columns that mean the same everywhere"
HOLDS = {
    "text": lambda cells: cells.map(type).eq(str).all(),
    "number": is_numeric_dtype,
    "whole": lambda cells: is_numeric_dtype(cells) and (cells % 1 == 0).all(),
    "yes/no": lambda cells: set(cells) <= {True, False},
}


@dataclass
class Described:
    """A file: the studies that write it, and its columns with their types, and those that only some files have."""

    studies: str
    columns: dict[str, str]
    optional: set[str]


def dictionary() -> dict[str, Described]:
    """Return what the page says of every file, by its name, in which `*` stands for anything."""
    files, shared = {}, {}
    for chapter in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        studies = chapter.partition("\n")[0]
        if studies == SHARED:
            shared = _columns(chapter)[0]
        for section in re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            prose, (columns, optional) = " ".join(text.partition("\n\n|")[0].split()), _columns(text)
            if other := re.search(r"Has the columns of `([^`]+)`", prose):
                same = files.get(other[1], Described("", {}, set()))  # of a file further below: none yet
                columns, optional = same.columns | columns, same.optional | optional
            if common := re.search(r"Common: ([^.]+)\.", prose):
                columns = {name: shared[name] for name in re.findall(r"`([^`]+)`", common[1])} | columns
            files |= {name: Described(studies, columns, optional) for name in re.findall(r"`([^`]+)`", heading)}
    of_run = files["RUN/measurements.parquet"]
    files["measurements.parquet"].columns, files["measurements.parquet"].optional = of_run.columns, of_run.optional
    return files


def _columns(text: str) -> tuple[dict[str, str], set[str]]:
    """Return the columns of a table of the page with their types, and which of them not every file has."""
    columns, optional = {}, set()
    for cells in re.findall(r"^\| (`.+?) \| (.+?) \| .+ \|$", text, flags=re.MULTILINE):
        names, (kinds, _, condition) = re.findall(r"`([^`]+)`", cells[0]), cells[1].partition(" if ")
        kinds = re.split(", | and ", kinds)
        columns |= dict(zip(names, kinds if len(kinds) > 1 else kinds * len(names), strict=True))
        optional |= set(names) if condition else set()
    return columns, optional


def undescribed(folder: Path, chapters: set[str]) -> list[str]:
    """Return, a sentence each, where a study's folder is not what the page says of studies of these chapters."""
    described, found, written = dictionary(), [], set()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not HALF_WRITTEN.search(path.name)):
        name = _name(path.relative_to(folder))
        pattern = next((one for one in described if fnmatch(name, one)), None)
        if pattern is None:
            found.append(f"{name} is written but not described in docs/results.md: describe it there.")
            continue
        written.add(pattern)
        found += _wrong_columns(path, name, described[pattern])
    for name, file in described.items():
        if file.studies in chapters and name not in written:
            found.append(f"{name} is described in docs/results.md but was not written: remove it there.")
    return found


def _name(path: Path) -> str:
    """Return a file's name as the page has it: RUN for a run's folder, a checkpoint as its folder."""
    parts = ["RUN", *path.parts[1:]] if re.search(r"-s\d+$", path.parts[0]) else list(path.parts)
    checkpoint = next((part for part in parts[:-1] if part.startswith("exposure-")), None)
    return f"RUN/{checkpoint}/" if checkpoint else "/".join(parts)


def _wrong_columns(path: Path, name: str, described: Described) -> list[str]:
    table = _table(path)
    if table is None or not described.columns or not len(table.columns):
        return []
    new, missing = set(table) - set(described.columns), set(described.columns) - described.optional - set(table)
    found = [f"{name}: column {column} is written but not described: describe it." for column in sorted(new)]
    found += [f"{name}: column {column} is described but not written: remove it." for column in sorted(missing)]
    for column, kind in described.columns.items() if path.suffix != ".json" else ():
        if kind in HOLDS and column in table and len(cells := table[column].dropna()) and not HOLDS[kind](cells):
            found.append(f"{name}: column {column} is described as {kind}, but holds {cells.iloc[0]!r}: correct one.")
    return found


def _table(path: Path) -> pd.DataFrame | None:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".json":
        held = read_json(path)
        return pd.DataFrame(held if isinstance(held, list) else [held])
    if path.suffix != ".csv":
        return None
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:  # a result without rows may have no columns
        return pd.DataFrame()
