"""How an ED2LM learns: from what its decoder says of a step's queries, each after its document."""

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.collections.groups import Step
from rankscale_utils.collections.singles import Singles, TextBatch
from rankscale_utils.machine.transfer import send
from rankscale_utils.models import flat_encoders
from rankscale_utils.models.ed2lm import Ed2lm, combine_scores
from rankscale_utils.models.ed2lm_counts import Work, full_flops
from rankscale_utils.study.objectives import OF_THE_QUERY, Objective, score_of_objective, trains_both
from rankscale_utils.study.training import Groups

from .cross_encoder_learner import relevance_targets
from .losses import likelihood, loss_of, margin, true_false, unlikelihood

VERDICT_WEIGHT = 5.0  # weight of the verdict's loss beside the query's a token: a query has some 80 nats and it has 0.5


class Generation:
    """An ED2LM in training; an item is a pair, of which its output is (log-likelihood, log-unlikelihood, relevance)."""

    def __init__(
        self,
        model: Ed2lm,
        queries: Singles,
        documents: Singles,
        objective: str,
        settings: Objective,
        groups: Groups,
    ) -> None:
        """Learn with this objective from these texts."""
        self.model, self.queries, self.documents = model, queries, documents
        self.objective, self.settings, self.items = objective, settings, groups.size
        self.kind = score_of_objective(objective, settings)
        self.likelihood = objective in OF_THE_QUERY or self.kind != "true_false"

    def _lengths(self, step: Step) -> tuple[np.ndarray, np.ndarray]:
        return self.queries.lengths(step.query_rows.ravel()), self.documents.lengths(step.document_rows.ravel())

    def lengths(self, step: Step) -> np.ndarray:
        """Return the tokens of every pair, query and document together: (pairs,)."""
        return sum(self._lengths(step))

    def batch(self, step: Step, places: np.ndarray) -> tuple[TextBatch, TextBatch]:
        """Return the documents and the queries of the pairs at these places."""
        rows = step.document_rows.ravel()[places], step.query_rows.ravel()[places]
        return self.documents.batch(rows[0]), self.queries.batch(rows[1])

    def outputs(self, batch: tuple[TextBatch, TextBatch]) -> Tensor:
        """Return what the decoder says of the pairs, (pairs, 3); unread values are 0.

        Each call reads one of the poolings that are trained, drawn from torch's global generator.
        """
        poolings = self.model.setting.poolings
        pooling = poolings[int(torch.randint(len(poolings), ()))]
        device = self.model.t5.shared.weight.device
        documents, queries = batch
        asked = (send(part, device) for part in queries)  # the encoder lays its flat batch out on the host
        reading = self.model(*documents, *asked, pooling=pooling, likelihood=self.likelihood)
        nothing = torch.zeros_like(reading.relevance)
        words = (reading.log_likelihood(), reading.log_unlikelihood()) if self.likelihood else (nothing, nothing)
        return torch.stack([*words, reading.relevance], 1)

    def computed(self, step: Step, places: np.ndarray) -> int:
        """Return the tokens that are computed of the pairs at these places, padding included."""
        stacks = self.model.t5.decoder, self.model.t5.encoder
        lengths = (some[places] for some in self._lengths(step))
        return sum(flat_encoders.computed(*each) for each in zip(stacks, lengths, strict=True))

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the objective's loss; where it trains query and verdict, the query's a token and 5 times the other."""
        target = relevance_targets(step, self.objective, outputs.device)
        if self.objective not in OF_THE_QUERY:
            return self._of_scores(outputs, target, step)
        query = self._of_query(outputs, target)
        if not trains_both(self.objective, self.settings):
            return query
        tokens = float(self.queries.lengths(step.query_rows[:, 0]).mean())
        return query / tokens + VERDICT_WEIGHT * true_false(outputs[:, 2], (target >= 1).flatten())

    def _of_scores(self, outputs: Tensor, target: Tensor, step: Step) -> Tensor:
        if self.objective == "true_false":
            return true_false(outputs[:, 2], (target >= 1).flatten())
        return loss_of(self.objective, self.settings)(self.scores(outputs, step), target)

    def _of_query(self, outputs: Tensor, target: Tensor) -> Tensor:
        log_likelihoods, log_unlikelihoods, _ = outputs.unbind(1)
        relevant = (target >= 1).float().flatten()
        if self.objective == "generation":
            return likelihood(log_likelihoods, relevant)
        if self.objective == "unlikelihood":
            return unlikelihood(log_likelihoods, log_unlikelihoods, relevant)
        return margin(log_likelihoods.view(target.shape), target)

    def scores(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the scores that rank: (queries, group)."""
        return combine_scores(self.kind, outputs[:, 0], outputs[:, 2]).view(step.document_rows.shape)

    def flops(self, step: Step) -> float:
        """Return the FLOPs of one forward pass over a step."""
        queries, documents = self._lengths(step)
        return float(full_flops(self.model.t5.config, Work(queries, documents), self.likelihood).sum())
