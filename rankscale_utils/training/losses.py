"""The losses: of scores, of embeddings, of a query's likelihood."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from rankscale_utils.study.objectives import Objective

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


def contrastive(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    hard: Tensor | None = None,
    barred: Tensor | None = None,
) -> Tensor:
    """−log softmax of the positive's inner product among itself and the negatives, the mean over queries in nats.

    queries, positives: (q, d), pair by pair; negatives: (n, d), shared by all queries, such as documents of the corpus
    or other queries' positives; hard: (q, h, d), each query's own; barred: (q, n), true where a shared document is no
    negative of a query. Raises ValueError without any negatives. Source: arXiv 2403.18684, §3.2; negatives of the batch
    and hard ones arXiv 2004.04906, §3.2.
    """
    if negatives is None and hard is None:
        raise ValueError("no negatives; give negatives or hard")
    scores = [(queries * positives).sum(1, keepdim=True)]
    if negatives is not None:
        shared = queries @ negatives.T
        scores.append(shared if barred is None else shared.masked_fill(barred, -torch.inf))
    if hard is not None:
        scores.append(torch.einsum("qd,qhd->qh", queries, hard))
    logits = torch.cat(scores, dim=1)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def likelihood(log_likelihoods: Tensor, relevant: Tensor) -> Tensor:
    """−log p(q | d), the mean over relevant pairs; other pairs are left out."""
    return -_mean(log_likelihoods, relevant)


def unlikelihood(log_likelihoods: Tensor, log_unlikelihoods: Tensor, relevant: Tensor) -> Tensor:
    """LUL: `likelihood` of relevant pairs plus −Σ_t log(1 − p(q_t | q_<t, d)), the mean over the other pairs."""
    return likelihood(log_likelihoods, relevant) - _mean(log_unlikelihoods, 1 - relevant)


def margin(log_likelihoods: Tensor, relevance: Tensor, least: float = 1.0) -> Tensor:
    """RLL: max(0, least − log p(q|d⁺) + log p(q|d⁻)), the mean over a query's pairs of d⁺ more relevant than d⁻.

    log_likelihoods, relevance: (queries, group); least: the margin asked for, in nats.
    """
    preferred = relevance[:, :, None] > relevance[:, None, :]
    lead = log_likelihoods[:, :, None] - log_likelihoods[:, None, :]
    return F.relu(least - lead[preferred]).mean()


def true_false(relevance_logits: Tensor, relevant: Tensor) -> Tensor:
    """Cross-entropy of `true` after a relevant pair's query and of `false` after another's, between these two tokens.

    Source: monoT5, arXiv 2003.06713.
    """
    return F.binary_cross_entropy_with_logits(relevance_logits, relevant.to(relevance_logits.dtype))


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 when none is."""
    chosen = chosen.to(values.dtype)
    return torch.dot(values, chosen) / chosen.sum().clamp(min=1)
