"""Exact inner-product search over a matrix of document embeddings that need not fit in memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LARGEST_ROW = 2**32 - 1  # rows share 64 bits with their scores
FEWEST_DOCUMENTS = 1024  # in a block while there are queries to split instead: smaller products waste the processor


class NotFinite(ValueError):
    """An embedding holds NaN or infinity."""


def search_exactly(
    queries: NDArray, documents: NDArray, depth: int, memory: int = 256 * 2**20
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows and the scores of the `depth` best documents of every query, each (queries, depth), best first.

    queries: (queries, dimensions); documents: (documents, dimensions), such as a memory-mapped .npy file of any
    floating type. Documents are read in blocks, and scores are kept of one block at a time: beside the queries and
    what is returned the search holds no more than `memory` bytes; pages of a mapped file, which the system may drop,
    are not counted. Equal scores keep the documents' order. A depth beyond the collection is the whole collection.

    Raises:
        NotFinite: an embedding is not finite.
        ValueError: the dimensions differ, the depth is not positive, or `memory` does not hold one query's scores of
            one document.
    """
    if queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions and documents {documents.shape[1]}; "
            "encode both with one projection"
        )
    if depth < 1 or len(documents) > LARGEST_ROW:
        raise ValueError(f"depth is {depth} of {len(documents)} documents; give a positive depth, below 2^32 documents")
    depth = min(depth, len(documents))
    queries = np.asarray(queries, np.float32)
    at_once, block = block_sizes(len(queries), len(documents), queries.shape[1], depth, memory)
    rows, scores = np.empty((len(queries), depth), np.int64), np.empty((len(queries), depth), np.float32)
    for some in _blocks(len(queries), at_once):
        keys = _best(queries[some], documents, depth, block)
        rows[some], scores[some] = _rows(keys), _scores(keys)
    return rows, scores


def block_sizes(queries: int, documents: int, dimensions: int, depth: int, memory: int) -> tuple[int, int]:
    """Return how many queries and how many documents are multiplied at once within so many bytes.

    A query and a document have a score in 4 bytes and a key in 8, and joining and sorting copy the keys; a document's
    embedding has 4 bytes a dimension; a query keeps `depth` keys, which are copied with the new ones.
    """
    per_score, per_document, per_query = 4 + 3 * 8, 4 * dimensions, 4 * 8 * depth
    documents = max(documents, 1)
    some = min(documents, FEWEST_DOCUMENTS)
    at_once = max(1, min(queries, (memory - some * per_document) // (some * per_score + per_query)))
    block = min(documents, (memory - at_once * per_query) // (per_document + at_once * per_score))
    if block < 1:
        least = per_document + per_score + per_query
        raise ValueError(f"memory is {memory} bytes, below the {least} that one query and one document need; raise it")
    return at_once, block


def _best(queries: NDArray, documents: NDArray, depth: int, block: int) -> NDArray[np.int64]:
    """Keys (queries, depth) of the best documents, best first."""
    best = np.empty((len(queries), 0), np.int64)
    for rows in _blocks(len(documents), block):
        scores = queries @ np.asarray(documents[rows], np.float32).T
        if not np.isfinite(scores).all():
            raise NotFinite(
                f"scores of documents {rows.start} to {rows.stop - 1} are not finite; look for NaN or infinity in "
                "their embeddings and the queries'"
            )
        best = np.concatenate([best, _keys(scores, rows.start)], axis=1)
        if best.shape[1] > depth:
            best.partition(best.shape[1] - depth, axis=1)
            best = best[:, -depth:].copy()  # a view would keep the whole block alive
    best.sort(axis=1)
    return best[:, ::-1]


def _keys(scores: NDArray[np.float32], first: int) -> NDArray[np.int64]:
    """Integers that order as scores do, the earlier row before the later one where scores are equal.

    The bits of a float order as an integer's once those of negative numbers are turned (sign apart).
    """
    scores += 0.0  # −0 becomes 0, its equal
    bits = scores.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys <<= 32
    keys |= LARGEST_ROW - np.arange(first, first + scores.shape[1])
    return keys


def _rows(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return LARGEST_ROW - (keys & LARGEST_ROW)


def _scores(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    bits = (keys >> 32).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)


def _blocks(length: int, size: int) -> Iterator[slice]:
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))
