"""BM25, the first stage: it supplies the candidates that are reranked and the hard negatives of training."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pandas as pd

from rankscale_utils.machine.device import cores
from rankscale_utils.machine.files import cached_folder, digest
from rankscale_utils.study import paths
from rankscale_utils.study.evaluation import FirstStage

from . import bm25_shards, normal_text, words
from .bm25_shards import IDS, best_of_shards, build_shards, top
from .words import refuse_wordless, words_of

QUERIES_TOGETHER = 1000  # queries that a worker answers at a time
FEW = 100_000  # documents; more are indexed in shards, which are searched and held in pieces
WHOLE = "whole"  # bm25s's own index


def search_bm25(
    settings: FirstStage, documents: Iterable[tuple[str, str]], queries: pd.DataFrame, depth: int, index: Path
) -> pd.DataFrame:
    """Return the `depth` best documents of each query: columns query_id, document_id, rank (from 1), score.

    documents: (id, text), read once and only where `index`, a cache folder, does not hold their index yet. queries:
    query_id, text. Scoring is bm25s's `lucene` variant, see `bm25_settings`. Equal scores keep the documents' order.
    """
    cached_folder(index, lambda folder: _build(folder, settings, documents))
    ids = np.array((index / IDS).read_text("utf-8").split("\n")[:-1], object)
    texts = np.array_split(queries["text"].to_numpy(object), max(1, len(queries) // QUERIES_TOGETHER))
    best = partial(
        _best if (index / WHOLE).is_dir() else best_of_shards, index, settings, len(ids), min(depth, len(ids))
    )
    with ProcessPoolExecutor(cores()) as pool:
        rows, scores = (np.concatenate(parts) for parts in zip(*pool.map(best, texts), strict=True))
    depth = rows.shape[1]
    return pd.DataFrame(
        {
            "query_id": queries["query_id"].to_numpy().repeat(depth),
            "document_id": ids[rows.ravel()],
            "rank": np.tile(np.arange(1, depth + 1), len(queries)),
            "score": scores.ravel(),
        }
    )


def index_folder(settings: FirstStage, indexed: Any) -> Path:
    """Return the cache folder of an index; `indexed` is JSON-able and decides the documents."""
    builders = [Path(__file__), *(Path(module.__file__) for module in (bm25_shards, words, normal_text))]
    return paths.cache_folder() / f"bm25-{digest(*builders, indexed, settings.model_dump(), length=16)}"


def bm25_settings(settings: FirstStage) -> str:
    """Return what decides the scores, for people; Anserini's default stems English with Porter's algorithm."""
    stop_words = f"{settings.language} stop words left out" if settings.language else "no stop words left out"
    stemming = f"stemmed by PyStemmer's {settings.stemmer}" if settings.stemmer else "no stemming, unlike Anserini's"
    how = "" if settings.tokenizer == "words" else "; words of any script, character pairs where none are parted"
    return f"bm25s lucene, k1 {settings.k1}, b {settings.b}; {stop_words}; {stemming}{how}"


def _build(folder: Path, settings: FirstStage, documents: Iterable[tuple[str, str]]) -> None:
    """Write the documents' ids and their index: bm25s's own, or shards where there are many."""
    documents = iter(documents)
    held = list(islice(documents, FEW + 1))
    if len(held) > FEW:
        build_shards(folder, settings, chain(held, documents))
        return
    (folder / IDS).write_text("".join(f"{name}\n" for name, _ in held), encoding="utf-8", newline="\n")
    numbers: dict[str, int] = {}  # in the order of the texts: bm25s's own is that of a set, other in every process
    rows = [
        [numbers.setdefault(word, len(numbers)) for word in words]
        for words in words_of((text for _, text in held), settings)
    ]
    refuse_wordless(numbers, settings)
    retriever = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
    retriever.index((rows, numbers), show_progress=False)
    retriever.save(folder / WHOLE, show_progress=False)


def _best(
    folder: Path, settings: FirstStage, count: int, depth: int, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores of the best of `count` documents, each (texts, depth)."""
    retriever = bm25s.BM25.load(folder / WHOLE, mmap=True, show_progress=False)
    nothing = np.zeros(count, np.float32)  # of a query of stop words alone
    found = [top(retriever.get_scores(words) if words else nothing, depth) for words in words_of(texts, settings)]
    return tuple(np.stack(parts) for parts in zip(*found, strict=True))
