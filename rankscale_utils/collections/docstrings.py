"""The collection `docstrings`: real text that every installation already has.

A query is the summary sentence of a docstring in the standard library or in an installed package that the lock
names; the document is the rest of that docstring; the pair is relevant. Sources are parsed, never imported.
"""

import ast
import gc
import inspect
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.device import cores
from rankscale_utils.machine.files import digest, write_json
from rankscale_utils.study import paths

from .splits import split_of

LOCK = paths.shipped_folder() / "requirements.lock"
STANDARD = "python"  # the standard library, beside the packages
QUERY_WORDS = (4, 40)
DOCUMENT_WORDS = (12, 400)


def locked_packages(lock: Path = LOCK) -> dict[str, str]:
    """Return the versions of Python, whose standard library counts as a package, and of all that the lock names."""
    named = {
        re.split(r"[=;\s\[]", line, maxsplit=1)[0]
        for line in lock.read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    versions = {STANDARD: sys.version.split()[0]}
    for name in sorted(named, key=str.lower):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # the lock also names packages of other platforms
    return versions


def chosen_packages(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of the packages of these names, of all where there are none.

    Raises:
        StudyError: a package is not among them.
    """
    versions = locked_packages()
    unknown = [name for name in names if name not in versions]
    if unknown:
        raise StudyError(f"docstrings.packages names {unknown}, not installed here: choose from {', '.join(versions)}.")
    return {name: version for name, version in versions.items() if not names or name in names}


def source_files(packages: Iterable[str]) -> list[tuple[str, Path]]:
    """Return (module file as shown to people, path) of every Python source, tests left out, in a stable order."""
    found = {}
    for name in packages:
        if name == STANDARD:
            found |= _standard_library()
            continue
        for file in metadata.distribution(name).files or []:
            if file.suffix == ".py":
                found[f"{name}:{file.as_posix()}"] = Path(str(file.locate()))
    is_test = re.compile(r"(^|[/:_])(tests?|testing|idlelib|lib2to3)([/_.]|$)")
    return sorted((module, path) for module, path in found.items() if not is_test.search(module))


def _standard_library() -> dict[str, Path]:
    folder = Path(sysconfig.get_path("stdlib"))
    inside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    elsewhere = ("site-packages/", "dist-packages/")
    return {f"{STANDARD}:{name}": path for name, path in inside.items() if not name.startswith(elsewhere)}


def split_docstring(text: str) -> tuple[str, str]:
    """Return (summary sentence, rest) of a docstring; the rest is empty when there is only a summary."""
    paragraph, _, rest = inspect.cleandoc(text).partition("\n\n")
    paragraph = " ".join(paragraph.split())
    sentence = re.match(r"(.+?(?<!e\.g)(?<!i\.e)(?<!etc)[.!?])\s+(?=[A-Z`:\[(])", paragraph)
    if sentence:
        paragraph, rest = sentence[1], paragraph[sentence.end() :] + "\n\n" + rest
    return paragraph.rstrip(".: "), " ".join(rest.split())


def file_docstrings(path: Path) -> list[str] | None:
    """Return the docstrings of a source file: its module's, its classes' and its functions'; None of what is none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return None  # templates and deliberately broken samples ship beside real modules
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    holding = (node for node in _statements(tree) if isinstance(node, holders))
    return [text for node in holding if (text := ast.get_docstring(node, False))]


def _statements(tree: ast.Module) -> list[ast.AST]:
    """Return a module and all that its blocks hold, level by level; expressions define nothing, and are most nodes."""
    found: list[ast.AST] = [tree]
    for node in found:
        for block in ("body", "handlers", "orelse", "finalbody", "cases"):
            inside = getattr(node, block, None)
            if isinstance(inside, list):  # a lambda's body is an expression
                found += inside
    return found


def is_worthwhile(query: str, document: str) -> bool:
    """Whether a pair says enough to be searched for: long enough, mostly words, not the query said again."""
    query_words, document_words = query.split(), document.split()
    return (
        QUERY_WORDS[0] <= len(query_words) <= QUERY_WORDS[1]
        and len(document_words) >= DOCUMENT_WORDS[0]
        and len(re.findall(r"[A-Za-z]{2,}", document)) >= DOCUMENT_WORDS[0]
        and not re.match(r"[\w.]+\(", query)  # a signature, not a sentence
        and query.lower() not in document.lower()
    )


def _pairs_of(source: tuple[str, Path]) -> tuple[list[tuple[str, str, str]], Counter[str]]:
    """Return module, query and document of a source file's pairs, and counts of what was passed over or cut."""
    module, path = source
    texts = file_docstrings(path)
    every = [split_docstring(text) for text in texts or ()]
    kept = [(query, document) for query, document in every if is_worthwhile(query, document)]
    cut = [" ".join(document.split()[: DOCUMENT_WORDS[1]]) for _, document in kept]
    counts = Counter(
        source_files_unread=texts is None,
        docstrings_unfit=len(every) - len(kept),
        docstrings_cut=sum(document != short for (_, document), short in zip(kept, cut, strict=True)),
    )
    return [(module, query, short) for (query, _), short in zip(kept, cut, strict=True)], counts


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]+", " ", text.lower()).strip()


def _unseen(pairs: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Drop a pair whose query or document was there before, letters alone compared."""
    queries, documents = set(), set()
    for module, query, document in pairs:
        q, d = _letters(query), _letters(document)
        if q not in queries and d not in documents:
            queries.add(q)
            documents.add(d)
            yield module, query, document


def build_docstrings(folder: Path, packages: dict[str, str]) -> None:
    """Write the collection of these packages into `folder`: queries, documents, judgments, and a manifest.

    packages: versions by name, `python` being the standard library. The manifest records them, the counts, and the
    SHA-256 of the pairs.
    """
    # Freezing spares each garbage collection, of which parsing starts many, a look at everything imported.
    with ProcessPoolExecutor(cores(), initializer=gc.freeze) as pool:
        read = list(pool.map(_pairs_of, source_files(packages), chunksize=64))
    found = [pair for pairs, _ in read for pair in pairs]
    counts = sum((counts for _, counts in read), Counter())
    pairs = pd.DataFrame(list(_unseen(iter(found))), columns=["module", "query", "document"])
    pairs["split"] = pairs["module"].map(split_of)
    query_ids = [f"q{number}" for number in range(len(pairs))]
    document_ids = [f"d{number}" for number in range(len(pairs))]
    manifest = {
        "collection": "docstrings",
        "packages": packages,
        "pairs": len(pairs),
        "queries_set_apart": int((pairs["split"] == "dev").sum()),
        "docstrings_repeated": len(found) - len(pairs),
        **counts,
        "pairs_by_split": pairs["split"].value_counts().to_dict(),
        "mean_query_words": round(float(pairs["query"].str.split().str.len().mean()), 1),
        "mean_document_words": round(float(pairs["document"].str.split().str.len().mean()), 1),
        "sha256": digest(pairs.to_csv(index=False)),
    }
    source = pairs[["split", "module"]]
    queries = source.assign(query_id=query_ids, text=pairs["query"])
    documents = source.assign(document_id=document_ids, text=pairs["document"])
    judgments = pd.DataFrame({"query_id": query_ids, "document_id": document_ids, "relevance": 1})
    queries.to_parquet(folder / "queries.parquet")
    documents.to_parquet(folder / "documents.parquet")
    judgments.to_parquet(folder / "judgments.parquet")
    write_json(folder / "manifest.json", manifest)
