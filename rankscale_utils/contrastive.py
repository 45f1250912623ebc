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
    in_batch: bool = False,
    positive_rows: Tensor | None = None,
    negative_rows: Tensor | None = None,
) -> Tensor:
    """−log softmax of the positive's inner product among itself and the negatives, the mean over queries in nats.

    queries, positives: (q, d), pair by pair; negatives: (n, d), drawn from the corpus, shared by all queries; hard:
    (q, h, d), each query's own; in_batch: the other queries' positives are negatives too. positive_rows (q,) and
    negative_rows (n,) are the documents' rows: where they are given, no query meets its own positive as a negative.
    Raises ValueError without any negatives. Source: arXiv 2403.18684, §3.2; in-batch and hard arXiv 2004.04906, §3.2.
    """
    if negatives is None and hard is None and not in_batch:
        raise ValueError("no negatives; give negatives or hard, or set in_batch")
    scores = [(queries * positives).sum(1, keepdim=True)]
    if negatives is not None:
        scores.append(_but_own(queries @ negatives.T, positive_rows, negative_rows))
    if in_batch:
        places = torch.arange(len(positives), device=positives.device)
        rows = places if positive_rows is None else positive_rows
        scores.append(_but_own(queries @ positives.T, rows, rows))
    if hard is not None:
        scores.append(torch.einsum("qd,qhd->qh", queries, hard))
    logits = torch.cat(scores, dim=1)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def _but_own(scores: Tensor, positive_rows: Tensor | None, rows: Tensor | None) -> Tensor:
    """Scores (q, n), −∞ where the document of a column is the query's own positive."""
    if positive_rows is None or rows is None:
        return scores
    return scores.masked_fill(positive_rows[:, None] == rows[None, :], -torch.inf)
