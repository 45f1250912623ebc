"""The softmax cross-entropy of bi-encoders; `gradient_cache` has its gradients where a batch's graph would not fit."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
