"""Honest counts: parameters from unique tensors, floating-point operations from real tokens."""

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, PreTrainedModel

from .ed2lm_counts import first_word_flops
from .pretrained import bare_encoder, is_decoder

COUNTED = (8, 16, 24)  # tokens of the sequences whose operations are counted


@dataclass(frozen=True)
class Parameters:
    """Parameters of a model; embedding tables are those of tokens, positions and segments, and a vocabulary's rows."""

    total: int
    non_embedding: int


def parameters(model: nn.Module) -> Parameters:
    """Count each tensor once, however many names it has (tied weights).

    The output rows of a language model are a table of its vocabulary, whether they are tied to the embeddings or not.
    """
    unique = {id(tensor): tensor.numel() for tensor in model.parameters()}
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    writers = [m.get_output_embeddings() for m in model.modules() if isinstance(m, PreTrainedModel)]
    tables += [writer.weight for writer in writers if writer is not None]
    embeddings = {id(table): table.numel() for table in tables}
    return Parameters(sum(unique.values()), sum(unique.values()) - sum(embeddings.values()))


@dataclass(frozen=True)
class Flops:
    """Forward operations of sequences: `per_token`·L + `per_token_pair`·L² + `per_pair` for one of L tokens.

    shared: what a batch needs once however many sequences it has, such as DeBERTa's projections of positions, by powers
    of L: (L⁰, L¹, L²). unseen: how many of `per_token_pair` are of layers whose tokens see no further than `reach`,
    which leave out what lies beyond.
    """

    per_token: float
    per_token_pair: float
    per_pair: float
    shared: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unseen: float = 0.0
    reach: int = 0

    def forward(self, lengths: np.ndarray, together: int = 1) -> np.ndarray:
        """Forward FLOPs of sequences of these lengths, `together` in a batch: (sequences,)."""
        lengths = np.asarray(lengths, float)
        beyond = np.maximum(0.0, lengths - self.reach - 1)
        own = self.per_token * lengths + self.per_token_pair * lengths**2 + self.per_pair
        return own + self._shared(lengths) / together - self.unseen * beyond * (beyond + 1)

    def behind(self, shared: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Forward FLOPs of what causal sequences of these lengths have behind `shared` tokens that are computed."""
        own = length - shared
        return self.per_token * own + self.per_token_pair * own * length + self.per_pair

    def padded(self, sequences: int, length: int) -> float:
        """FLOPs that torch counts in a batch of one length, the scores that local attention masks among them."""
        whole = replace(self, unseen=0.0)
        return sequences * float(whole.forward(np.array([length]), sequences)[0])

    def _shared(self, lengths: np.ndarray) -> np.ndarray:
        return sum(part * lengths**power for power, part in enumerate(self.shared))


def encoder_flops(encoder: PreTrainedModel, *once: nn.Module) -> Flops:
    """Return the FLOPs of an encoder as its architecture does them, and of linear layers `once` on a single state.

    Matrix products of forward passes, without weights where that can be, are counted at three lengths, through which a
    polynomial goes: it holds whatever is shared among layers, factorised, gated or relative. Norms, activations and
    softmax are left out, as is usual. Local attention is counted as far as it reaches.
    """
    own = _flops_of(json.dumps(encoder.config.to_dict(), sort_keys=True, default=str))
    linear = sum(2 * m.weight.numel() for part in once for m in part.modules() if isinstance(m, nn.Linear))
    return replace(own, per_pair=own.per_pair + linear)


@cache
def _flops_of(described: str) -> Flops:
    """Return the FLOPs of the encoder that a configuration, as JSON, describes."""
    try:
        encoder, alone, two = _counted(json.loads(described), "meta")
    except (RuntimeError, ValueError, TypeError):  # of some, such as RemBERT, which look into what they are given
        encoder, alone, two = _counted(json.loads(described), "cpu")
    each, shared = _polynomial(np.subtract(two, alone)), _polynomial(np.subtract(np.multiply(2, alone), two))
    local, config = list(getattr(encoder.config, "layer_types", None) or ()).count("sliding_attention"), encoder.config
    sides = 1 if is_decoder(config) else 2  # on which local attention leaves tokens out
    unseen = each[2] / config.num_hidden_layers * local * sides / 2 if local else 0.0
    return Flops(each[1], each[2], each[0], shared, unseen, config.sliding_window if local else 0)


def _counted(config: dict[str, Any], device: str) -> tuple[PreTrainedModel, list[int], list[int]]:
    """Return a configuration's encoder, and its FLOPs at the lengths `COUNTED` for one sequence and for two.

    On the device meta it has no weights, and nothing is computed.
    """
    with torch.device(device):
        encoder = bare_encoder(AutoConfig.for_model(**config)).requires_grad_(False)
    if device == "meta":
        encoder.config.pad_token_id = None  # or else some look into the ids for padding
    alone, two = ([counted_flops(encoder, count, length) for length in COUNTED] for count in (1, 2))
    return encoder, alone, two


def counted_flops(encoder: PreTrainedModel, sequences: int, length: int) -> int:
    """Return the FLOPs that torch counts in one forward pass, with eager attention: not all others are counted."""
    ids, attention = torch.full((sequences, length), 5, device=encoder.device), encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        encoder(input_ids=ids)
    encoder.set_attn_implementation(attention)
    return counter.get_total_flops()


def _polynomial(values: np.ndarray) -> tuple[float, float, float]:
    """Return the coefficients (L⁰, L¹, L²) of the polynomial through values at the lengths `COUNTED`, equally apart."""
    first, step = COUNTED[0], COUNTED[1] - COUNTED[0]
    square = float(values[2] - 2 * values[1] + values[0]) / (2 * step**2)
    linear = float(values[1] - values[0]) / step - square * (2 * first + step)
    return float(values[0]) - linear * first - square * first**2, linear, square


def pass_flops(model: nn.Module) -> Flops:
    """Return the FLOPs of a cross-encoder, whose head sees the pooled state alone; a T5's decoder reads all states."""
    own = encoder_flops(model.encoder, model.head)
    if not hasattr(model, "decoder"):
        return own
    fixed, per_token = first_word_flops(model.decoder.config)
    return replace(own, per_token=own.per_token + per_token, per_pair=own.per_pair + fixed)
