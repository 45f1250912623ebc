"""The cross-encoder: any transformers encoder that reads a query and a document together, and a head of our own."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .classifier import READS, TransformersHead, split
from .flat_encoders import Inputs, mean_states, unpad


class CrossEncoder(nn.Module):
    """Score a query and a document read together: a head on what it reads of the encoder's last states.

    ``reads`` is ``"query"``, the mean over the query, which lets a small new model see at once which words the document
    holds; ``"cls"``, the state of the first token, as monoBERT does (arXiv 1901.04085); or ``"mean"``, of all tokens.
    ``encoder`` is any transformers encoder (``AutoModel.from_config`` or ``from_pretrained``). ``head`` makes scores
    (pairs, 1) of what is read (pairs, hidden): a linear layer, or that of transformers' classifiers.
    """

    shares_queries = False  # whether candidates that stand in one batch share what is computed of their query

    def __init__(
        self,
        encoder: PreTrainedModel,
        reads: Literal["query", "cls", "mean", "last"] = "query",
        head: nn.Linear | TransformersHead | None = None,
    ) -> None:
        """Wrap ``encoder``; a new head starts at zero, so that a new model scores every pair the same."""
        super().__init__()
        self.encoder = unpad(encoder)
        self.reads = reads
        self.reads_segments = getattr(encoder.config, "type_vocab_size", 0) > 1
        self.head = _zeros(encoder.config.hidden_size) if head is None else head

    @classmethod
    def of(cls, classifier: PreTrainedModel) -> CrossEncoder:
        """Return one of transformers' classifiers with one label as a cross-encoder, head included; it is used up."""
        encoder, head = split(classifier)
        return cls(encoder, READS[getattr(encoder.config, "classifier_pooling", "cls")], head)

    def inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        of_query: Tensor | None = None,
    ) -> Inputs:
        """Return what is read of token ids, attention mask and segment ids, each (pairs, tokens) and on the host,
        padded on the right.

        of_query: (pairs,), how many of their tokens stand before the document; absent: those of segment 0, or all.
        """
        if of_query is None:
            of_query = (attention_mask if token_type_ids is None else attention_mask * (token_type_ids == 0)).sum(1)
        read = {"cls": torch.ones_like(of_query), "query": of_query, "mean": attention_mask.sum(1)}[self.reads]
        segments = token_type_ids if self.reads_segments else None
        return Inputs.of(self.encoder, input_ids, attention_mask, read, segments)

    def forward(self, *given: Inputs | Tensor) -> Tensor:
        """Return raw scores (pairs,) from `inputs`, or from what makes them."""
        inputs = given[0] if isinstance(given[0], Inputs) else self.inputs(*given)
        read = self.pooled(inputs)
        return self.head(read.to(next(self.head.parameters()).dtype)).squeeze(
            -1
        )  # an encoder may be of another precision

    def pooled(self, inputs: Inputs) -> Tensor:
        """Return what is read of every pair: (pairs, hidden)."""
        return mean_states(self.encoder, inputs)


def _zeros(width: int) -> nn.Linear:
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def initialise_cross_encoder(
    model: CrossEncoder, seed: int | None = None, copy_logit: float = 6.5, prior: float = 1 / 6
) -> CrossEncoder:
    """Initialise a small BERT or ModernBERT so that it matches words from the start: tokens attend to their copies.

    Query and key projections (width, width) are near a multiple of the identity ("mimetic" initialisation, arXiv
    2305.09828), such that a token and its copy have the attention logit ``copy_logit`` whatever the size of a head;
    token embeddings (vocabulary, width) have unit variance; the segment embeddings (2, width) are small and opposite,
    so that what a query's token attends to tells whether the document holds it. ModernBERT turns queries and keys by
    their positions, which weakens the match of distant copies; BERT is the better small model here. The head's bias
    starts at the log-odds of ``prior``, the share of relevant pairs in training, or else pointwise training spends its
    first steps lowering every score and unlearns to match (arXiv 1708.02002). ``seed`` None draws from torch's global
    generator.
    """
    if seed is not None:
        torch.manual_seed(seed)
    encoder = model.encoder
    width, heads = encoder.config.hidden_size, encoder.config.num_attention_heads

    nn.init.constant_(model.head.bias, math.log(prior / (1 - prior)))
    nn.init.normal_(encoder.get_input_embeddings().weight, std=1.0)
    if model.reads_segments:
        segment = 0.25 * torch.randn(width)
        encoder.embeddings.token_type_embeddings.weight.copy_(torch.stack([segment, -segment]))

    # A normalised state has squared length width: under identity projections its logit with a copy is √(width/heads).
    scale = (copy_logit / (width / heads) ** 0.5) ** 0.5
    for layer in encoder.encoder.layer if hasattr(encoder, "encoder") else encoder.layers:
        for linear in (module for module in layer.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(linear.weight, std=0.5 * linear.in_features**-0.5)
        for projection in _query_and_key(layer):
            nn.init.normal_(projection, std=0.1 * width**-0.5)
            projection.add_(scale * torch.eye(width))
    return model


def _query_and_key(layer: nn.Module) -> tuple[Tensor, ...]:
    """Return a layer's query and key weights, each (width, width); ModernBERT stacks query, key and value."""
    if hasattr(layer, "attn"):
        return layer.attn.Wqkv.weight.chunk(3)[:2]
    attention = layer.attention.self
    return attention.query.weight, attention.key.weight
