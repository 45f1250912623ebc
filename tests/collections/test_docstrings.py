import ast
import re
import sys
from importlib import metadata
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.collections import docstrings
from rankscale_utils.collections.docstrings import (
    build_docstrings,
    chosen_packages,
    file_docstrings,
    is_worthwhile,
    locked_packages,
    source_files,
    split_docstring,
)
from rankscale_utils.collections.sources import open_source
from rankscale_utils.collections.splits import SPLITS, split_of
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import digest, read_json

LONG = "Words that say nothing in particular, written here so that the document is long enough to be kept."
MODULE = f'''"""Return what nobody asked for today.

{LONG}
"""
from pathlib import Path
Path(__file__).with_name("imported").write_text("executed")
raise SystemExit("this source was executed")


class Shelf:
    """Hold the books of one reader.

    {LONG} Of a class.
    """

    async def lend(self):
        """Give one book away for ever. {LONG} Of a method.
        """
'''


def letters(texts):
    return {re.sub(r"[^a-z]+", " ", text.lower()).strip() for text in texts}


DEEP = '''"""top"""
try:
    def a(): "in try"
except ValueError:
    async def b(): "in except"
else:
    def c(): "in else"
finally:
    def d(): "in finally"
match 1:
    case 1:
        def e(): "in case"
with open("x"):
    class F:
        "in with"
        def g(self):
            "in class"
            if True:
                def h(): "inner"
fine = lambda: "no docstring"
def late(): "late"
'''


