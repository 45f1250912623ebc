"""Attention over a flat batch that keeps every sequence to itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rankscale_utils.machine.device import has_bf16

from .flat_batch import Sequences

ATTENTION = "rankscale_unpadded"
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
LARGEST = 2.0**100  # sum of exponentials, far from where bfloat16 ends


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sequences: Sequences | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Return what every token of a flat batch reads of its own sequence: (1, tokens, heads, size).

    query, key, value: (1, heads, tokens, size), keys and values of fewer heads where several share them. Queries may be
    those of the prefixes alone. position_bias: (1, heads,
    longest, longest) or more. A batch without `sequences` is a padded one, which transformers' own function attends to.
    """
    if sequences is None:
        others |= {"dropout": dropout, "scaling": scaling, "position_bias": position_bias}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # (tokens, heads, size)
    if (shared := query.shape[1] // key.shape[1]) > 1:  # several heads' queries read the same keys
        key, value = (part.repeat_interleave(shared, dim=1) for part in (key, value))
    whole = len(query) == len(key)
    on_device = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout
    if on_device and position_bias is None and (whole or sliding_window is None):
        reach = -1 if sliding_window is None else sliding_window - 1
        return _varlen(sequences, query, key, value, scaling, reach)[None], None
    if query.device.type == "cpu" and position_bias is None and not dropout:
        return _GroupedAttention.apply(query, key, value, sequences, scaling, sliding_window)[None], None
    parts = zip(*(_grouped(sequences, part, len(part) == len(key)) for part in (query, key, value)), strict=True)
    attended = [
        F.scaled_dot_product_attention(q, k, v, _bias(q, k, sliding_window, position_bias), dropout, scale=scaling)
        for q, k, v in parts
    ]
    return _flattened(attended)[None], None


def _grouped(sequences: Sequences, flat: Tensor, whole: bool) -> Iterator[Tensor]:
    """Yield every group's part of a flat tensor (tokens, heads, size) as (sequences, heads, length, size)."""
    shapes = [(group.sequences, group.length if whole else group.prefix) for group in sequences.groups]
    parts = flat.split([count * length for count, length in shapes])
    return (part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(parts, shapes, strict=True))


def _flattened(parts: Iterable[Tensor]) -> Tensor:
    """Return groups' parts as one flat tensor, the way back from `_grouped`."""
    return torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts])


def _fused(
    sequences: Sequences,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float | None,
    window: int | None,
    backwards: bool,
) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Return what the CPU's fused attention makes of every group, and the logarithms that its gradient needs."""
    in_products = query.dtype == torch.bfloat16 and not backwards and has_bf16()
    attention = _in_products if in_products else FUSED
    whole, masks = len(query) == len(key), _windows(sequences, window, query)
    parts = zip(_grouped(sequences, query, whole), *_of_keys(sequences, key, value), masks, strict=True)
    return tuple(zip(*(attention(*part, attn_mask=mask, scale=scale) for *part, mask in parts), strict=True))


