"""Encoders over one flat batch: sequence after sequence without padding, and no more work than what is read needs.

BERT, ModernBERT and T5 encoders of transformers run with their own layers, which call `attend`, registered with
transformers' AttentionInterface, and see one batch of all sequences' tokens; ModernBERT's attention is a subclass.
The last layer of BERT and ModernBERT computes only the tokens that are read, such as [CLS] or the query; its keys and
values alone are of all tokens.

Encoders of other architectures read padded batches and end with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention

from rankscale_utils.machine.transfer import send

from .flat_attention import ATTENTION, TurnedAttention, attend, turned
from .flat_batch import Sequences

Stack = Callable[[PreTrainedModel, Tensor, Sequences, Tensor | None], Tensor]


def unpad(encoder: PreTrainedModel) -> PreTrainedModel:
    """Let an encoder attend in flat batches where this module knows its architecture, and return it.

    Weights and their names stay; ModernBERT's attention modules become `_TurningAttention`.
    """
    if encoder.config.model_type in STACKS:
        encoder.set_attn_implementation(ATTENTION)
    for module in encoder.modules():
        if type(module) is ModernBertAttention:
            module.__class__ = _TurningAttention
    return encoder


def is_unpadded(encoder: PreTrainedModel) -> bool:
    """Say whether `mean_states` and `states` run this encoder without padding."""
    return encoder.config._attn_implementation == ATTENTION


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
    return part.to(device) if isinstance(part, Sequences) else send(part, device)


def mean_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Return the mean of the last states of every sequence's tokens that are read: (sequences, hidden)."""
    inputs = inputs.to(encoder.device)
    if inputs.sequences is not None:
        return inputs.sequences.means(_last_states(encoder, inputs))
    named = {} if inputs.segments is None else {"token_type_ids": inputs.segments}
    states = encoder(input_ids=inputs.ids, attention_mask=inputs.mask, **named).last_hidden_state
    weights = (torch.arange(states.shape[1], device=states.device) < inputs.read[:, None]).to(states).unsqueeze(-1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def token_states(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
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
            attended = TurnedAttention.apply(stacked[0], turn, sequences, scaling, self.sliding_window)
            return self.out_drop(self.Wo(attended.flatten(1)[None])), None
        query, key = turned(stacked[:, :, :2], position_embeddings[:, None, None]).unbind(2)
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
    query, key = turned(query, turn[prefixes][:, None]), turned(key, turn[:, None])
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


STACKS: dict[str, Stack] = {"bert": _bert, "modernbert": _modernbert, "t5": _t5}
