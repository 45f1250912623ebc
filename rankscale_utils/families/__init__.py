"""The families of models that score documents for queries, each with how it learns from a step's groups.

One loop trains them all. What differs is what a step's items are — pairs that are read together, or texts that are
read apart — what the model makes of an item, and how a loss follows from what it made of all of them.
"""

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rankscale_utils.collections.groups import Step


class Learner(Protocol):
    """A model and its objective. Items stand query by query, the same number for each."""

    items: int  # of each query

    def lengths(self, step: Step) -> np.ndarray:
        """Return the tokens of every item: (items,)."""

    def batch(self, step: Step, places: np.ndarray) -> Any:
        """Return the items at these places as the model reads them, in the host's memory."""

    def outputs(self, batch: Any) -> Tensor:
        """Return what the model makes of the items of a batch: (items, …)."""

    def computed(self, step: Step, places: np.ndarray) -> int:
        """Return the tokens that are computed of the items at these places, padding included."""

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the loss of a whole step from the outputs of all its items: (items, …)."""

    def scores(self, outputs: Tensor, step: Step) -> Tensor:
        """Return scores of documents for every query, the same number for each: (queries, documents)."""

    def flops(self, step: Step) -> float:
        """Return the FLOPs of one forward pass over a step."""
