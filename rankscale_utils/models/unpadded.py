"""Encoders over one flat batch: sequence after sequence without padding, and no more work than what is read needs.

BERT, ModernBERT and T5 encoders of transformers run with their own layers, which call `attend`, registered with
transformers' AttentionInterface, and see one batch of all sequences' tokens; ModernBERT's attention is a subclass.
The last layer of BERT and ModernBERT computes only the tokens that are read, such as [CLS] or the query; its keys and
values alone are of all tokens.

Encoders of other architectures read padded batches and end with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention

from rankscale_utils.host import sent

NAME = "rankscale_unpadded"


class Group(NamedTuple):
    """Sequences of one length that stand together; their first `prefix` tokens hold what is read."""

    sequences: int
    length: int
    prefix: int


@dataclass(frozen=True)
class Sequences:
    """How the sequences of a padded batch stand in a flat one: the shortest first.

    taken: (tokens,) places of the flat batch's tokens in the padded one, row after row; positions: (tokens,) of tokens
    in their sequences; prefixes: (rows,) places in the flat batch of every group's prefixes; read: (states,) those of
    `prefixes` that are read; counts: (sequences,) how many states are read of each; back: (sequences,) where the padded
    batch's sequences stand.
    """

    groups: tuple[Group, ...]
    taken: Tensor
    positions: Tensor
    prefixes: Tensor
    read: Tensor
    counts: Tensor
    back: Tensor

    @classmethod
    def of(cls, lengths: np.ndarray, width: int, read: np.ndarray) -> Sequences:
        """Return the sequences of a batch of this width, padded on the right, whose first `read` tokens are read."""
        order = np.lexsort((read, lengths))
        lengths, read = lengths[order], read[order]
        ends = np.flatnonzero(np.append(lengths[1:] != lengths[:-1], True)) + 1
        begins = np.append(0, ends[:-1])
        longest = np.maximum.reduceat(read, begins)
        columns = (ends - begins, lengths[begins], longest)
        groups = tuple(starmap(Group, np.stack(columns, 1).tolist()))
        prefix = np.repeat(longest, ends - begins)
        positions, inside = _counted(lengths), _counted(prefix)
        begin = np.repeat(np.cumsum(lengths) - lengths, prefix)
        arrays = (
            np.repeat(order * width, lengths) + positions,
            positions,
            begin + inside,
            np.flatnonzero(inside < np.repeat(read, prefix)),
            read,
            np.argsort(order),
        )
        return cls(groups, *map(torch.from_numpy, arrays))

    def to(self, device: torch.device) -> Sequences:
        """Return the same on a device."""
        tensors = (self.taken, self.positions, self.prefixes, self.read, self.counts, self.back)
        return Sequences(self.groups, *(sent(tensor, device) for tensor in tensors))

    @cached_property
    def begins(self) -> tuple[Tensor, Tensor]:
        """Where keys and where prefixes of every sequence begin, and the last ones end: each (sequences + 1,) int32."""
        counts, lengths, prefixes = np.array(self.groups).T
        ends = (np.cumsum(np.repeat(each, counts), dtype=np.int32) for each in (lengths, prefixes))
        return tuple(sent(torch.from_numpy(np.append(np.int32(0), each)), self.taken.device) for each in ends)

    def flat(self, padded: Tensor) -> Tensor:
        """Return the tokens of a padded batch (sequences, width) as a flat one: (1, tokens)."""
        return padded.flatten()[self.taken][None]

    def chosen(self, states: Tensor) -> Tensor:
        """Return the states that are read, (1, states, hidden), of those of all tokens, (1, tokens, hidden)."""
        return states if len(self.read) == len(self.taken) else states.index_select(1, self.prefixes[self.read])

    def means(self, states: Tensor) -> Tensor:
        """Return the mean of the states read of every sequence, in the padded batch's order: (sequences, hidden)."""
        if len(states) > len(self.counts):
            # `unsafe` spares a check of the lengths, for which the host would wait.
            states = torch.segment_reduce(states, "mean", lengths=self.counts, unsafe=True)
        return states[self.back]


