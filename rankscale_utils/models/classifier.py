"""transformers' own sequence classifiers, taken apart: an encoder, and the head of its family on one pooled state.

The head of a family (BERT's pooler and linear layer, RoBERTa's two layers, …) runs as transformers has it, on sequences
of a single state: the one that it reads, or the mean where it reads that. So a checkpoint is one of
`AutoModelForSequenceClassification`, and a finished reranker keeps its head.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

READS: dict[str, Literal["cls", "mean"]] = {"cls": "cls", "bos": "cls", "mean": "mean"}  # by `classifier_pooling`


class TransformersHead(nn.Module):
    """What one of transformers' models has on its base model, and what its files call the tensors of both."""

    def __init__(self, prefix: str) -> None:
        """Remember what such a model calls its base model."""
        super().__init__()
        self.prefix = prefix

    def file_name(self, name: str) -> str:
        """Return the name in a model's files of a tensor of a cross-encoder, `encoder.…` or `head.…`."""
        if name.startswith("encoder."):
            return f"{self.prefix}.{name.removeprefix('encoder.')}"
        return self.own_name(name.removeprefix("head."))

    def own_name(self, name: str) -> str:
        """Return the name in a model's files of a tensor of this head."""
        raise NotImplementedError


class Head(TransformersHead):
    """A classifier without its encoder: scores (texts, 1) from pooled states (texts, hidden)."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        """Take the encoder out of `classifier`; what pools in it stays."""
        super().__init__(classifier.base_model_prefix)
        encoder = classifier.base_model
        setattr(classifier, classifier.base_model_prefix, _Pooler(encoder))
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        self.classifier = classifier

    def forward(self, pooled: Tensor) -> Tensor:
        """Return raw scores."""
        states = pooled[:, None]
        return self.classifier(inputs_embeds=states, attention_mask=torch.ones_like(states[..., 0])).logits

    def own_name(self, name: str) -> str:
        """Return the name in a classifier's files of a tensor of this head."""
        return name.removeprefix("classifier.")


class _Pooler(nn.Module):
    """What stands in for an encoder: it returns the states that it is given, and their first one as BERT pools it."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.pooler = getattr(encoder, "pooler", None)
        self.linear = isinstance(self.pooler, nn.Linear)  # ALBERT's, whose activation stands beside it
        self.activation = encoder.pooler_activation if self.linear else None

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> BaseModelOutputWithPooling:
        pooled = None
        if self.linear:
            pooled = self.activation(self.pooler(inputs_embeds[:, 0]))
        elif self.pooler is not None:
            pooled = self.pooler(inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooled)


def split(classifier: PreTrainedModel) -> tuple[PreTrainedModel, Head]:
    """Return a classifier's encoder and head; the classifier itself is used up."""
    encoder = classifier.base_model
    encoder.config.architectures = [type(classifier).__name__]
    return encoder, Head(classifier)


def is_classifier(config: PretrainedConfig) -> bool:
    """Say whether a configuration was saved with a head for sequences."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
