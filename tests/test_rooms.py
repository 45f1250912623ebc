"""The rules between rooms: who may import whom, which rooms know no torch, and what laws may not touch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rankscale_utils"
# What a room may import, besides itself.
GROUND = {"errors", "machine", "study"}
WITH_TORCH = [*("models", "collections", "scoring", "evaluation", "training")]  # each may import those before it
BELOW = {
    "errors": set(),
    "machine": {"errors"},
    "study": {"errors", "machine"},
    "laws": {"errors", "machine"},
    "measurements": GROUND,
    **{room: GROUND | {"measurements", *WITH_TORCH[:floor]} for floor, room in enumerate(WITH_TORCH)},
    "analysis": GROUND | {"laws", "measurements"},
    "report": GROUND | {"laws", "measurements", "analysis"},
    "pipeline": GROUND | {"laws", "measurements", "analysis", "report", *WITH_TORCH},
}
BELOW["models"] -= {"measurements"}
WITHOUT_TORCH = ("laws", "measurements", "analysis", "report")
TOKENIZERS = ("pair_layout", "pretrained", "prompts")  # what collections may know of models
DISK_AND_CLOCK = {"time", "datetime", "pathlib", "io", "shutil", "tempfile"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name == "errors.py")


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of the modules that a module imports, also within its functions."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def broken_rules(room: str, names: list[str]) -> Iterator[str]:
    """Yield a sentence for every import of a room that breaks a rule."""
    for name in names:
        parts = name.split(".")
        if parts[0] == PACKAGE.name and parts[1] in BELOW and parts[1] not in {room, *BELOW[room]}:
            allowed = ", ".join(sorted(BELOW[room])) or "nothing"
            yield (
                f"imports {name}, but {room} may import {allowed} alone: move what needs {parts[1]} up into a room "
                f"that may import both, or what {room} needs of it down into {room} or a room below"
            )
        of_laws = name.startswith(f"{PACKAGE.name}.laws.") and (PACKAGE / "laws" / f"{parts[2]}.py").exists()
        if of_laws and room != "laws":
            yield f"imports {name}: laws is entered by its __init__ alone; import it from {PACKAGE.name}.laws"
        if room in WITHOUT_TORCH and parts[0] in ("torch", "transformers"):
            yield f"imports {name}, but {room} knows no torch: what needs it belongs to {', '.join(WITH_TORCH)}"
        if room == "laws" and parts[0] in DISK_AND_CLOCK:
            yield f"imports {name}, but laws touch no disk and no clock: files and times of a study belong to analysis"
        if room == "collections" and name.startswith(f"{PACKAGE.name}.models.") and parts[2] not in TOKENIZERS:
            yield f"imports {name}, but collections take {' and '.join(TOKENIZERS)} alone of models: its tokenizers"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_keep_the_rules_between_rooms(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in BELOW, f"{room} is no room of the package: a new room needs its place in BELOW and in the README"
    assert list(broken_rules(room, list(imported(path)))) == []


def test_a_wrong_import_says_which_rule_it_breaks_and_where_the_code_belongs():
    sentences = list(broken_rules("laws", ["torch.nn", "pathlib.Path", "rankscale_utils.analysis.fit"]))
    assert ["knows no torch" in sentences[0], "no disk and no clock" in sentences[1]] == [True, True]
    assert "laws may import errors, machine alone: move what needs analysis up" in sentences[2]
    assert "entered by its __init__" in next(broken_rules("report", ["rankscale_utils.laws.fitting.fit"]))
    assert list(broken_rules("report", ["rankscale_utils.laws.fit", "pandas"])) == []


def test_rooms_without_torch_load_none():
    modules = [
        f"{PACKAGE.name}.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}"
        for path in MODULES
        if path.parent.name in WITHOUT_TORCH and path.name != "__init__.py"
    ]
    code = (
        f"import importlib, sys\nfor name in {modules!r}:\n    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers'} & set(sys.modules)\n    assert not heavy, (name, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=120)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_the_root_holds_nothing_but_the_api_and_the_errors():
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == ["__init__.py", "errors.py"]


def test_modules_are_short():
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 320} == {}
