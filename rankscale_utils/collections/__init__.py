"""Queries, documents, judgments and candidates of a study, prepared once and opened from the cache."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from rankscale_utils.collections import docstrings, first_stage
from rankscale_utils.collections.groups import TrainingQueries
from rankscale_utils.collections.tokens import Pairs, Texts, train_tokenizer
from rankscale_utils.files import cached_folder, digest, read_json, write_json
from rankscale_utils.study import Study, cache_folder


@dataclass(frozen=True)
class Collection:
    """A prepared collection: its three cache folders, each named after what decided its content."""

    texts: Path
    candidates: Path
    tokens: Path
    pair_tokens: int

    @property
    def manifest(self) -> dict:
        """What the collection is made of: packages, versions, counts, content hash, and its candidates' limits."""
        return read_json(self.texts / "manifest.json") | read_json(self.candidates / "manifest.json")

    def queries(self) -> pd.DataFrame:
        """Every query: query_id, split, module, text."""
        return pd.read_parquet(self.texts / "queries.parquet")

    def documents(self) -> pd.DataFrame:
        """Every document: document_id, split, module, text."""
        return pd.read_parquet(self.texts / "documents.parquet")

    def judgments(self) -> pd.DataFrame:
        """Every judgment: query_id, document_id, relevance."""
        return pd.read_parquet(self.texts / "judgments.parquet")

    def test_candidates(self) -> pd.DataFrame:
        """BM25's candidates of the test queries: query_id, document_id, rank, score, as retrieved."""
        return pd.read_parquet(self.candidates / "test.parquet")

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the token ids."""
        return Tokenizer.from_file(str(self.tokens / "tokenizer.json"))

    def pairs(self) -> Pairs:
        """The maker of batches over the memory-mapped token ids; rows are those of `queries` and `documents`."""
        return Pairs(Texts.load(self.tokens, "queries"), Texts.load(self.tokens, "documents"), self.pair_tokens)

    def training_queries(self) -> TrainingQueries:
        """The training queries with their relevant and hard documents, as rows of the token ids."""
        arrays = np.load(self.candidates / "train.npz")
        return TrainingQueries(**{name: arrays[name] for name in arrays.files})


def open_collection(study: Study) -> Collection:
    """Return the study's collection, building what the cache lacks (half a minute at first)."""
    packages = docstrings.chosen_packages(study.docstrings.packages)
    source = digest(packages, Path(docstrings.__file__), length=16)  # another builder makes another collection
    texts = cached_folder(cache_folder() / f"docstrings-{source}", lambda folder: docstrings.build(folder, packages))
    hard_depth = study.training.groups.hard_depth
    retrieval = [source, study.first_stage.model_dump(), study.evaluation.queries, study.evaluation.depth, hard_depth]
    candidates = cached_folder(
        cache_folder() / f"candidates-{digest(retrieval, length=16)}",
        lambda folder: _build_candidates(folder, texts, study),
    )
    lengths = [source, study.text.model_dump()]
    tokens = cached_folder(
        cache_folder() / f"tokens-{digest(lengths, length=16)}", lambda folder: _build_tokens(folder, texts, study)
    )
    return Collection(texts, candidates, tokens, study.text.pair_tokens)


def _build_candidates(folder: Path, texts: Path, study: Study) -> None:
    queries = pd.read_parquet(texts / "queries.parquet")
    documents = pd.read_parquet(texts / "documents.parquet")
    judgments = pd.read_parquet(texts / "judgments.parquet")
    test = _sample(queries[queries["split"] == "test"], study.evaluation.queries)
    found = first_stage.search(study.first_stage, documents, test, study.evaluation.depth)
    found.to_parquet(folder / "test.parquet")
    np.savez(folder / "train.npz", **_training_rows(study, queries, documents, judgments))
    relevant = found.merge(judgments, on=["query_id", "document_id"])
    manifest = {
        "test_queries": len(test),
        "depth": study.evaluation.depth,
        "positives": "present or absent as retrieved",
        "candidates_with_positive": round(relevant["query_id"].nunique() / len(test), 4),
    }
    write_json(folder / "manifest.json", manifest)


def _sample(queries: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` queries, chosen by the hash of their text so that the choice never depends on order."""
    order = queries["text"].map(lambda text: digest(text, length=16)).sort_values().index[:count]
    return queries.loc[order.sort_values()].reset_index(drop=True)


def _training_rows(
    study: Study, queries: pd.DataFrame, documents: pd.DataFrame, judgments: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Return the arrays of `TrainingQueries`; negatives come from training documents alone."""
    train_queries, train_documents = (table[table["split"] == "train"] for table in (queries, documents))
    depth = study.training.groups.hard_depth
    found = first_stage.search(study.first_stage, train_documents, train_queries, depth + 1)
    row_of = pd.Series(documents.index, index=documents["document_id"])
    positive = judgments.set_index("query_id")["document_id"].reindex(train_queries["query_id"]).map(row_of).to_numpy()
    ranked = found["document_id"].map(row_of).to_numpy().reshape(len(train_queries), depth + 1)
    is_positive = ranked == positive[:, None]
    is_positive[~is_positive.any(1), -1] = True  # the relevant document was not found: drop the last rank instead
    return {
        "query_rows": train_queries.index.to_numpy(),
        "positive_rows": positive,
        "hard_rows": ranked[~is_positive].reshape(len(train_queries), depth),
        "document_rows": train_documents.index.to_numpy(),
    }


def _build_tokens(folder: Path, texts: Path, study: Study) -> None:
    queries = pd.read_parquet(texts / "queries.parquet")
    documents = pd.read_parquet(texts / "documents.parquet")
    training = [table.loc[table["split"] == "train", "text"] for table in (queries, documents)]
    tokenizer = train_tokenizer(pd.concat(training).tolist(), study.text.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    Texts.encode(tokenizer, queries["text"], study.text.query_tokens).save(folder, "queries")
    Texts.encode(tokenizer, documents["text"], study.text.pair_tokens).save(folder, "documents")
