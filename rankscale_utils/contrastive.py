"""The softmax cross-entropy of bi-encoders, and its exact gradients where a whole batch's graph would not fit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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


def cached_backward(
    encode: Callable[..., Tensor], groups: Sequence[Sequence[Tensor]], loss: Callable[..., Tensor], chunk: int
) -> Tensor:
    """Add the gradients of ``loss(*embeddings)`` to the encoder's, one chunk's graph at a time, and return the loss.

    groups: what ``encode`` takes, such as (input_ids, attention_mask), of the queries, the positives, the negatives …,
    each tensor (texts, …); ``loss`` takes their embeddings (texts, d) in that order. Every chunk is encoded without a
    graph, the loss is differentiated by the embeddings, and every chunk is encoded again, from the same random state
    so that dropout drops the same, to pass its gradient on. The memory is that of ``chunk`` texts; the gradients are
    those of encoding the same chunks at once. Source: arXiv 2101.06983, §3.2.
    """
    chunks = [list(zip(*(part.split(chunk) for part in group), strict=True)) for group in groups]
    states: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        embeddings = [torch.cat([_noting(states, encode, inputs) for inputs in group]) for group in chunks]
    embeddings = [embedding.requires_grad_() for embedding in embeddings]
    value = loss(*embeddings)
    value.backward()
    gradients = [part for embedding in embeddings for part in embedding.grad.split(chunk)]
    inputs = [inputs for group in chunks for inputs in group]
    for again, state, gradient in zip(inputs, states, gradients, strict=True):
        with _randomness(again[0].device, state):
            encode(*again).backward(gradient)
    return value.detach()


def _noting(states: list[tuple[Tensor, ...]], encode: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
    """Encode a chunk, its random state noted first."""
    device = inputs[0].device
    states.append((torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])))
    return encode(*inputs)


@contextmanager
def _randomness(device: torch.device, state: tuple[Tensor, ...]) -> Iterator[None]:
    """Within the block random numbers follow `state`; after it they go on as if there had been no block."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state[1], device)
        yield
