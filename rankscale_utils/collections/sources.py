"""Where a study's collections come from: one class for every form that a study may write."""

from pathlib import Path
from typing import Literal

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import cached_folder, digest
from rankscale_utils.study import paths
from rankscale_utils.study.collection import CollectionForm, IrDatasets, PairsFile, TrecFiles
from rankscale_utils.study.study import Study

from . import docstrings, normal_text, pair_reader, pairs_file
from .docstrings import build_docstrings, chosen_packages
from .ir_dataset import IrDataset
from .pairs_file import build_pairs
from .source import Source
from .splits import Tables
from .trec_files import OwnFiles


def open_source(study: Study, form: CollectionForm, split: Literal["train", "dev", "test"]) -> Source:
    """Return the source of a collection as a study writes it; `split` matters to those that are split by us.

    Raises:
        StudyError: the docstrings' packages are not installed, or a file of pairs cannot be used.
    """
    if isinstance(form, PairsFile):
        path = study.beside(form.pairs)
        builders = [Path(module.__file__) for module in (pairs_file, pair_reader, normal_text)]
        folder = paths.cache_folder() / f"pairs-{digest(path, form.columns.model_dump(), *builders, length=16)}"
        cached_folder(folder, lambda inside: build_pairs(inside, path, form.columns))
        return Tables(f"{path.name.partition('.')[0]}/{split}", folder, split)
    if form == "docstrings":
        packages = chosen_packages(study.docstrings.packages)
        source = digest(packages, Path(docstrings.__file__), length=16)  # another builder makes another collection
        folder = paths.cache_folder() / f"docstrings-{source}"
        cached_folder(folder, lambda inside: build_docstrings(inside, packages))
        return Tables(f"docstrings/{split}", folder, split)
    run = None if form.candidates in ("bm25", "scoreddocs") else study.beside(form.candidates)
    if isinstance(form, IrDatasets):
        return IrDataset(form, run)
    return _own_files(study, form, run)


def _own_files(study: Study, form: TrecFiles, run: Path | None) -> OwnFiles:
    if form.candidates == "scoreddocs":
        raise StudyError("candidates = 'scoreddocs': only an id of ir_datasets brings them; write bm25 or a TREC run.")
    documents, queries, judgments = map(study.beside, (form.documents, form.queries, form.judgments))
    return OwnFiles(queries.name.partition(".")[0], documents, queries, judgments, run)
