"""The bi-encoder: any transformers encoder that reads queries and documents apart, pooled and projected."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .counts import Flops, encoder_flops
from .flat_encoders import Inputs, mean_states, unpad

DIMENSIONS = 768  # of the embeddings of every rung, so that rungs differ in their encoders alone (arXiv 2403.18684)


class BiEncoder(nn.Module):
    """Embed a text: the mean of its last states, or the first of them, and a linear projection.

    ``encoder`` is any transformers encoder (``AutoModel.from_config`` or ``from_pretrained``). Queries and documents
    share the model; the inner product of their embeddings is their score. Source: arXiv 2403.18684, §3.
    ``projection`` is what a finished bi-encoder has instead (`own_layers`): it makes ``dimensions`` of what is pooled.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        dimensions: int = DIMENSIONS,
        pooling: Literal["mean", "cls"] = "mean",
        projection: nn.Module | None = None,
    ) -> None:
        """Wrap ``encoder``, projecting to ``dimensions``. Raises ValueError for an unknown pooling."""
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise ValueError(f"pooling is {pooling!r}; use 'mean' or 'cls'")
        self.encoder, self.pooling, self.dimensions = unpad(encoder), pooling, dimensions
        self.projection = nn.Linear(encoder.config.hidden_size, dimensions) if projection is None else projection

    def inputs(self, input_ids: Tensor, attention_mask: Tensor) -> Inputs:
        """Return what is read of token ids and attention mask, each (texts, tokens) and on the host, padded on the
        right.
        """
        read = torch.ones_like(attention_mask[:, 0]) if self.pooling == "cls" else attention_mask.sum(1)
        return Inputs.of(self.encoder, input_ids, attention_mask, read)

    def forward(self, *given: Inputs | Tensor) -> Tensor:
        """Return embeddings (texts, dimensions) from `inputs`, or from what makes them."""
        return self.projection(self.pooled(*given))

    def pooled(self, *given: Inputs | Tensor) -> Tensor:
        """Return what is projected: (texts, hidden)."""
        return mean_states(self.encoder, given[0] if isinstance(given[0], Inputs) else self.inputs(*given))


@torch.no_grad()
def initialise_bi_encoder(
    model: BiEncoder,
    shares: Tensor,
    seed: int | None = None,
    common: float = 1e-3,
    sharpness: float = 40.0,
    branch: float = 0.1,
) -> BiEncoder:
    """Initialise a small BERT or ModernBERT so that it compares texts by their rare words from the start.

    shares (vocabulary,): each token's share of all tokens, and 1 for those that stand in every text. Layers begin near
    the identity: attention and MLP add ``branch`` times as much as usual, and positions nothing. So a text's state is
    the mean of its tokens' embeddings (vocabulary, width), whose length the norms fix at √width: the part common /
    (common + p) of a token with share p points in a direction of its own, as SIF weights words (Arora et al., ICLR
    2017), and the rest in one that all tokens share and the projection does not see. Products with the projection are
    scaled by ``sharpness`` / √width, such that chance resemblances are alike at every width. With CLS pooling a text's
    state begins as that of its first token, so this start is for the mean. ``seed`` None draws from torch's global
    generator. Raises ValueError where shares are not one for each token.
    """
    encoder, projection = model.encoder, model.projection.weight
    words = encoder.get_input_embeddings().weight
    width = words.shape[1]
    if shares.shape != words.shape[:1]:
        raise ValueError(f"shares has shape {tuple(shares.shape)}; give one share for each of {len(words)} tokens")
    if seed is not None:
        torch.manual_seed(seed)

    for table in (module.weight for module in encoder.modules() if isinstance(module, nn.Embedding)):
        nn.init.zeros_(table)
    mean = torch.full((width,), width**-0.5)  # norms take this direction out
    shared = _unit(_without(torch.randn(width), mean))
    own = _unit(_without(_without(torch.randn(words.shape), mean), shared))
    rarity = (common / (common + shares.to(words)))[:, None]
    words.copy_(width**0.5 * (rarity * own + (1 - rarity**2).sqrt() * shared))

    for layer in encoder.encoder.layer if hasattr(encoder, "encoder") else encoder.layers:
        for linear in (module for module in layer.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for last in _last_of_branches(layer):
            last.weight.mul_(branch)
    nn.init.orthogonal_(projection, gain=(sharpness / width**0.5) ** 0.5)
    projection.copy_(_without(projection, shared))
    nn.init.zeros_(model.projection.bias)
    return model


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors, dim=-1)


def _without(vectors: Tensor, direction: Tensor) -> Tensor:
    """Vectors (..., width) less what they have of a direction (width,) of length one."""
    return vectors - (vectors @ direction)[..., None] * direction


def _last_of_branches(layer: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """Return the layers whose outputs attention and MLP add to the states."""
    if hasattr(layer, "attn"):
        return layer.attn.Wo, layer.mlp.Wo
    return layer.attention.output.dense, layer.output.dense


def bi_encoder_flops(model: BiEncoder) -> Flops:
    """Return the FLOPs of embedding one text, whose pooled state is projected."""
    return encoder_flops(model.encoder, model.projection)
