"""T5's cross-attention from a query's tokens to stored documents, computed three ways that give the same numbers.

T5 adds no position bias and no scale here: with a decoder state x, document states S and a head's matrices,
softmax((x W_Qᵀ)(S W_Kᵀ)ᵀ)(S W_Vᵀ). `on_the_fly` computes keys S W_Kᵀ and values S W_Vᵀ for every query; `stored` reads
them; `absorbed` computes softmax((x W_Qᵀ W_K) Sᵀ) S, then W_Vᵀ, so that the states serve as keys and values
(multi-head latent attention's absorption, DeepSeek-V2, arXiv 2405.04434, §2.1).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class CandidateGroup(NamedTuple):
    """k documents of like length, padded to the longest.

    parts: (1, k, D, d) document states, or (2·layers, k, D, heads·c) each layer's keys, then its values;
    mask: (k, 1, 1, D) True for what may be attended to, or None where no document is padded.
    """

    parts: Tensor
    mask: Tensor | None


class Candidates(NamedTuple):
    """A query's K documents in groups of like length; order: (K,) the place of each in the caller's list."""

    groups: list[CandidateGroup]
    order: Tensor

    def to(self, device: torch.device | str) -> "Candidates":
        """Return the same documents on a device."""
        groups = [
            CandidateGroup(parts.to(device), None if mask is None else mask.to(device)) for parts, mask in self.groups
        ]
        return Candidates(groups, self.order.to(device))


class Projections(NamedTuple):
    """One layer's key and value matrices, by head: (heads, c, d) each."""

    key: Tensor
    value: Tensor


def by_head(x: Tensor, heads: int) -> Tensor:
    """Return (k, heads, tokens, c) of (k, tokens, heads·c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend_candidates(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(query keyᵀ + mask) value, T5's attention without a scale."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)


def on_the_fly(query: Tensor, weights: Projections, group: CandidateGroup, layer: int) -> Tensor:
    """Project the documents' keys and values, then attend. query, returned: (1 or k, heads, t, c), (k, t, heads·c)."""
    states, heads = group.parts[0], len(weights.key)
    key, value = (by_head(F.linear(states, matrix.flatten(0, 1)), heads) for matrix in weights)
    return _joined(attend_candidates(query.expand(len(states), -1, -1, -1), key, value, group.mask))


def stored(query: Tensor, weights: Projections, group: CandidateGroup, layer: int) -> Tensor:
    """Attend to the keys and values that the store holds for this layer; shapes as in `on_the_fly`."""
    key, value = (by_head(part, len(weights.key)) for part in group.parts[2 * layer : 2 * layer + 2])
    return _joined(attend_candidates(query.expand(len(key), -1, -1, -1), key, value, group.mask))


def absorbed(query: Tensor, weights: Projections, group: CandidateGroup, layer: int) -> Tensor:
    """Move the query into the space of document states, attend there, move the sum back; shapes as in `on_the_fly`."""
    states = group.parts[0].unsqueeze(1).expand(-1, len(weights.key), -1, -1)  # the same for every head
    query = _each_head(query, weights.key).expand(len(states), -1, -1, -1)
    return _joined(_each_head(attend_candidates(query, states, states, group.mask), weights.value.transpose(1, 2)))


def _each_head(x: Tensor, matrices: Tensor) -> Tensor:
    """Return x (k, heads, t, m) times each head's matrix (heads, m, n), as one product a head: (k, heads, t, n)."""
    product = torch.bmm(x.transpose(0, 1).flatten(1, 2), matrices)
    return product.unflatten(1, (x.shape[0], x.shape[2])).transpose(0, 1)


def _joined(x: Tensor) -> Tensor:
    """Return (k, t, heads·c) of (k, heads, t, c)."""
    return x.transpose(1, 2).flatten(2)


WAYS: dict[str, Callable[[Tensor, Projections, CandidateGroup, int], Tensor]] = {
    "on_the_fly": on_the_fly,
    "stored": stored,
    "absorbed": absorbed,
}
