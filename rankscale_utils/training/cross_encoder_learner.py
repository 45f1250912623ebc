"""How a cross-encoder learns: from the scores of a step's pairs, each read together."""

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.collections.groups import Step
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.machine.transfer import send
from rankscale_utils.models import flat_encoders
from rankscale_utils.models.counts import pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.flat_encoders import Inputs
from rankscale_utils.study.objectives import DISTILLED, Objective
from rankscale_utils.study.training import Groups

from .losses import loss_of


def relevance_targets(step: Step, objective: str, device: torch.device) -> Tensor:
    """Return what losses of scores compare them with: relevance, or a teacher's scores, (queries, group)."""
    target = step.teacher if objective in DISTILLED else step.relevance
    return send(torch.as_tensor(target, dtype=torch.float32), device)


class CrossEncoding:
    """A cross-encoder and its objective; an item is a pair."""

    def __init__(self, model: CrossEncoder, pairs: Pairs, objective: str, settings: Objective, groups: Groups) -> None:
        """Learn with this objective from these pairs."""
        self.model, self.pairs, self.objective, self.items = model, pairs, objective, groups.size
        self._loss, self._cost = loss_of(objective, settings), pass_flops(model)

    def lengths(self, step: Step) -> np.ndarray:
        """Return the tokens of every pair: (pairs,)."""
        return self.pairs.lengths(step.query_rows.ravel(), step.document_rows.ravel())

    def batch(self, step: Step, places: np.ndarray) -> Inputs:
        """Return the pairs at these places."""
        rows = (rows.ravel()[places] for rows in (step.query_rows, step.document_rows))
        return self.model.inputs(*self.pairs.batch(*rows))

    def outputs(self, batch: Inputs) -> Tensor:
        """Return the scores of the pairs: (pairs,)."""
        return self.model(batch)

    def computed(self, step: Step, places: np.ndarray) -> int:
        """Return the tokens that are computed of the pairs at these places, padding included."""
        return flat_encoders.computed(self.model.encoder, self.lengths(step)[places])

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the objective's loss."""
        return self._loss(self.scores(outputs, step), relevance_targets(step, self.objective, outputs.device))

    def scores(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the scores: (queries, group)."""
        return outputs.view(step.document_rows.shape)

    def flops(self, step: Step) -> float:
        """Return the FLOPs of one forward pass over a step."""
        lengths = self.lengths(step)
        return float(self._cost.forward(lengths, len(lengths)).sum())
