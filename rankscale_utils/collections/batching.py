"""Long streams, a piece or a sample at a time, and texts in batches of like length."""

import math
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def pieces(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    items = iter(items)
    while piece := list(islice(items, size)):
        yield piece


def even_sample(items: Iterable[str], count: int) -> list[str]:
    """Return `count` items, evenly drawn in one pass (Li, 1994, Algorithm L), the same at every call; all if fewer."""
    items, chance = iter(items), random.Random(0)
    kept = list(islice(items, count))
    weight = math.exp(math.log(chance.random()) / count)
    while True:
        skipped = int(math.log(chance.random()) / math.log1p(-weight))
        if (item := next(islice(items, skipped, None), None)) is None:
            return kept
        kept[chance.randrange(count)] = item
        weight *= math.exp(math.log(chance.random()) / count)


def of_one_group(groups: np.ndarray, lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Yield the places of texts of these lengths, group after group, in batches of about `tokens`, the last one fewer.

    A group that begins in one batch may end in the next.
    """
    order = np.lexsort((lengths, groups))
    batch = (np.cumsum(lengths[order]) - lengths[order]) // tokens
    yield from np.split(order, np.flatnonzero(np.diff(batch)) + 1)


def of_like_length(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Yield the places of texts of these lengths, the shortest first, in batches of `tokens` or less with padding.

    A text that is longer than that is a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    while len(order):
        padded = lengths[order] * np.arange(1, len(order) + 1)  # of a batch that ends here, as lengths ascend
        count = max(1, int(np.searchsorted(padded, tokens, side="right")))
        yield order[:count]
        order = order[count:]
