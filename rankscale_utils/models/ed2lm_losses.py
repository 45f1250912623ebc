"""The training losses of ED2LM, over what its decoder says of one step's pairs.

log_likelihoods: Σ_t log p(q_t | q_<t, d); log_unlikelihoods: Σ_t log(1 − p(q_t | q_<t, d)); relevance_logits: the logit
of `true` less that of `false` after the query; relevant: 1 for a relevant document and 0 for any other, each (pairs,).
Each loss is a mean in nats. Sources: ED2LM (arXiv 2204.11458) and, for the first three, dos Santos et al.
(arXiv 2010.03073, §3).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


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
