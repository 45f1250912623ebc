"""Queries, documents, judgments and candidates of a study, prepared once and opened from the cache."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import cached_folder, digest, read_json
from rankscale_utils.models.prompts import prompts_of_study
from rankscale_utils.study import paths
from rankscale_utils.study.collection import CollectionForm
from rankscale_utils.study.study import Study

from . import cuts, materialise, singles
from .groups import TrainingQueries
from .materialise import stored_texts, texts_of_rows, write_candidates
from .notes import collection_changes, collection_notes
from .retrieval import Retrieved, own_split, retrieve_test, retrieve_training
from .sources import open_source
from .tokens import Pairs, StudyTokenizer, Texts, study_tokenizer

DEV = "(dev)"  # in a test's place: queries that are neither trained nor tested


@dataclass(frozen=True)
class Collection:
    """What a study trains and tests on: its three cache folders, each named after what decided its content."""

    texts: Path
    candidates: Path
    tokens: Path
    reads: tuple[str, ...] = field(default=(cuts.TOGETHER,), kw_only=True)  # how the study's families read pairs

    def facts(self, test: str) -> dict:
        """Return what is known of a test, or of the queries `DEV`."""
        return read_json(self.candidates / "manifest.json")["tests"][test]

    @property
    def has_dev(self) -> bool:
        """Whether there are queries that are neither trained nor tested, under the name `DEV`."""
        return DEV in read_json(self.candidates / "manifest.json")["tests"]

    @property
    def manifest(self) -> dict:
        """What the collection is made of: counts, the content's hash, and under `tests` each test's own facts.

        `cut` is the share of tokens that length limits drop, by how pairs are read; `unknown` that of letters in words
        that the tokenizer does not know; `notes` are the sentences that a reader must see, and `changes` all that was
        dropped, filled in or read otherwise (what, count, where).
        """
        manifest, shares = read_json(self.candidates / "manifest.json"), read_json(self.tokens / "cuts.json")
        lost = {
            name: {"cut": {way: share[way] for way in self.reads}, "unknown": share[cuts.UNKNOWN]}
            for name, share in shares.items()
        }
        manifest |= lost[""] | {
            "tests": {name: test | lost[name] for name, test in manifest["tests"].items() if name != DEV}
        }
        return manifest | {"notes": collection_notes(manifest), "changes": collection_changes(manifest)}

    @property
    def tests(self) -> list[str]:
        """The names of the tests."""
        return list(self.manifest["tests"])

    def queries(self) -> pd.DataFrame:
        """Every query that is used: test (a test's name, empty in training), query_id, text."""
        return pd.read_parquet(self.texts / "queries.parquet")

    def documents(self) -> pd.DataFrame:
        """Every document that is used: corpus, document_id, training (whether training sees it), text."""
        return pd.read_parquet(self.texts / "documents.parquet")

    def document_ids(self) -> pd.DataFrame:
        """The documents without their texts: corpus, document_id."""
        return pd.read_parquet(self.texts / "documents.parquet", columns=["corpus", "document_id"])

    def document_texts(self, rows: Iterable[int]) -> list[str]:
        """Return the texts of documents by their rows; empty where a row is −1."""
        return texts_of_rows(self.texts / "documents.parquet", rows)

    def test_candidates(self, test: str) -> pd.DataFrame:
        """A test's candidates, see `retrieval.test`, with query_row and document_row."""
        return pd.read_parquet(self.candidates / f"{self.facts(test)['file']}.parquet")

    def test_judgments(self, test: str) -> pd.DataFrame:
        """Every judgment of a test's queries: query_id, document_id, relevance."""
        return pd.read_parquet(self.candidates / f"{self.facts(test)['file']}-judgments.parquet")

    def own_documents(self, test: str) -> list[str]:
        """A test's queries that are documents themselves, under the same id, and never their own candidates."""
        return pd.read_parquet(self.candidates / f"{self.facts(test)['file']}-own.parquet")["query_id"].tolist()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the token ids."""
        return StudyTokenizer.load(self.tokens).tokenizer

    def token_shares(self) -> np.ndarray:
        """Each token's share of all tokens of training texts, see `singles.token_shares`."""
        trained = pd.read_parquet(self.texts / "documents.parquet", columns=["training"])["training"]
        counts = int((self.queries()["test"] == "").sum()), int(trained.sum())  # training texts come first
        pairs = Collection.pairs(self)
        texts = zip((pairs.queries, pairs.documents), counts, strict=True)
        first = [Texts(some.ids[: some.starts[count]], some.starts[: count + 1]) for some, count in texts]
        return singles.token_shares(first, pairs.tokenizer)

    def pairs(self) -> Pairs:
        """The maker of batches over the memory-mapped token ids; rows are those of `queries` and `documents`."""
        texts = (Texts.load(self.tokens, name) for name in ("queries", "documents"))
        return Pairs(*texts, StudyTokenizer.load(self.tokens))

    def training_queries(self) -> TrainingQueries:
        """The training items, as rows of the token ids."""
        return TrainingQueries.load(self.candidates)


def open_collection(study: Study) -> Collection:
    """Return what a study trains and tests on, building what the cache lacks.

    Raises:
        StudyError: a collection cannot be used as the study says.
    """
    study.check_files()
    training = retrieve_training(study, open_source(study, study.collection, "train"))
    tests = {}
    for name, form in (study.evaluation.tests or {"": study.collection}).items():
        source = open_source(study, form, "test")
        tests[name or source.label] = retrieve_test(study, source, form)
    if form := dev_form(study):
        tests[DEV] = retrieve_test(study, open_source(study, form, "dev"), form, study.with_first_stage.queries)
    found = [Path(materialise.__file__), training.folder.name, {name: test.folder.name for name, test in tests.items()}]
    found += ["whole"] * (searched := "bi_encoder" in study.families)
    texts = cached_folder(
        paths.cache_folder() / f"texts-{digest(*found, length=16)}",
        lambda folder: materialise.texts(folder, training, tests, searched),
    )
    groups = study.training.groups
    candidates = cached_folder(
        paths.cache_folder() / f"candidates-{digest(*found, groups.hard, length=16)}",
        lambda folder: write_candidates(folder, texts, training, tests, groups),
    )
    lengths = [texts.name, study.text.model_dump(), study.pretrained, Path(cuts.__file__)]
    lengths += [study.decoder.prompt] if study.pretrained else []
    lengths += [prompts] if any(prompts := prompts_of_study(study)) else []
    tokens = cached_folder(
        paths.cache_folder() / f"tokens-{digest(*lengths, length=16)}",
        lambda folder: _build_tokens(folder, texts, study, training, tests),
    )
    reads = (cuts.TOGETHER if family == "cross_encoder" else cuts.APART for family in study.families)
    collection = Collection(texts, candidates, tokens, reads=tuple(dict.fromkeys(reads)))
    _check_groups(study, collection.manifest)
    return collection


def dev_form(study: Study) -> CollectionForm | None:
    """Return the collection of the queries `DEV`: the study's choice, or its own where that sets queries apart."""
    if not study.with_first_stage:
        return None
    return study.with_first_stage.dev or (study.collection if own_split(study.collection) else None)


def _check_groups(study: Study, manifest: dict) -> None:
    """Make sure that there is a whole step of items."""
    groups, few = study.training.groups, manifest["left_out"]["too_few_negatives"]
    if manifest["items"] < groups.queries_per_step:
        raise StudyError(
            f"training.groups.queries_per_step = {groups.queries_per_step}: there are only {manifest['items']} "
            f"training items, and {few} more with fewer than hard = {groups.hard} negatives: lower either, or bring "
            "more judgments or candidates."
        )


def _build_tokens(folder: Path, texts: Path, study: Study, training: Retrieved, tests: dict[str, Retrieved]) -> None:
    queries = pd.read_parquet(texts / "queries.parquet")
    documents = texts / "documents.parquet"
    learned = chain(queries.loc[queries["test"] == "", "text"], stored_texts(documents, training=True))
    tokenizer = study_tokenizer(study, learned)
    tokenizer.save(folder)
    Texts.write(folder, "queries", tokenizer, tokenizer.queries(queries["text"]), study.text.longest_query)
    Texts.write(folder, "documents", tokenizer, tokenizer.documents(stored_texts(documents)), study.text.pair_tokens)
    cuts.write_cuts(folder, texts, tokenizer, study.text, training, tests)
