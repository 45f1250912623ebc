"""Encoders over one flat batch: sequence after sequence without padding, and no more work than what is read needs.

The encoders of `STACKS` run with transformers' own layers, which call `attend`, registered with its AttentionInterface,
and see one batch of all sequences' tokens; ModernBERT's attention is a subclass. The last layer of BERT, those built
like it and ModernBERT computes only the tokens that are read, such as [CLS] or the query; its keys and values alone are
of all tokens.

Other architectures' attention is no function that could be registered, such as DeBERTa's disentangled one: they read
padded batches of like length and end with the same numbers.
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

from .causal_attention import CAUSAL
from .causal_batch import CausalBatch
from .flat_attention import ATTENTION, TurnedAttention, attend, turned
from .flat_batch import Sequences

Stack = Callable[[PreTrainedModel, Tensor, Sequences, Tensor | None], Tensor]
ALIKE = 1.25  # how much longer than its shortest a padded batch's longest sequence may be


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


def first_position(encoder: PreTrainedModel) -> int:
    """Return the position of a sequence's first token: RoBERTa's and its like begin behind their padding's."""
    return getattr(getattr(encoder, "embeddings", None), "padding_idx", -1) + 1


def is_unpadded(encoder: PreTrainedModel) -> bool:
    """Say whether `mean_states` and `states` run this encoder without padding."""
    return encoder.config._attn_implementation in (ATTENTION, CAUSAL)


def batches_of(encoder: PreTrainedModel) -> str:
    """Say in what batches an encoder reads, for people to read."""
    return "flat, without padding" if is_unpadded(encoder) else "padded, of like length"


def computed(encoder: PreTrainedModel, lengths: np.ndarray) -> int:
    """Return the tokens that an encoder computes for a batch of sequences of these lengths, padding included."""
    if is_unpadded(encoder):
        return int(lengths.sum())
    return sum(len(places) * int(lengths[places].max()) for places in _of_like_length(lengths))


def _of_like_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Return the places of sequences, the shortest first, in batches whose longest is `ALIKE` times the shortest."""
    order = np.argsort(lengths, kind="stable")
    groups = np.floor(np.log(lengths[order]) / np.log(ALIKE))
    return np.split(order, np.flatnonzero(np.diff(groups)) + 1)


class Padded(NamedTuple):
    """Sequences of like length, padded on the right: (sequences, width).

    read: (sequences,), how many of the first tokens are read.
    """

    ids: Tensor
    mask: Tensor
    segments: Tensor | None
    read: Tensor

    def to(self, device: torch.device) -> Padded:
        """Return the same on a device."""
        return Padded(*(None if part is None else send(part, device) for part in self))


class Inputs(NamedTuple):
    """What an encoder reads: a flat batch with its sequences, or padded ones.

    ids, segments: (1, tokens). padded: batches of like length, of `back` (sequences,) says where each sequence stands.
    """

    ids: Tensor | None = None
    segments: Tensor | None = None
    sequences: Sequences | CausalBatch | None = None
    padded: tuple[Padded, ...] = ()
    back: Tensor | None = None

    @classmethod
    def of(
        cls, encoder: PreTrainedModel, ids: Tensor, mask: Tensor, read: Tensor, segments: Tensor | None = None
    ) -> Inputs:
        """Return what this encoder reads of ids, mask and segments (sequences, width), padded on the right.

        read: (sequences,), how many of each one's first tokens are read. All stays in the host's memory, where what
        stands where is found out.
        """
        lengths = mask.sum(1).numpy()
        if is_unpadded(encoder):
            sequences = Sequences.of(lengths, ids.shape[1], read.numpy())
            return cls(sequences.flat(ids), None if segments is None else sequences.flat(segments), sequences)
        groups = _of_like_length(lengths)
        padded = []
        for places in groups:
            cut = np.s_[torch.from_numpy(places), : lengths[places].max()]
            padded.append(Padded(ids[cut], mask[cut], None if segments is None else segments[cut], read[cut[0]]))
        return cls(padded=tuple(padded), back=torch.from_numpy(np.argsort(np.concatenate(groups))))

    def to(self, device: torch.device) -> Inputs:
        """Return the same on a device."""
        parts = (None if part is None else _on(part, device) for part in (self.ids, self.segments, self.sequences))
        back = None if self.back is None else send(self.back, device)
        return Inputs(*parts, tuple(part.to(device) for part in self.padded), back)


def _on(part: Tensor | Sequences | CausalBatch, device: torch.device) -> Tensor | Sequences | CausalBatch:
    return send(part, device) if isinstance(part, Tensor) else part.to(device)


def mean_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Return the mean of the last states of every sequence's tokens that are read: (sequences, hidden)."""
    inputs = inputs.to(encoder.device)
    if inputs.sequences is not None:
        return inputs.sequences.means(_last_states(encoder, inputs))
    return torch.cat([_mean(_padded_states(encoder, batch), batch.read) for batch in inputs.padded])[inputs.back]


