"""BM25, the first stage: it supplies the candidates that are reranked and the hard negatives of training."""

from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd

from rankscale_utils.machine.device import cores
from rankscale_utils.machine.files import cached_folder
from rankscale_utils.study.evaluation import FirstStage

from .bm25_shards import build_shards, search_shards, top
from .words import words_of

QUERIES_TOGETHER = 1000  # queries that a worker answers at a time
IN_MEMORY = 500_000  # documents; more are indexed on disk


def search_bm25(
    settings: FirstStage, documents: Iterable[tuple[str, str]], queries: pd.DataFrame, depth: int, index: Path
) -> pd.DataFrame:
    """Return the `depth` best documents of each query: columns query_id, document_id, rank (from 1), score.

    documents: (id, text), read once. queries: query_id, text. index: a cache folder for the index of documents that
    are too many for memory. Scoring is bm25s's `lucene` variant, see `bm25_settings`. Equal scores keep the
    documents' order.
    """
    documents = iter(documents)
    held = list(islice(documents, IN_MEMORY + 1))
    texts = np.array_split(queries["text"].to_numpy(object), max(1, len(queries) // QUERIES_TOGETHER))
    if len(held) <= IN_MEMORY:
        ids, rows, scores = _in_memory(settings, held, texts, depth)
    else:
        cached_folder(index, lambda folder: build_shards(folder, settings, chain(held, documents)))
        with _workers() as pool:
            ids, rows, scores = search_shards(index, settings, pool, texts, depth)
    depth = rows.shape[1]
    return pd.DataFrame(
        {
            "query_id": queries["query_id"].to_numpy().repeat(depth),
            "document_id": ids[rows.ravel()],
            "rank": np.tile(np.arange(1, depth + 1), len(queries)),
            "score": scores.ravel(),
        }
    )


def bm25_settings(settings: FirstStage) -> str:
    """Return what decides the scores, for people; Anserini's default stems English with Porter's algorithm."""
    stop_words = f"{settings.language} stop words left out" if settings.language else "no stop words left out"
    stemming = f"stemmed by PyStemmer's {settings.stemmer}" if settings.stemmer else "no stemming, unlike Anserini's"
    how = "" if settings.tokenizer == "words" else "; words of any script, character pairs where none are parted"
    return f"bm25s lucene, k1 {settings.k1}, b {settings.b}; {stop_words}; {stemming}{how}"


def _in_memory(
    settings: FirstStage, documents: list[tuple[str, str]], queries: list[np.ndarray], depth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the documents' ids, and each query's best rows and their scores, both (queries, depth)."""
    retriever = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
    retriever.index(words_of((text for _, text in documents), settings), show_progress=False)
    with _workers(initializer=_hold, initargs=(retriever, settings)) as pool:
        found = pool.map(partial(_best, min(depth, len(documents))), queries)
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.array([name for name, _ in documents], object), rows, scores


def _workers(**options: object) -> Executor:
    return ProcessPoolExecutor(cores(), **options)


def _hold(retriever: bm25s.BM25, settings: FirstStage) -> None:
    """Keep the index in a worker process, so that it travels once and not with every chunk."""
    global _index, _settings
    _index, _settings = retriever, settings


def _best(depth: int, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores of the best documents, each (texts, depth)."""
    found = [top(_scores(words), depth) for words in words_of(texts, _settings)]
    return tuple(np.stack(parts) for parts in zip(*found, strict=True))


def _scores(words: list[str]) -> np.ndarray:
    """Return every document's score; a query of stop words alone has none."""
    return _index.get_scores(words) if words else np.zeros(_index.scores["num_docs"], np.float32)
