"""The training losses of rerankers, over the scores of one step's groups.

Each takes scores (queries, group), raw logits, and a target (queries, group), and returns the mean loss in nats. The
target is the relevance, 0 for a document that is not relevant and 1, 2, … for grades of those that are, or, for the
objectives in `DISTILLED`, a teacher's raw score of the same pair.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from rankscale_utils.parts import DISTILLED, Objective

__all__ = ["DISTILLED", "LOSSES", "Loss", "loss_of"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pointwise(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every pair on its own (monoBERT, arXiv 1901.04085); every grade from 1 on counts as 1."""
    return F.binary_cross_entropy_with_logits(scores, (relevance >= 1).to(scores.dtype))


def pairwise(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """RankNet: log(1 + exp(s_j − s_i)), the mean over all pairs with i more relevant than j (Burges et al., 2005)."""
    preferred = relevance[:, :, None] > relevance[:, None, :]
    margins = scores[:, :, None] - scores[:, None, :]
    return _mean_over(preferred, F.softplus(-margins))


def _mean_over(chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values that are chosen; taking them out would make the host wait for a GPU."""
    return (values * chosen).sum() / chosen.sum()


def listwise(scores: torch.Tensor, relevance: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """ListNet's top-one cross-entropy between relevance and softmax(scores / temperature) (Cao et al., 2007).

    The relevance becomes a distribution by its share: grades (2, 1, 0) weigh 2/3, 1/3 and nothing.
    """
    target = relevance / relevance.sum(1, keepdim=True)
    return -(target * F.log_softmax(scores / temperature, dim=1)).sum(1).mean()


def lambdaloss(scores: torch.Tensor, relevance: torch.Tensor, mu: float = 10.0) -> torch.Tensor:
    """LambdaLoss with NDCG-Loss2++: RankNet's terms, weighted by what they matter to nDCG (Wang et al., CIKM 2018).

    A pair i, j weighs |G_i − G_j| (mu |1/D_|i−j| − 1/D_|i−j|+1| + |1/D_i − 1/D_j|) with the gain G = (2^grade − 1) /
    ideal DCG and the discount D_r = log2(1 + r) of the ranks by the present scores; the mean is over all pairs with i
    more relevant than j.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    scores, relevance = scores.gather(1, order), relevance.gather(1, order)
    rank = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype)
    discount = torch.log2(1 + rank)
    gain = 2**relevance - 1
    ideal = (gain.sort(dim=1, descending=True).values / discount).sum(1)
    apart = (rank[:, None] - rank).abs().clamp(min=1)  # a document is never preferred to itself
    by_distance = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
    by_rank = (1 / discount[:, None] - 1 / discount).abs()
    weights = (gain[:, :, None] - gain[:, None, :]).abs() / ideal[:, None, None] * (mu * by_distance + by_rank)
    preferred = relevance[:, :, None] > relevance[:, None, :]
    margins = scores[:, :, None] - scores[:, None, :]
    return _mean_over(preferred, weights * F.softplus(-margins))


def margin_mse(scores: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the margins s_0 − s_j against the teacher's (Hofstätter et al., arXiv 2010.02666).

    The relevant document stands first in its group. The unit is that of the teacher's scores, squared, not nats.
    """
    return F.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def ranknet_distillation(scores: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """RankNet on the teacher's order: the mean over all pairs that it scores differently (arXiv 2304.09542, §4)."""
    return pairwise(scores, teacher)


LOSSES: dict[str, Loss] = {
    loss.__name__: loss for loss in (pointwise, pairwise, listwise, lambdaloss, margin_mse, ranknet_distillation)
}


def loss_of(objective: str, settings: Objective) -> Loss:
    """Return the loss of an objective with the settings that a study gives it."""
    if settings.temperature is None:
        return LOSSES[objective]
    return partial(LOSSES[objective], temperature=settings.temperature)
