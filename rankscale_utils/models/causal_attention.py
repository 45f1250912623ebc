"""Causal attention over a flat batch: every sequence to itself, behind the beginning that it shares with others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .causal_batch import CausalBatch, CausalGroup

CAUSAL = "rankscale_causal"


def attend_causally(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sequences: CausalBatch | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Return what every token of a flat batch reads of its own sequence up to itself: (1, tokens, heads, size).

    query, key, value: (1, heads, tokens, size), keys and values of fewer heads where several share them. A batch
    without `sequences` is a padded one, which transformers' own function attends to.
    """
    if sequences is None:
        others |= {"dropout": dropout, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # (tokens, heads, size)
    several = query.shape[1] // key.shape[1]  # heads' queries read the same keys
    key, value = (sequences.read(part) for part in (key, value))
    groups = sequences.groups
    queries = query.split([group.sequences * group.own for group in groups])
    sizes = [group.sequences * (group.shared + group.own) for group in groups]
    attended = []
    for group, q, k, v in zip(groups, queries, key.split(sizes), value.split(sizes), strict=True):
        q, k, v = (part.unflatten(0, (group.sequences, -1)).transpose(1, 2) for part in (q, k, v))
        if several > 1:
            k, v = (part.repeat_interleave(several, dim=1) for part in (k, v))
        mask = _seen(group, sliding_window, q.device)
        found = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None, scale=scaling)
        attended.append(found.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)[None], None


def _seen(group: CausalGroup, window: int | None, device: torch.device) -> Tensor | None:
    """Say which keys each query of a group sees, (own, shared + own); None where they are those up to itself."""
    length = group.shared + group.own
    near = window is None or length <= window
    if not group.shared and near:
        return None
    behind = torch.arange(group.shared, length, device=device)[:, None] - torch.arange(length, device=device)
    return behind >= 0 if near else (behind >= 0) & (behind < window)


AttentionInterface.register(CAUSAL, attend_causally)


AttentionMaskInterface.register(CAUSAL, sdpa_mask)
