"""How an ED2LM learns: from what its decoder says of a step's queries, each after its document."""

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.collections.groups import Step
from rankscale_utils.collections.singles import Singles, TextBatch
from rankscale_utils.families.cross_encoder import targets
from rankscale_utils.host import sent
from rankscale_utils.models import ed2lm_losses
from rankscale_utils.models.ed2lm import SCORES, Ed2lm, combine
from rankscale_utils.models.ed2lm_counts import Work, full_flops
from rankscale_utils.models.unpadded import computed
from rankscale_utils.objectives import loss_of
from rankscale_utils.parts import Groups, Objective

OF_THE_QUERY = ("generation", "unlikelihood", "margin")  # objectives that train the query's likelihood
VERDICT = 5.0  # weight of the verdict's loss beside the query's a token: a query has some 80 nats and it has 0.5


def score_of(objective: str, settings: Objective) -> str:
    """Return the score that an objective's models rank by, one of `ed2lm.SCORES`."""
    return settings.score or ("log_likelihood" if objective in OF_THE_QUERY else "true_false")


def trains_both(objective: str, settings: Objective) -> bool:
    """Whether an objective of the query's likelihood trains the verdict as well, since its models rank by it."""
    return objective in OF_THE_QUERY and score_of(objective, settings) != "log_likelihood"


def scores_of(objective: str, settings: Objective) -> tuple[str, ...]:
    """Return the scores that an objective trains, of `ed2lm.SCORES`; the one that its models rank by comes first."""
    first = score_of(objective, settings)
    every = trains_both(objective, settings) or first == "both"
    return (first, *(kind for kind in SCORES if kind != first)) if every else (first,)


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
        self.kind = score_of(objective, settings)
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
        asked = (sent(part, device) for part in queries)  # the encoder lays its flat batch out on the host
        reading = self.model(*documents, *asked, pooling=pooling, likelihood=self.likelihood)
        nothing = torch.zeros_like(reading.relevance)
        words = (reading.log_likelihood(), reading.log_unlikelihood()) if self.likelihood else (nothing, nothing)
        return torch.stack([*words, reading.relevance], 1)

    def computed(self, step: Step, places: np.ndarray) -> int:
        """Return the tokens that are computed of the pairs at these places, padding included."""
        stacks = self.model.t5.decoder, self.model.t5.encoder
        lengths = (some[places] for some in self._lengths(step))
        return sum(computed(*each) for each in zip(stacks, lengths, strict=True))

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the objective's loss; where it trains query and verdict, the query's a token and 5 times the other."""
        target = targets(step, self.objective, outputs.device)
        if self.objective not in OF_THE_QUERY:
            return self._of_scores(outputs, target, step)
        query = self._of_query(outputs, target)
        if not trains_both(self.objective, self.settings):
            return query
        tokens = float(self.queries.lengths(step.query_rows[:, 0]).mean())
        return query / tokens + VERDICT * ed2lm_losses.true_false(outputs[:, 2], (target >= 1).flatten())

    def _of_scores(self, outputs: Tensor, target: Tensor, step: Step) -> Tensor:
        if self.objective == "true_false":
            return ed2lm_losses.true_false(outputs[:, 2], (target >= 1).flatten())
        return loss_of(self.objective, self.settings)(self.scores(outputs, step), target)

    def _of_query(self, outputs: Tensor, target: Tensor) -> Tensor:
        log_likelihoods, log_unlikelihoods, _ = outputs.unbind(1)
        relevant = (target >= 1).float().flatten()
        if self.objective == "generation":
            return ed2lm_losses.likelihood(log_likelihoods, relevant)
        if self.objective == "unlikelihood":
            return ed2lm_losses.unlikelihood(log_likelihoods, log_unlikelihoods, relevant)
        return ed2lm_losses.margin(log_likelihoods.view(target.shape), target)

    def scores(self, outputs: Tensor, step: Step) -> Tensor:
        """Return the scores that rank: (queries, group)."""
        return combine(self.kind, outputs[:, 0], outputs[:, 2]).view(step.document_rows.shape)

    def flops(self, step: Step) -> float:
        """Return the FLOPs of one forward pass over a step."""
        queries, documents = self._lengths(step)
        return float(full_flops(self.model.t5.config, Work(queries, documents), self.likelihood).sum())