def padded_last_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    """Return the last state that is read of every sequence of padded batches on the encoder's device:
    (sequences, hidden).
    """
    states = (_padded_states(encoder, batch)[torch.arange(len(batch.read)), batch.read - 1] for batch in inputs.padded)
    return torch.cat(list(states))[inputs.back]


def _mean(states: Tensor, read: Tensor) -> Tensor:
    weights = (torch.arange(states.shape[1], device=states.device) < read[:, None]).to(states).unsqueeze(-1)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _padded_states(encoder: PreTrainedModel, batch: Padded) -> Tensor:
    named = {} if batch.segments is None else {"token_type_ids": batch.segments}
    return encoder(input_ids=batch.ids, attention_mask=batch.mask, **named).last_hidden_state


def token_states(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return all last states (sequences, width, hidden), and zeros where there is padding, of ids and mask (sequences,
    width) in the host's memory.
    """
    inputs = Inputs.of(encoder, ids, mask, mask.sum(1)).to(encoder.device)
    if inputs.sequences is None:
        width = ids.shape[1]
        states = (_padded_states(encoder, batch) * batch.mask.unsqueeze(-1) for batch in inputs.padded)
        return torch.cat([F.pad(part, (0, 0, 0, width - part.shape[1])) for part in states])[inputs.back]
    flat = _last_states(encoder, inputs)
    return flat.new_zeros(ids.numel(), flat.shape[1]).index_copy(0, inputs.sequences.taken, flat).view(*ids.shape, -1)


def _last_states(encoder: PreTrainedModel, inputs: Inputs) -> Tensor:
    return STACKS[encoder.config.model_type](encoder, inputs.ids, inputs.sequences, inputs.segments)[0]


def _prunes(layer: nn.Module, sequences: Sequences) -> bool:
    """Say whether a last layer may leave tokens out; weights that are divided among processes come by whole layers."""
    divided = hasattr(next(layer.parameters()), "full_tensor")
    return not divided and len(sequences.prefixes) < len(sequences.taken)


def _positions(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences) -> Tensor:
    """Return the positions (1, tokens) that an encoder gives tokens: RoBERTa's skip a padding token within a text."""
    first = first_position(encoder)
    if not first:
        return sequences.positions[None]
    words = (ids != first - 1).long()
    counted = words.cumsum(1)
    begins = torch.arange(ids.shape[1], device=ids.device) - sequences.positions
    before = (counted - words)[:, begins]
    return (counted - before) * words + first - 1


def _bert(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> Tensor:
    """BERT's, and that of all who are built like it."""
    position_ids = _positions(encoder, ids, sequences)
    hidden = encoder.embeddings(input_ids=ids, token_type_ids=segments, position_ids=position_ids)
    if hasattr(encoder, "embeddings_project"):  # ELECTRA's, where embeddings are narrower than states
        hidden = encoder.embeddings_project(hidden)
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


def _whole(encoder: PreTrainedModel, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> Tensor:
    """Run an encoder whose forward pass hands `sequences` on to its attention."""
    named = {} if segments is None else {"token_type_ids": segments}
    found = encoder(input_ids=ids, position_ids=sequences.positions[None], sequences=sequences, **named)
    return sequences.chosen(found.last_hidden_state)


STACKS: dict[str, Stack] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _bert),
    **dict.fromkeys(("albert", "distilbert", "eurobert"), _whole),
    "modernbert": _modernbert,
    **dict.fromkeys(("mt5", "t5"), _t5),  # uMT5's bias by distance, which each layer has, would be of all tokens
}
