"""What a family brings to the one training loop."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rankscale_utils.collections import Collection
from rankscale_utils.collections.groups import Step
from rankscale_utils.collections.singles import singles
from rankscale_utils.models.export import Model
from rankscale_utils.study.study import Run, Study

from .bi_encoder_learner import BiEncoding
from .cross_encoder_learner import CrossEncoding
from .ed2lm_learner import Generation


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


def learner(study: Study, run: Run, collection: Collection, model: Model) -> Learner:
    """Return a run's model with its objective, over the collection's texts."""
    settings, groups, pairs = study.objectives[run.objective], study.training.groups, collection.pairs()
    family = study.family_of(run.objective)
    if family == "cross_encoder":
        return CrossEncoding(model, pairs, run.objective, settings, groups)
    texts = singles(pairs, study.text, family, ended=run.objective == "generation")
    if family == "bi_encoder":
        return BiEncoding(model, *texts, collection.training_queries(), groups, settings)
    return Generation(model, *texts, run.objective, settings, groups)
