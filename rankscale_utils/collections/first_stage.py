"""BM25, the first stage: it supplies the candidates that are reranked and the hard negatives of training."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import bm25s
import numpy as np
import pandas as pd

from rankscale_utils.parts import FirstStage

CHUNK = 1000  # queries that a worker answers at a time


def search(settings: FirstStage, documents: pd.DataFrame, queries: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Return the `depth` best documents of each query: columns query_id, document_id, rank (from 1), score.

    documents: document_id, text. queries: query_id, text. Scoring is bm25s's `lucene` variant, English stop words
    removed, no stemming. Equal scores keep the documents' order.
    """
    retriever = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
    retriever.index(_words(documents["text"]), show_progress=False)
    depth = min(depth, len(documents))
    texts = np.array_split(queries["text"].to_numpy(object), max(1, len(queries) // CHUNK))
    with ProcessPoolExecutor(os.cpu_count(), initializer=_hold, initargs=(retriever,)) as pool:
        rows, scores = (np.concatenate(parts) for parts in zip(*pool.map(partial(_best, depth), texts), strict=True))
    found = pd.DataFrame(
        {
            "query_id": queries["query_id"].to_numpy().repeat(depth),
            "document_id": documents["document_id"].to_numpy()[rows.ravel()],
            "score": scores.ravel(),
        }
    )
    found.insert(2, "rank", found.groupby("query_id", sort=False).cumcount() + 1)
    return found


def _hold(retriever: bm25s.BM25) -> None:
    """Keep the index in a worker process, so that it travels once and not with every chunk."""
    global _index
    _index = retriever


def _best(depth: int, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores of the best documents, each (texts, depth)."""
    found = [_top(_index.get_scores(words), depth) for words in _words(texts)]
    return tuple(np.stack(parts) for parts in zip(*found, strict=True))


def _top(scores: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and values of the largest scores (documents,), equal ones in the order of their rows."""
    lowest = np.partition(scores, -depth)[-depth]
    rows = np.flatnonzero(scores >= lowest)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:depth]
    return rows, scores[rows]


def _words(texts: pd.Series | np.ndarray) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
