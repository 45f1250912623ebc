"""Where a study's collections come from: one class for every form that a study may write."""

from pathlib import Path
from typing import Literal

from rankscale_utils.collections import docstrings, pairs_file
from rankscale_utils.collections.ir_dataset import IrDataset
from rankscale_utils.collections.own_documents import OwnFiles
from rankscale_utils.collections.prepared import Tables
from rankscale_utils.collections.source import Source
from rankscale_utils.files import cached_folder, digest
from rankscale_utils.parts import CollectionForm, IrDatasets, PairsFile, TrecFiles
from rankscale_utils.study import Study, StudyError, cache_folder


def open_source(study: Study, form: CollectionForm, split: Literal["train", "test"]) -> Source:
    """Return the source of a collection as a study writes it; `split` matters to those that are split by us.

    Raises:
        StudyError: the docstrings' packages are not installed, or a file of pairs cannot be used.
    """
    if isinstance(form, PairsFile):
        path = study.beside(form.pairs)
        folder = cache_folder() / f"pairs-{digest(path, Path(pairs_file.__file__), length=16)}"
        cached_folder(folder, lambda inside: pairs_file.build(inside, path))
        return Tables(f"{path.name.partition('.')[0]}/{split}", folder, split)
    if form == "docstrings":
        packages = docstrings.chosen_packages(study.docstrings.packages)
        source = digest(packages, Path(docstrings.__file__), length=16)  # another builder makes another collection
        folder = cache_folder() / f"docstrings-{source}"
        cached_folder(folder, lambda inside: docstrings.build(inside, packages))
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