def _in_products(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return the same without logarithms, from two products in bfloat16, which takes half the fused kernel's time.

    Exponentials are not taken of differences from the largest score; where they leave bfloat16's range, or some scores
    are masked, the fused kernel attends.
    """
    if attn_mask is None:
        queries, keys, values = (part.flatten(0, 1) for part in (query, key, value))
        scaled = queries * (query.shape[-1] ** -0.5 if scale is None else scale)
        weights = torch.bmm(scaled, keys.transpose(1, 2)).exp_()
        sums = weights.sum(-1, keepdim=True)
        least, most = sums.aminmax()
        if least > 1 / LARGEST and most < LARGEST:
            return torch.bmm(weights, values).div_(sums).view_as(query), None
    return FUSED(query, key, value, attn_mask=attn_mask, scale=scale)


def _fused_back(
    sequences: Sequences,
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    found: Tensor,
    logs: Iterable[Tensor],
    scale: float | None,
    window: int | None,
) -> tuple[tuple[Tensor, ...], ...]:
    """Return the gradients of every group's queries, keys and values."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    whole, masks = len(query) == len(key), _windows(sequences, window, query)
    gradients, queries, results = (_grouped(sequences, part, whole) for part in (gradient, query, found))
    parts = zip(gradients, queries, *_of_keys(sequences, key, value), results, logs, masks, strict=True)
    back = (attention(*part, 0.0, False, attn_mask=mask, scale=scale) for *part, mask in parts)
    return tuple(zip(*back, strict=True))


class _GroupedAttention(torch.autograd.Function):
    """The CPU's fused attention over every group: one node of the graph, where each group would bring nine."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sequences: Sequences,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        attended, logs = _fused(sequences, query, key, value, scale, window, any(ctx.needs_input_grad))
        found = _flattened(attended)
        ctx.save_for_backward(query, key, value, found, *logs)
        ctx.sequences, ctx.settings = sequences, (scale, window)
        return found

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found, *logs = ctx.saved_tensors
        back = _fused_back(ctx.sequences, gradient, query, key, value, found, logs, *ctx.settings)
        return *map(_flattened, back), None, None, None


class TurnedAttention(torch.autograd.Function):
    """The same for ModernBERT, from stacked projections (tokens, 3, heads, size), whose gradient is one tensor too.

    turn: (tokens, size / 2), see `turned`.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, stacked: Tensor, turn: Tensor, sequences: Sequences, scale: float, window: int | None
    ) -> Tensor:
        """Return what attention finds, flat; see `attend`."""
        rotated = turned(stacked[:, :2], turn[:, None, None])
        parts = *rotated.unbind(1), stacked[:, 2]
        attended, logs = _fused(sequences, *parts, scale, window, any(ctx.needs_input_grad))
        found = _flattened(attended)
        ctx.save_for_backward(stacked, rotated, turn, found, *logs)
        ctx.sequences, ctx.settings = sequences, (scale, window)
        return found

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of `stacked`, written where it belongs."""
        stacked, rotated, turn, found, *logs = ctx.saved_tensors
        back = _fused_back(ctx.sequences, gradient, *rotated.unbind(1), stacked[:, 2], found, logs, *ctx.settings)
        whole = torch.empty_like(stacked)
        both = torch.empty_like(rotated)
        for place, parts in zip((both[:, 0], both[:, 1], whole[:, 2]), back, strict=True):
            torch.cat([part.transpose(1, 2).flatten(0, 1) for part in parts], out=place)
        turned_back = torch.view_as_complex(both.float().unflatten(-1, (-1, 2))) * turn.conj()[:, None, None]
        for half, part in zip(whole[:, :2].chunk(2, dim=-1), (turned_back.real, turned_back.imag), strict=True):
            half.copy_(part)
        return whole, None, None, None, None


def _windows(sequences: Sequences, window: int | None, query: Tensor) -> list[Tensor | None]:
    """Return what every group's scores need so that no token sees further than the window; nothing where none could."""
    longest = sequences.groups[-1].length
    if window is None or longest <= window:
        return [None] * len(sequences.groups)
    near = _near(longest, longest, window, query.device)
    mask = torch.zeros_like(near, dtype=query.dtype).masked_fill_(~near, -torch.inf)
    whole = len(query) == len(sequences.taken)
    return [
        mask[: group.length if whole else group.prefix, : group.length] if group.length > window else None
        for group in sequences.groups
    ]


def _of_keys(sequences: Sequences, *flat: Tensor) -> Iterator[Iterator[Tensor]]:
    """Yield the groups of tensors that are of all tokens."""
    return (_grouped(sequences, part, True) for part in flat)


def _bias(query: Tensor, key: Tensor, sliding_window: int | None, position_bias: Tensor | None) -> Tensor | None:
    """Return what a group's scores need beside the products: a T5's bias, or the window that a query sees."""
    queries, keys = query.shape[2], key.shape[2]
    if position_bias is not None:
        return position_bias[:, :, :queries, :keys]
    if sliding_window is None or keys <= sliding_window:
        return None
    return _near(queries, keys, sliding_window, key.device)


def _near(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    """Say which keys each of the first queries sees: (queries, keys)."""
    place = torch.arange(keys, device=device)
    return (place[:queries, None] - place).abs() < window


def _varlen(sequences: Sequences, query: Tensor, key: Tensor, value: Tensor, scale: float | None, reach: int) -> Tensor:
    """Return FlashAttention's result over sequences of any length: (tokens, heads, size)."""
    of_keys, of_prefixes = sequences.begins
    longest, whole = sequences.groups[-1].length, len(query) == len(key)
    most = longest if whole else max(group.prefix for group in sequences.groups)
    of_queries = of_keys if whole else of_prefixes
    return varlen_attn(query, key, value, of_queries, of_keys, most, longest, scale=scale, window_size=(reach, reach))


AttentionInterface.register(ATTENTION, attend)


AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def turned(states: Tensor, turn: Tensor) -> Tensor:
    """Return states of heads (…, size) turned by their positions, with halves interleaved; turn: (…, size / 2).

    Queries and keys are interleaved alike, which leaves their products as they are.
    """
    first, second = states.float().chunk(2, dim=-1)
    return torch.view_as_real(torch.complex(first, second) * turn).flatten(-2).to(states.dtype)
