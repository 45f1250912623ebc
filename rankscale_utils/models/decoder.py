"""Decoders as cross-encoders: a prompt holds query and document, and the state of its last token is the score's.

Two heads make a score of it: the linear one of transformers' `AutoModelForSequenceClassification`, or the logit of a
word such as yes less that of no, of `AutoModelForCausalLM`. Either way a checkpoint is one of that class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from .causal_attention import CAUSAL
from .causal_batch import CausalBatch
from .classifier import TransformersHead
from .cross_encoder import CrossEncoder
from .flat_encoders import Inputs, padded_last_states
from .pretrained import is_decoder

# Whose forward pass hands what it is given on to its attention, and whose attention is a function of ours.
FLAT = ("gemma", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")


class LinearHead(TransformersHead):
    """The linear layer of a decoder's `AutoModelForSequenceClassification`."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        """Take the layer of a classifier with one label."""
        super().__init__(classifier.base_model_prefix)
        self.score = classifier.score

    def forward(self, states: Tensor) -> Tensor:
        """Return raw scores (texts, 1) of states (texts, hidden)."""
        return self.score(states)

    def own_name(self, name: str) -> str:
        """Return the name in a classifier's files of a tensor of this head."""
        return name


class VerdictHead(TransformersHead):
    """The logit of one word less that of another, from the rows that a language model multiplies its states with."""

    def __init__(self, model: PreTrainedModel, verdict: tuple[int, int]) -> None:
        """Take a model's output rows; verdict: the ids of the words that say relevant and not."""
        super().__init__(model.base_model_prefix)
        embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
        tied = output.weight is embeddings.weight
        self.verdict, self.words = verdict, embeddings if tied else nn.Embedding.from_pretrained(output.weight, False)
        rows = embeddings if tied else output
        self.rows = next(name for name, module in model.named_modules() if module is rows)

    def forward(self, states: Tensor) -> Tensor:
        """Return raw scores (texts, 1) of states (texts, hidden)."""
        relevant, other = self.verdict
        return nn.functional.linear(states, (self.words.weight[relevant] - self.words.weight[other])[None])

    def own_name(self, name: str) -> str:
        """Return the name in a language model's files of a tensor of this head."""
        return f"{self.rows}.weight"


class DecoderReranker(CrossEncoder):
    """Score a query and a document in one prompt, by the state of its last token.

    Where candidates of one query stand in one batch, what the prompt holds before the document is computed once.
    """

    def __init__(self, encoder: PreTrainedModel, reads: str, head: TransformersHead) -> None:
        """Wrap a decoder without its head as `encoder`; reads is "last"."""
        super().__init__(encoder, reads, head)
        self.reads_segments = False
        if encoder.config.model_type in FLAT:
            encoder.set_attn_implementation(CAUSAL)

    @property
    def shares_queries(self) -> bool:
        """Whether candidates that stand in one batch share what is computed of their query."""
        return self.encoder.config._attn_implementation == CAUSAL

    @classmethod
    def of(cls, model: PreTrainedModel) -> DecoderReranker:
        """Return one of transformers' classifiers with one label, or a language model whose configuration names the ids
        of its `verdict`; the model is used up.
        """
        model.base_model.config.architectures = [type(model).__name__]
        verdict = getattr(model.config, "verdict", None)
        head = VerdictHead(model, tuple(verdict)) if verdict else LinearHead(model)
        return cls(model.base_model, "last", head)

    def inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        of_query: Tensor | None = None,
    ) -> Inputs:
        """Return what is read of token ids and attention mask, each (pairs, tokens) and on the host, padded on the
        right.

        of_query: (pairs,), how many of their tokens stand before the document, which candidates of a query share.
        """
        read = self._read(input_ids, attention_mask)
        if not self.shares_queries:
            return Inputs.of(self.encoder, input_ids, attention_mask, read)
        lengths = attention_mask.sum(1).clamp(min=1).numpy()  # of a pair without any token its padding is read
        shared = torch.zeros_like(read) if of_query is None else of_query
        sequences = CausalBatch.of(input_ids.numpy(), lengths, shared.numpy(), read.numpy())
        return Inputs(sequences.flat(input_ids), None, sequences)

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return how many tokens there are up to the one that is read: (pairs,).

        A linear head reads the last one that is not the padding's, as transformers' classifiers do.
        """
        padding = self.encoder.config.pad_token_id
        if isinstance(self.head, VerdictHead) or padding is None:
            return mask.sum(1)
        words = (mask * (ids != padding)).bool()
        return (words * torch.arange(ids.shape[1])).argmax(1) + 1

    def pooled(self, inputs: Inputs) -> Tensor:
        """Return the state that is read of every pair: (pairs, hidden)."""
        inputs = inputs.to(self.encoder.device)
        if inputs.sequences is None:
            return padded_last_states(self.encoder, inputs)
        unmasked = inputs.ids.new_zeros(1, 1, 1, 1)  # taken as it is, where none would let a mask of all tokens be made
        found = self.encoder(
            input_ids=inputs.ids,
            attention_mask=unmasked,
            position_ids=inputs.sequences.positions[None],
            sequences=inputs.sequences,
            use_cache=False,
        )
        return found.last_hidden_state[0].index_select(0, inputs.sequences.last)


def reranker_of(model: PreTrainedModel) -> CrossEncoder:
    """Return one of transformers' models, of encoders or decoders, as a cross-encoder; it is used up."""
    return (DecoderReranker if is_decoder(model.config) else CrossEncoder).of(model)


def new_reranker(config: PretrainedConfig) -> CrossEncoder:
    """Return a cross-encoder of one of transformers' configurations with random weights and its family's own head."""
    kind = AutoModelForCausalLM if getattr(config, "verdict", None) else AutoModelForSequenceClassification
    return reranker_of(kind.from_config(config))
