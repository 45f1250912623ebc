"""What a stage wrote, as SHA-256 of every file, so that damage is seen whatever a file holds.

A stage takes its note away before it begins and leaves a new one when it has ended well: a note is never about files
that are older or younger than it.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rankscale_utils.errors import Damaged
from rankscale_utils.machine.files import digest, read_json, write_json
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths


def forget(study: Path, stage: str) -> None:
    """Take away what was noted of a stage."""
    paths.written_file(study, stage).unlink(missing_ok=True)


def note(study: Path, stage: str, results: Iterable[Path], beside: Iterable[str]) -> None:
    """Note what a stage wrote: its results, and the files beside the first one that these patterns match."""
    results = [Path(file) for file in results]
    if not results:
        return
    further = {file for pattern in beside for file in results[0].parent.glob(pattern) if file not in results}
    noted = {os.path.relpath(file, study): content(file) for file in [*results, *sorted(further)]}
    write_json(paths.written_file(study, stage), noted)


def damaged(study: Path) -> Iterator[tuple[Path, Path]]:
    """Yield every file that is gone or not what was written, and the first result of its stage."""
    for file in sorted(paths.written_file(study, "x").parent.glob("*.json")):
        try:
            noted = {Path(os.path.normpath(study / name)): wanted for name, wanted in read_json(file).items()}
        except (Damaged, AttributeError):
            say(f"{file} is damaged and taken away: the files that it told of are taken as they are")
            file.unlink()
            continue
        for name, wanted in noted.items():
            if not name.is_file() or content(name) != wanted:
                yield name, next(iter(noted))


def content(file: Path) -> str:
    """Return the SHA-256 of a file; of a notebook only what its cells say and show, as JupyterLab saves it anew."""
    if file.suffix == ".ipynb":
        try:
            return digest(
                [[_joined(cell["source"]), _joined(cell.get("outputs"))] for cell in read_json(file)["cells"]]
            )
        except (Damaged, KeyError, TypeError):
            return digest(file)
    return digest(file)


def _joined(part: Any) -> Any:
    """Return a part of a notebook, each text that is written as lines in one piece."""
    if isinstance(part, dict):
        return {name: _joined(value) for name, value in part.items()}
    if isinstance(part, list):
        return "".join(part) if part and all(isinstance(line, str) for line in part) else [_joined(of) for of in part]
    return part