def _counted(lengths: np.ndarray) -> np.ndarray:
    """Return 0, 1, … up to each length, one after the other: (sum of lengths,)."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)


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

    query, key, value: (1, heads, tokens, size). Queries may be those of the prefixes alone. position_bias: (1, heads,
    longest, longest) or more. A batch without `sequences` is a padded one, which transformers' own function attends to.
    """
    if sequences is None:
        others |= {"dropout": dropout, "scaling": scaling, "position_bias": position_bias}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # (tokens, heads, size)
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
    sequences: Sequences, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what the CPU's fused attention makes of every group, and the logarithms that its gradient needs."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    whole, masks = len(query) == len(key), _windows(sequences, window, query)
    parts = zip(_grouped(sequences, query, whole), *_of_keys(sequences, key, value), masks, strict=True)
    return tuple(zip(*(attention(*part, attn_mask=mask, scale=scale) for *part, mask in parts), strict=True))


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
        attended, logs = _fused(sequences, query, key, value, scale, window)
        found = _flattened(attended)
        ctx.save_for_backward(query, key, value, found, *logs)
        ctx.sequences, ctx.settings = sequences, (scale, window)
        return found

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found, *logs = ctx.saved_tensors
        back = _fused_back(ctx.sequences, gradient, query, key, value, found, logs, *ctx.settings)
        return *map(_flattened, back), None, None, None


