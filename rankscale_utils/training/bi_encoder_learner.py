"""How a bi-encoder learns: from the embeddings of a step's queries and documents, each text read apart.

Every query brings its positive, its hard negatives and its share of the random ones, which all queries of the step
meet, so that `random` documents a query make `random` × queries shared negatives (256 in arXiv 2403.18684).
"""

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.collections.groups import Step, TrainingQueries
from rankscale_utils.collections.singles import Singles, joined
from rankscale_utils.machine.transfer import send
from rankscale_utils.models import flat_encoders
from rankscale_utils.models.bi_encoder import BiEncoder, bi_encoder_flops
from rankscale_utils.models.flat_encoders import Inputs
from rankscale_utils.study.objectives import Objective
from rankscale_utils.study.training import Groups

from .losses import contrastive


class BiEncoding:
    """A bi-encoder in training; an item is a text: a query, and then the documents of its group."""

    def __init__(
        self,
        model: BiEncoder,
        queries: Singles,
        documents: Singles,
        training: TrainingQueries,
        groups: Groups,
        settings: Objective,
    ) -> None:
        """Learn from these texts; `training` tells which documents are relevant to which queries."""
        self.model, self.queries, self.documents, self.training = model, queries, documents, training
        self.items, self.hard, self.in_batch = 1 + groups.size, groups.hard, settings.in_batch
        self.temperature = settings.temperature or 1.0
        self._cost = bi_encoder_flops(model)

    def _rows(self, step: Step) -> np.ndarray:
        """Return the row of every text: (queries, items), of queries in the first column and documents beyond."""
        return np.concatenate([step.query_rows[:, :1], step.document_rows], 1)

    def lengths(self, step: Step) -> np.ndarray:
        """Return the tokens of every text: (texts,)."""
        rows = self._rows(step)
        return np.concatenate([self.queries.lengths(rows[:, :1]), self.documents.lengths(rows[:, 1:])], 1).ravel()

    def batch(self, step: Step, places: np.ndarray) -> tuple[Inputs, Tensor]:
        """Return the texts at these places, queries before documents, and the order that they are wanted in."""
        rows, of_query = self._rows(step).ravel()[places], places % self.items == 0
        kinds = [(self.queries, np.flatnonzero(of_query)), (self.documents, np.flatnonzero(~of_query))]
        batch = joined([texts.batch(rows[chosen]) for texts, chosen in kinds if len(chosen)])
        order = np.argsort(np.concatenate([chosen for _, chosen in kinds]))
        return self.model.inputs(*batch), torch.from_numpy(order)

    def outputs(self, batch: tuple[Inputs, Tensor]) -> Tensor:
        """Return the embeddings of the texts: (texts, dimensions)."""
        inputs, order = batch
        embedded = self.model(inputs)
        return embedded[send(order, embedded.device)]

    def computed(self, step: Step, places: np.ndarray) -> int:
        """Return the tokens that are computed of the texts at these places, padding included."""
        return flat_encoders.computed(self.model.encoder, self.lengths(step)[places])

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the contrastive loss over the negatives of the whole step."""
        embedded = outputs.view(len(step.query_rows), self.items, -1)
        shared = 2 + self.hard  # where the random documents begin
        negatives, rows = [embedded[:, shared:].flatten(0, 1)], [step.document_rows[:, shared - 1 :].ravel()]
        if self.in_batch:
            negatives.append(embedded[:, 1])
            rows.append(step.document_rows[:, 0])
        relevant = self.training.is_relevant(step.query_rows[:, :1], np.concatenate(rows)[None])
        return contrastive(
            embedded[:, 0] / self.temperature,
            embedded[:, 1],
            torch.cat(negatives),
            hard=embedded[:, 2:shared] if self.hard else None,
            barred=send(torch.from_numpy(relevant), outputs.device),
        )

    def scores(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the inner products of every query with its group's documents, or with the batch's positives alone."""
        embedded = outputs.view(len(step.query_rows), self.items, -1)
        if self.items == 2:
            return embedded[:, 0] @ embedded[:, 1].T
        return torch.einsum("qd,qgd->qg", embedded[:, 0], embedded[:, 1:])

    def flops(self, step: Step) -> float:
        """Return the FLOPs of one forward pass over a step."""
        lengths = self.lengths(step)
        return float(self._cost.forward(lengths, len(lengths)).sum())