@pytest.fixture
def collection(tiny_study):
    """Return the docstrings as they were built."""
    folder = open_source(tiny_study, "docstrings", "train").folder
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("queries", "documents", "judgments")}
    readers = {name: table.copy for name, table in tables.items()}
    return SimpleNamespace(texts=folder, manifest=read_json(folder / "manifest.json"), **readers)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Build a collection of the sources given as module: text, and return its folder."""

    def build(sources, name="built"):
        folder = tmp_path / name
        folder.mkdir()
        files = []
        for number, (module, text) in enumerate(sources.items()):
            path = tmp_path / f"{name}-{number}.py"
            path.write_text(text)
            files.append((module, path))
        monkeypatch.setattr(docstrings, "source_files", lambda packages: files)
        build_docstrings(folder, {"made-up": "1.0"})
        return folder

    return build


def source_of(number, query="Count the apples of basket {}", document=LONG + " Basket {}."):
    name = "".join("abcdefghij"[int(digit)] for digit in str(number))
    return f'"""{query.format(name)}.\n\n{document.format(name)}\n"""\n'


def test_all_docstrings_of_a_source_are_found_however_deep(tmp_path):
    (tmp_path / "deep.py").write_text(DEEP)
    places = ("try", "except", "else", "finally", "case", "with", "class")
    assert set(file_docstrings(tmp_path / "deep.py")) == {
        "top",
        "late",
        "inner",
        *(f"in {one}" for one in places),
    }


@pytest.mark.parametrize("module", [ast, re, docstrings])
def test_docstrings_are_those_of_a_walk_over_the_whole_tree(module):
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    source = Path(module.__file__)
    nodes = [node for node in ast.walk(ast.parse(source.read_bytes())) if isinstance(node, holders)]
    assert file_docstrings(source) == [text for node in nodes if (text := ast.get_docstring(node, False))]


def test_no_module_straddles_splits(collection):
    for table in (collection.queries(), collection.documents()):
        assert table.groupby("module")["split"].nunique().max() == 1
        assert set(table["split"]) == {"train", "dev", "test"}
        assert table["module"].nunique() > 100


@pytest.mark.parametrize("kind", ["queries", "documents"])
def test_no_text_is_shared_between_splits(collection, kind):
    table = getattr(collection, kind)()
    by_split = {split: letters(rows["text"]) for split, rows in table.groupby("split")}
    for one, other in combinations(by_split, 2):
        assert not by_split[one] & by_split[other]
    assert sum(map(len, by_split.values())) == len(table)  # nor twice within a split


def test_every_query_has_one_relevant_document_of_its_own_split_and_module(collection):
    judged = collection.judgments().merge(collection.queries(), on="query_id")
    judged = judged.merge(collection.documents(), on="document_id", suffixes=("", "_document"))
    assert len(judged) == len(collection.queries()) == len(collection.documents()) == collection.manifest["pairs"]
    assert judged["query_id"].is_unique
    assert judged["document_id"].is_unique
    assert (judged["split"] == judged["split_document"]).all()
    assert (judged["module"] == judged["module_document"]).all()
    assert (judged["relevance"] == 1).all()


def test_splits_are_near_their_shares():
    splits = pd.Series([split_of(f"package:module{number}.py") for number in range(5000)])
    shares = splits.value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(SPLITS, abs=0.02)


def test_sources_are_parsed_and_never_executed(built, tmp_path):
    folder = built({"made-up:side_effect.py": MODULE, "made-up:broken.py": "def (:", "made-up:null.py": "\0"})
    assert not (tmp_path / "imported").exists()
    queries = pd.read_parquet(folder / "queries.parquet")["text"].tolist()
    documents = pd.read_parquet(folder / "documents.parquet")["text"].tolist()
    assert queries == [
        "Return what nobody asked for today",
        "Hold the books of one reader",
        "Give one book away for ever",
    ]
    assert documents == [LONG, f"{LONG} Of a class.", f"{LONG} Of a method."]


def test_no_locked_package_is_imported_by_building(built):
    before = set(sys.modules)
    built({"made-up:one.py": "import this\n" + source_of(1)})
    assert "this" not in set(sys.modules) - before


def test_the_hash_follows_the_content(built):
    sources = {f"made-up:{number}.py": source_of(number) for number in range(12)}
    first, again = (read_json(built(sources, name) / "manifest.json") for name in ("first", "again"))
    assert first == again
    assert first["pairs"] == 12
    changed = read_json(built(sources | {"made-up:3.py": source_of(99)}, "changed") / "manifest.json")
    moved = read_json(built({f"moved-{name}": text for name, text in sources.items()}, "moved") / "manifest.json")
    assert len({first["sha256"], changed["sha256"], moved["sha256"]}) == 3


def test_a_rebuilt_collection_is_the_same_to_the_byte(collection, tmp_path):
    (tmp_path / "again").mkdir()
    build_docstrings(tmp_path / "again", collection.manifest["packages"])
    names = {path.name for path in collection.texts.iterdir()}
    assert names == {"queries.parquet", "documents.parquet", "judgments.parquet", "manifest.json"}
    assert digest(*(collection.texts / name for name in sorted(names))) == digest(
        *(tmp_path / "again" / name for name in sorted(names))
    )


def test_the_manifest_says_what_the_collection_is_made_of(collection, tiny_study):
    manifest = collection.manifest
    assert manifest["packages"] == {name: metadata.version(name) for name in tiny_study.docstrings.packages}
    assert {module.split(":")[0] for module in collection.queries()["module"]} == set(manifest["packages"])
    assert sum(manifest["pairs_by_split"].values()) == manifest["pairs"]
    assert manifest["mean_query_words"] == pytest.approx(
        collection.queries()["text"].str.split().str.len().mean(), abs=0.05
    )
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["sha256"])


def test_pairs_seen_before_are_dropped_whatever_their_punctuation(built):
    twin = source_of(1).replace("Count the apples", "COUNT -- the apples,")
    other_query = source_of(1, query="Weigh every pear of the garden {}")
    other_document = source_of(1, document="Other words about other things, and about all that may follow them. {}.")
    fresh = source_of(2)
    folder = built({f"m:{n}": text for n, text in enumerate([source_of(1), twin, other_query, other_document, fresh])})
    assert pd.read_parquet(folder / "queries.parquet")["module"].tolist() == ["m:0", "m:4"]


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Do one thing.\n\nThen another.", ("Do one thing", "Then another.")),
        ("Do one thing. Then another.\n\nAnd more.", ("Do one thing", "Then another. And more.")),
        (
            "\n    Do one thing\n    on two lines.\n\n    Rest   of\n    it.\n",
            ("Do one thing on two lines", "Rest of it."),
        ),
        ("Take files, e.g. A or B. Then go.", ("Take files, e.g. A or B", "Then go.")),
        ("Use version 1.2 of it.", ("Use version 1.2 of it", "")),
        ("Say so:\n\n    example", ("Say so", "example")),
        ("Only a summary", ("Only a summary", "")),
    ],
)
def test_the_summary_sentence_is_told_from_the_rest(text, pair):
    assert split_docstring(text) == pair


@pytest.mark.parametrize(
    ("query", "document", "kept"),
    [
        ("Count the apples here", LONG, True),
        ("Count apples here", LONG, False),
        ("word " * 41, LONG, False),
        ("Count the apples here", "Eleven words are not quite enough to be a document here", False),
        ("Count the apples here", "1 2 3 4 5 6 7 8 9 10 11 12 13 words", False),
        ("count(apples, pears=None) -> the number", LONG, False),
        ("words that say nothing", LONG, False),
    ],
    ids=["good", "short query", "long query", "short document", "numbers", "signature", "said again"],
)
def test_trivial_pairs_are_dropped(query, document, kept):
    assert is_worthwhile(query, document) == kept


def test_long_documents_are_cut(built):
    folder = built({"m:0": source_of(1, document="{} " + "many words " * 400)})
    assert pd.read_parquet(folder / "documents.parquet")["text"].str.split().str.len().tolist() == [400]


def test_the_lock_names_the_packages_and_the_environment_their_versions(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# comment\nnumpy==0.0.1\nPyYAML==1 ; python_version > '3'\nno-such-package==1.0\n")
    installed = locked_packages(lock)
    assert installed == {
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "PyYAML": metadata.version("PyYAML"),
    }


def test_packages_are_chosen_by_name_or_all_of_the_lock():
    everything = chosen_packages(())
    assert everything == locked_packages()
    assert chosen_packages(("tornado", "python")) == {
        name: everything[name] for name in everything if name in ("python", "tornado")
    }
    with pytest.raises(StudyError, match=r"docstrings\.packages names \['tornadoo'\], not installed here: choose from"):
        chosen_packages(("tornado", "tornadoo"))


def test_sources_are_those_of_the_packages_and_of_python_without_tests():
    found = source_files(("python", "numpy"))
    modules = [module for module, _ in found]
    assert modules == sorted(modules)
    assert {module.split(":")[0] for module in modules} == {"numpy", "python"}
    assert "python:ast.py" in modules
    assert "numpy:numpy/linalg/_linalg.py" in modules
    assert not [module for module in modules if "/tests/" in module or "site-packages" in module]
    assert dict(found)["python:ast.py"].read_bytes() == Path(ast.__file__).read_bytes()
