"""The public names: found by editors, imported when asked for, documented by examples that run."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rankscale_utils

FUNCTIONS = [name for name in rankscale_utils.__all__ if name.islower()]


def test_the_package_imports_nothing_heavy_and_names_what_it_has():
    heavy = "{'torch', 'pandas', 'numpy', 'scipy', 'transformers', 'pydantic'}"
    code = f"import sys, rankscale_utils as r; print(sorted({heavy} & set(sys.modules)), set(r.__all__) <= set(dir(r)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[] True\n"


def test_editors_see_every_public_name():
    (block,) = [
        node
        for node in ast.parse(Path(rankscale_utils.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert imported == rankscale_utils._ROOMS
    assert sorted(imported) == rankscale_utils.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rankscale_utils' has no attribute 'forcast'"):
        rankscale_utils.forcast  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_its_examples_run(name):
    function = getattr(rankscale_utils, name)
    assert function.__name__ == name
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(parameter.annotation is not parameter.empty for parameter in signature.parameters.values())
    (examples,) = doctest.DocTestFinder(recurse=False).find(function, name)
    assert examples.examples
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples, out=said.append)
    assert not said, "".join(said)


def test_the_code_of_the_page_runs(monkeypatch, capsys):
    checkout = Path(rankscale_utils.__file__).parents[1]
    monkeypatch.chdir(checkout)
    page, names = (checkout / "docs" / "api.md").read_text(encoding="utf-8"), {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert all(f"## `{name}(" in page for name in FUNCTIONS)
    assert "assumed to cost 6 × non-embedding parameters" in capsys.readouterr().out
    assert set(names["table"]["rung"]) == {"3b"}
    assert names["optima"].best["flops"].tolist() == [1e17, 1e18] * 2
