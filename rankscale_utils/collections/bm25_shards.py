"""BM25 over many documents: bm25s's own scores, in shards on disk of which a query reads only its words' postings.

A shard holds the postings of so many documents, sorted by word: `words` (words there,), `starts` (words + 1,), and for
each posting the document's row in the shard (`rows`) and its score (`scores`).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.study.evaluation import FirstStage

from .batching import pieces
from .words import refuse_wordless, words_of

SHARD = 500_000  # documents
PIECE = 50_000  # documents that are split into words at once
IDS = "ids.txt"  # the documents', a line each
PARTS = ("words", "starts", "rows", "scores")


def build_shards(folder: Path, settings: FirstStage, documents: Iterable[tuple[str, str]]) -> None:
    """Write the index of documents (id, text) into `folder`; one shard at a time is in memory."""
    numbers: dict[str, int] = {}
    lengths, documents_with = [], np.zeros(0, np.int64)
    documents = iter(documents)
    with open(folder / IDS, "w", encoding="utf-8", newline="\n") as ids:
        while (counted := _count(settings, islice(documents, SHARD), numbers, ids.writelines)) is not None:
            shard, words = len(lengths), counted["words"]
            lengths.append(counted.pop("lengths"))
            documents_with = np.pad(documents_with, (0, len(numbers) - len(documents_with)))
            documents_with[words] += np.diff(counted["starts"])
            for name, array in counted.items():
                np.save(folder / f"{shard}-{name}.npy", array)
    refuse_wordless(numbers, settings)
    pd.DataFrame({"word": list(numbers)}).to_parquet(folder / "words.parquet")
    total = sum(map(len, lengths))
    rarity = np.log(1 + (total - documents_with + 0.5) / (documents_with + 0.5)).astype(np.float32)
    mean_length = np.concatenate(lengths).mean()
    for shard, in_shard in enumerate(lengths):
        _weigh(folder, shard, settings, in_shard / mean_length, rarity)


def _count(
    settings: FirstStage, documents: Iterator[tuple[str, str]], numbers: dict[str, int], keep: object
) -> dict[str, np.ndarray] | None:
    """Return a shard's postings with counts in place of scores, and its documents' lengths; None without documents."""
    postings, lengths = [], []
    for piece in pieces(documents, PIECE):
        keep(f"{name}\n" for name, _ in piece)
        for words in words_of([text for _, text in piece], settings):
            found = np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)
            postings.append(found << 32 | len(lengths))
            lengths.append(len(words))
    if not lengths:
        return None
    keys, counts = np.unique(np.concatenate(postings), return_counts=True)
    words, starts = np.unique(keys >> 32, return_index=True)
    return {
        "words": words,
        "starts": np.append(starts, len(keys)),
        "rows": (keys & 0xFFFFFFFF).astype(np.int32),
        "counts": counts.astype(np.float32),
        "lengths": np.array(lengths),
    }


def _weigh(folder: Path, shard: int, settings: FirstStage, lengths: np.ndarray, rarity: np.ndarray) -> None:
    """Write a shard's scores: rarity × count / (count + k1 × (1 − b + b × length)), lengths over their mean."""
    counts, rows, words, starts = (
        np.load(folder / f"{shard}-{name}.npy") for name in ("counts", "rows", "words", "starts")
    )
    normal = settings.k1 * (1 - settings.b + settings.b * lengths)
    scores = rarity[words].repeat(np.diff(starts)) * (counts / (normal[rows] + counts))
    np.save(folder / f"{shard}-scores.npy", scores.astype(np.float32))
    (folder / f"{shard}-counts.npy").unlink()


def best_of_shards(
    folder: Path, settings: FirstStage, count: int, depth: int, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores of the best of `count` documents, each (texts, depth)."""
    known = pd.Index(pd.read_parquet(folder / "words.parquet")["word"])
    asked = [numbers[numbers >= 0] for numbers in map(known.get_indexer, words_of(texts, settings))]
    rows = [np.empty(0, int)] * len(texts)
    scores = [np.empty(0, np.float32)] * len(texts)
    totals = np.zeros(min(SHARD, count), np.float32)
    for shard, first in enumerate(range(0, count, SHARD)):
        postings = [np.load(folder / f"{shard}-{name}.npy", mmap_mode="r") for name in PARTS]
        size = min(SHARD, count - first)
        for place, words in enumerate(asked):
            more = _best_of_shard(*postings, words, totals, min(depth, size))
            row, score = (np.append(*both) for both in zip((rows[place], scores[place]), more, strict=True))
            row[len(rows[place]) :] += first
            kept = np.argsort(-score, kind="stable")[:depth]
            rows[place], scores[place] = row[kept], score[kept]
    return np.stack(rows), np.stack(scores)


def _best_of_shard(
    words: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    scores: np.ndarray,
    asked: np.ndarray,
    totals: np.ndarray,
    depth: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the scores of a shard's best documents, both (depth,).

    Only documents that hold a word are looked at. totals: zeros, a shard's documents long, and zeros again afterwards.
    """
    places = np.searchsorted(words, asked)
    there = places < len(words)
    spans = [
        slice(starts[place], starts[place + 1])
        for place, word in zip(places[there], asked[there], strict=True)
        if words[place] == word
    ]
    for span in spans:
        totals[rows[span]] += scores[span]
    holding = np.concatenate([rows[span] for span in spans] or [np.empty(0, np.int32)])
    found = totals[holding]
    enough = depth * len(spans)  # so many hold `depth` documents, as each is there once for every word of it
    lowest = np.partition(found, -enough)[-enough] if len(found) > enough else 0
    best = np.unique(holding[found >= lowest])
    best = best[np.argsort(-totals[best], kind="stable")][:depth]
    best = np.append(
        best, np.setdiff1d(np.arange(depth), best)[: depth - len(best)]
    )  # the first of those without a word
    found = totals[best]
    totals[holding] = 0
    return best, found


def top(scores: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and values of the largest scores (documents,), equal ones in the order of their rows."""
    lowest = np.partition(scores, -depth)[-depth]
    rows = np.flatnonzero(scores >= lowest)
    rows = rows[np.argsort(-scores[rows], kind="stable")][:depth]
    return rows, scores[rows]
