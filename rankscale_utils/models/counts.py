"""Honest counts: parameters from unique tensors, floating-point operations from real tokens."""

from dataclasses import dataclass

import numpy as np
from torch import nn
from transformers import PreTrainedModel


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
    """Forward operations of one pair: `per_token`·L + `per_token_pair`·L² + `per_pair` for L tokens."""

    per_token: float
    per_token_pair: float
    per_pair: float

    def forward(self, lengths: np.ndarray) -> np.ndarray:
        """Forward FLOPs of pairs of these lengths: (pairs,)."""
        lengths = np.asarray(lengths, float)
        return self.per_token * lengths + self.per_token_pair * lengths**2 + self.per_pair


def encoder_flops(encoder: nn.Module, *once: nn.Module) -> Flops:
    """Return the FLOPs of an encoder: two a weight and token in matrix products, 4·L²·hidden a layer in attention.

    The encoder's linear layers see every token, those of `once` a single state. Norms, activations and softmax are left
    out, as is usual.
    """
    per_token, per_text = (
        sum(2 * m.weight.numel() for part in parts for m in part.modules() if isinstance(m, nn.Linear))
        for parts in ([encoder], once)
    )
    return Flops(per_token, 4 * encoder.config.hidden_size * encoder.config.num_hidden_layers, per_text)


def pass_flops(model: nn.Module) -> Flops:
    """Return the FLOPs of a cross-encoder, whose head sees the pooled state alone."""
    return encoder_flops(model.encoder, model.head)
