"""Long streams, a piece at a time, and texts in batches of like length."""

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
