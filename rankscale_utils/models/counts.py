"""Honest counts: parameters from unique tensors, floating-point operations from real tokens."""

from dataclasses import dataclass

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Parameters:
    """Parameters of a model; embedding tables are those of tokens, positions and segments."""

    total: int
    non_embedding: int


def parameters(model: nn.Module) -> Parameters:
    """Count each tensor once, however many names it has (tied weights)."""
    unique = {id(tensor): tensor.numel() for tensor in model.parameters()}
    embeddings = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
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

    def training(self, lengths: np.ndarray) -> np.ndarray:
        """Training FLOPs: the backward pass costs twice the forward pass (Kaplan et al., arXiv 2001.08361, §2.1)."""
        return 3 * self.forward(lengths)


def flops(model: nn.Module) -> Flops:
    """Return the FLOPs of a cross-encoder: two a weight and token in matrix products, 4·L²·hidden a layer in attention.

    The encoder's linear layers see every token, the head sees the pooled one. Norms, activations and softmax are left
    out, as is usual.
    """
    encoder, config = model.encoder, model.encoder.config
    in_encoder = sum(2 * m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Linear))
    in_head = sum(2 * m.weight.numel() for m in model.head.modules() if isinstance(m, nn.Linear))
    return Flops(in_encoder, 4 * config.hidden_size * config.num_hidden_layers, in_head)