class _TurnedAttention(torch.autograd.Function):
    """The same for ModernBERT, from stacked projections (tokens, 3, heads, size), whose gradient is one tensor too.

    turn: (tokens, size / 2), see `_turned`.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, stacked: Tensor, turn: Tensor, sequences: Sequences, scale: float, window: int | None
    ) -> Tensor:
        turned = _turned(stacked[:, :2], turn[:, None, None])
        attended, logs = _fused(sequences, *turned.unbind(1), stacked[:, 2], scale, window)
        found = _flattened(attended)
        ctx.save_for_backward(stacked, turned, turn, found, *logs)
        ctx.sequences, ctx.settings = sequences, (scale, window)
        return found

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        stacked, turned, turn, found, *logs = ctx.saved_tensors
        back = _fused_back(ctx.sequences, gradient, *turned.unbind(1), stacked[:, 2], found, logs, *ctx.settings)
        whole = torch.empty_like(stacked)
        both = torch.empty_like(turned)
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


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def unpad(encoder: PreTrainedModel) -> PreTrainedModel:
    """Let an encoder attend in flat batches where this module knows its architecture, and return it.

    Weights and their names stay; ModernBERT's attention modules become `_TurningAttention`.
    """
    if encoder.config.model_type in STACKS:
        encoder.set_attn_implementation(NAME)
    for module in encoder.modules():
        if type(module) is ModernBertAttention:
            module.__class__ = _TurningAttention
    return encoder


def is_unpadded(encoder: PreTrainedModel) -> bool:
    """Say whether `mean_states` and `states` run this encoder without padding."""
    return encoder.config._attn_implementation == NAME


def computed(encoder: PreTrainedModel, lengths: np.ndarray) -> int:
    """Return the tokens that an encoder computes for a batch of sequences of these lengths, padding included."""
    return int(lengths.sum() if is_unpadded(encoder) else len(lengths) * lengths.max(initial=0))


class Inputs(NamedTuple):
    """What an encoder reads: a flat batch with its sequences, or a padded one with its mask.

    ids, segments: (1, tokens) or (sequences, width). Of a padded batch alone, mask: (sequences, width), and read:
    (sequences,), how many tokens the mean is of.
    """

    ids: Tensor
    segments: Tensor | None
    sequences: Sequences | None
    mask: Tensor | None
    read: Tensor | None

    @classmethod
    def of(
        cls, encoder: PreTrainedModel, ids: Tensor, mask: Tensor, read: Tensor, segments: Tensor | None = None
    ) -> Inputs:
        """Return what this encoder reads of ids, mask and segments (sequences, width), padded on the right.

        read: (sequences,), how many of each one's first tokens are read. All stays in the host's memory, where what
        stands where is found out.
        """
        if not is_unpadded(encoder):
            return cls(ids, segments, None, mask, read)
        sequences = Sequences.of(mask.sum(1).numpy(), ids.shape[1], read.numpy())
        return cls(sequences.flat(ids), None if segments is None else sequences.flat(segments), sequences, None, None)

    def to(self, device: torch.device) -> Inputs:
        """Return the same on a device."""
        return Inputs(*(part if part is None else _on(part, device) for part in self))


def _on(part: Tensor | Sequences, device: torch.device) -> Tensor | Sequences:
    return part.to(device) if isinstance(part, Sequences) else sent(part, device)


def mean_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Return the mean of the last states of every sequence's tokens that are read: (sequences, hidden)."""
    inputs = inputs.to(encoder.device)
    if inputs.sequences is not None:
        return inputs.sequences.means(_last_states(encoder, inputs))
    named = {} if inputs.segments is None else {"token_type_ids": inputs.segments}
    states = encoder(input_ids=inputs.ids, attention_mask=inputs.mask, **named).last_hidden_state
    weights = (torch.arange(states.shape[1], device=states.device) < inputs.read[:, None]).to(states).unsqueeze(-1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def states(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return all last states (sequences, width, hidden), and zeros where there is padding, of ids and mask (sequences,
    width) in the host's memory.
    """
    inputs = Inputs.of(encoder, ids, mask, mask.sum(1)).to(encoder.device)
    if inputs.sequences is None:
        found = encoder(input_ids=inputs.ids, attention_mask=inputs.mask).last_hidden_state
        return found * inputs.mask.to(found).unsqueeze(-1)
    flat = _last_states(encoder, inputs)
    return flat.new_zeros(ids.numel(), flat.shape[1]).index_copy(0, inputs.sequences.taken, flat).view(*ids.shape, -1)


def _last_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    return STACKS[encoder.config.model_type](encoder, inputs.ids, inputs.sequences, inputs.segments)[0]


def _prunes(layer: nn.Module, sequences: Sequences) -> bool:
    """Say whether a last layer may leave tokens out; weights that are divided among processes come by whole layers."""
    divided = hasattr(next(layer.parameters()), "full_tensor")
    return not divided and len(sequences.prefixes) < len(sequences.taken)


def _bert(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> Tensor:
    position_ids = sequences.positions[None]
    hidden = encoder.embeddings(input_ids=ids, token_type_ids=segments, position_ids=position_ids)
    *layers, last = encoder.encoder.layer
    for layer in layers:
        hidden = layer(hidden, sequences=sequences)
    if not _prunes(last, sequences):
        return sequences.chosen(last(hidden, sequences=sequences))
    attention, prefixes = last.attention.self, hidden.index_select(1, sequences.prefixes)
    projected = attention.query(prefixes), attention.key(hidden), attention.value(hidden)
    query, key, value = (_headed(part, attention.attention_head_size) for part in projected)
    dropout = attention.dropout.p if attention.training else 0.0
    attended, _ = attend(attention, query, key, value, None, sequences, dropout, attention.scaling)
    attended, read = (part.index_select(1, sequences.read) for part in (attended.flatten(2), prefixes))
    return last.feed_forward_chunk(last.attention.output(attended, read))


def _headed(flat: Tensor, size: int) -> Tensor:
    """Return (1, heads, tokens, size) of (1, tokens, heads × size)."""
    return flat.unflatten(-1, (-1, size)).transpose(1, 2)


class _TurningAttention(ModernBertAttention):
    """ModernBERT's attention, whose queries and keys turn as complex numbers, in two passes over memory and not ten."""

    def forward(
        self, hidden: Tensor, position_embeddings: Tensor, sequences: Sequences | None = None, **others: object
    ) -> tuple[Tensor, None]:
        if sequences is None:
            return super().forward(hidden, position_embeddings, **others)
        stacked = self.Wqkv(hidden).unflatten(-1, (3, -1, self.head_dim))
        dropout = self.attention_dropout if self.training else 0.0
        if stacked.device.type == "cpu" and not dropout:
            turn, scaling = position_embeddings, self.head_dim**-0.5
            attended = _TurnedAttention.apply(stacked[0], turn, sequences, scaling, self.sliding_window)
            return self.out_drop(self.Wo(attended.flatten(1)[None])), None
        query, key = _turned(stacked[:, :, :2], position_embeddings[:, None, None]).unbind(2)
        return self.read(query, key, stacked[:, :, 2], sequences), None

    def read(
        self, query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, only: Tensor | None = None
    ) -> Tensor:
        """Return what tokens read, (1, tokens, hidden), from parts (1, tokens, heads, size); `only`: that is needed."""
        parts = (part.transpose(1, 2) for part in (query, key, value))
        dropout, scaling = self.attention_dropout if self.training else 0.0, self.head_dim**-0.5
        attended, _ = attend(self, *parts, None, sequences, dropout, scaling, self.sliding_window)
        attended = attended.flatten(2)
        return self.out_drop(self.Wo(attended if only is None else attended.index_select(1, only)))


def _turned(states: Tensor, turn: Tensor) -> Tensor:
    """Return states of heads (…, size) turned by their positions, with halves interleaved; turn: (…, size / 2).

    Queries and keys are interleaved alike, which leaves their products as they are.
    """
    first, second = states.float().chunk(2, dim=-1)
    return torch.view_as_real(torch.complex(first, second) * turn).flatten(-2).to(states.dtype)


def _turns(encoder: PreTrainedModel, like: Tensor, sequences: Sequences) -> dict[str, Tensor]:
    """Return how far every token's states turn in each kind of layer: (tokens, size / 2), complex."""
    places = torch.arange(sequences.groups[-1].length, device=like.device)[None]
    turns = {}
    for kind in set(encoder.config.layer_types):
        cosine, sine = (part[0].float().chunk(2, dim=-1)[0] for part in encoder.rotary_emb(like, places, kind))
        turns[kind] = torch.complex(cosine, sine)[sequences.positions]
    return turns


def _modernbert(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> Tensor:
    hidden = encoder.embeddings(input_ids=ids)
    turns = _turns(encoder, hidden, sequences)
    *layers, last = encoder.layers
    for layer in layers:
        hidden = layer(hidden, position_embeddings=turns[layer.attention_type], sequences=sequences)
    turn = turns[last.attention_type]
    stacked = isinstance(last.attn.Wqkv.weight, Tensor)  # and no integers
    if not stacked or not _prunes(last, sequences):
        hidden = last(hidden, position_embeddings=turn, sequences=sequences)
        return encoder.final_norm(sequences.chosen(hidden))
    attention, normed, prefixes = last.attn, last.attn_norm(hidden), sequences.prefixes
    weights = zip(*(_chunks(part) for part in (attention.Wqkv.weight, attention.Wqkv.bias)), strict=True)
    inputs = (normed.index_select(1, prefixes), normed, normed)
    projected = (F.linear(part, *weight) for part, weight in zip(inputs, weights, strict=True))
    query, key, value = (part.unflatten(-1, (-1, attention.head_dim)) for part in projected)
    query, key = _turned(query, turn[prefixes][:, None]), _turned(key, turn[:, None])
    read = sequences.chosen(hidden) + attention.read(query, key, value, sequences, only=sequences.read)
    return encoder.final_norm(read + last.mlp(last.mlp_norm(read)))


def _chunks(stacked: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the query's, key's and value's part of a stacked weight or bias."""
    return (None, None, None) if stacked is None else stacked.chunk(3)


def _t5(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> Tensor:
    longest = sequences.groups[-1].length
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(longest, longest, device=ids.device)
    hidden = encoder.dropout(encoder.embed_tokens(ids))
    for block in encoder.block:
        hidden, *_ = block(hidden, position_bias=bias, sequences=sequences)
    return encoder.dropout(encoder.final_layer_norm(sequences.chosen(hidden)))


Stack = Callable[[PreTrainedModel, Tensor, Sequences, Tensor | None], Tensor]
STACKS: dict[str, Stack] = {"bert": _bert, "modernbert": _modernbert, "t5": _t5}
