"""The training losses of rerankers, over the scores of one step's groups.

Each takes scores (queries, group), raw logits, and relevance (queries, group), 1 for a relevant document and 0 for
any other, and returns the mean loss in nats.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F


def pointwise(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every pair on its own (monoBERT, arXiv 1901.04085)."""
    return F.binary_cross_entropy_with_logits(scores, relevance)


def pairwise(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """RankNet: log(1 + exp(s_j − s_i)), the mean over all pairs with i more relevant than j (Burges et al., 2005)."""
    preferred = relevance[:, :, None] > relevance[:, None, :]
    margins = scores[:, :, None] - scores[:, None, :]
    return F.softplus(-margins[preferred]).mean()


def listwise(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """ListNet's top-one cross-entropy between relevance, as a distribution, and softmax(scores) (Cao et al., 2007)."""
    target = relevance / relevance.sum(1, keepdim=True)
    return -(target * F.log_softmax(scores, dim=1)).sum(1).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "pointwise": pointwise,
    "pairwise": pairwise,
    "listwise": listwise,
}
