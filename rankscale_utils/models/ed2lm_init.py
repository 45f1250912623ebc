"""The start of a tiny ED2LM that is trained from scratch: it matches words, and guesses queries, before any training.

T5 has neither segment embeddings nor biases, so two directions of its states stand for what a BERT has those for. The
common direction c is what all words share, frequent ones more than rare ones, and all that a document's end token has.
The match direction m is what no embedding has: cross-attention writes it and the verdict reads it. Each head's part of
a state has both, and words in the dimensions that are left.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5Attention, T5DenseActDense, T5DenseGatedActDense

from .ed2lm import Ed2lm

RAREST = 0.97  # the share of its length that a word's own direction has at most, so that every word reaches the end


class Directions(NamedTuple):
    """How states of a width are divided, alike in every head.

    common, match: (width,) c and m, of length one; onto_common, onto_match, onto_words: (width, width) projections of
    each head's part on c, m and the rest; common_to_match: (width, width) takes c to m in each head; turn: (width,
    width) a random rotation of each head's rest.
    """

    common: Tensor
    match: Tensor
    onto_common: Tensor
    onto_match: Tensor
    onto_words: Tensor
    common_to_match: Tensor
    turn: Tensor

    @classmethod
    def of(cls, heads: int, size: int) -> "Directions":
        """Return the directions of states with so many heads of so many dimensions."""
        c = torch.full((size,), size**-0.5)
        m = c * (1 - 2 * (torch.arange(size) % 2))
        words = torch.linalg.qr(torch.cat([torch.stack([c, m], 1), torch.randn(size, size - 2)], 1)).Q[:, 2:]
        rotation = torch.linalg.qr(torch.randn(size - 2, size - 2)).Q
        blocks = c.outer(c), m.outer(m), words @ words.T, m.outer(c), words @ rotation @ words.T
        whole = (torch.block_diag(*[block] * heads) for block in blocks)
        return cls(c.repeat(heads) / heads**0.5, m.repeat(heads) / heads**0.5, *whole)


@torch.no_grad()
def initialise_ed2lm(
    model: Ed2lm,
    shares: Tensor,
    seed: int | None = None,
    copy_logit: float = 12.0,
    common: float = 2e-3,
    verdict: float = 3.0,
    branch: float = 0.25,
) -> Ed2lm:
    """Initialise a small T5 so that it matches words and is a language model of its document from the start.

    shares (vocabulary,): each token's share of all tokens, above 0, and 1 for those that are no words: the end token,
    which every document needs and no text holds, the start token, `true` and `false`.

    * Embeddings are √width long, as the norms leave states. Of a word with share p the part common / (common + p) has
      a direction of its own, as SIF weights words (Arora et al., ICLR 2017), and the rest is along c.
    * In the decoder's first layer queries attend to their copies: projections are near a multiple of the identity
      ("mimetic" initialisation, arXiv 2305.09828), such that a rare word and its copy have the logit `copy_logit`. A
      word that the document lacks attends to the end token. The c of what is found is written as −m: much of it for
      the end, little for a rare word.
    * In the decoder's last layer self-attention averages m over the query. The verdict's rows are ±m, with a logit from
      −`verdict` (nothing matched) to 0: negative, as most pairs are not relevant (arXiv 1708.02002).
    * In the decoder's last layer cross-attention averages the document's words, and self-attention the query's c. Where
      output rows are not tied they are the words' own directions, turned by a rotation that cross-attention applies too
      (so that no word predicts itself), and log p along c: training starts near the unigrams' likelihood, whose
      gradient would otherwise undo the match.

    All else adds `branch` times as much as is usual in a new network. `seed` None draws from torch's global generator.

    Raises:
        ValueError: shares are not one for each token, heads do not divide the width into parts of 4 or more dimensions,
            or the decoder has one layer, after whose cross-attention no self-attention averages over the query.
    """
    config, embeddings = model.t5.config, model.t5.shared.weight
    _check(model, shares)
    if seed is not None:
        torch.manual_seed(seed)
    _quiet(model, branch)

    directions = Directions.of(config.num_heads, config.d_kv)
    shares = shares.to(embeddings)
    rarity = (RAREST * common / (common + shares))[:, None]
    words = torch.randn(embeddings.shape) @ directions.onto_words
    words = F.normalize(words.unflatten(1, (config.num_heads, -1)), dim=-1).flatten(1) / config.num_heads**0.5
    embeddings.copy_(config.d_model**0.5 * (rarity * words + (1 - rarity**2).sqrt() * directions.common))

    _match(model.t5.decoder.block[0].layer[1].EncDecAttention, directions, copy_logit)
    _summarise(model.t5.decoder.block[-1], directions)
    if model.t5.lm_head.weight is not embeddings:
        plain = torch.where(shares < 1, shares, shares.min())
        prior = (plain / plain.max()).log() * config.d_model**-0.5
        model.t5.lm_head.weight.copy_(rarity * words @ directions.turn.T + prior[:, None] * directions.common)
    _verdict(model, directions, verdict)
    return model


def _check(model: Ed2lm, shares: Tensor) -> None:
    """Raise ValueError for what `initialise` can not start."""
    config, tokens = model.t5.config, len(model.t5.shared.weight)
    if shares.shape != (tokens,):
        raise ValueError(f"shares has shape {tuple(shares.shape)}; give one share for each of {tokens} tokens")
    if config.num_heads * config.d_kv != config.d_model or config.d_kv < 4:
        raise ValueError(
            f"{config.num_heads} heads of {config.d_kv} dimensions do not make a width of {config.d_model} from parts "
            "of 4 or more; choose heads that do"
        )
    if len(model.t5.decoder.block) < 2:
        raise ValueError("the decoder has one layer; give it two, of which the second averages over the query")


def _quiet(model: Ed2lm, branch: float) -> None:
    """Draw every matrix of the layers small, attention nearly even, and let distances matter nothing."""
    for layer in (*model.t5.encoder.modules(), *model.t5.decoder.modules()):
        if isinstance(layer, T5Attention):
            _draw(layer.q, 0.1)
            _draw(layer.k, 0.1)
            _draw(layer.v, 0.5)
            _draw(layer.o, 0.5 * branch)
            if layer.has_relative_attention_bias:
                nn.init.zeros_(layer.relative_attention_bias.weight)
        elif isinstance(layer, T5DenseActDense | T5DenseGatedActDense):
            for linear in (part for part in layer.children() if isinstance(part, nn.Linear)):
                _draw(linear, 0.5 * branch if linear is layer.wo else 0.5)


def _draw(linear: nn.Linear, gain: float) -> None:
    """Draw a matrix that makes of inputs of unit variance outputs of the standard deviation `gain`."""
    nn.init.normal_(linear.weight, std=gain * linear.in_features**-0.5)


def _match(attention: T5Attention, directions: Directions, copy_logit: float) -> None:
    """Let words attend to their copies, or else to the end token, and write c as −m."""
    # A state's part in a head has squared length d_kv. Products along c count half as much again as words' own, so
    # that words which the document lacks prefer the end token to words that are as common as they are.
    alike = directions.onto_words + 1.5**0.5 * directions.onto_common
    for projection in (attention.q, attention.k):
        projection.weight.add_((copy_logit / attention.key_value_proj_dim) ** 0.5 * alike)
    gain = 0.7**0.5  # well below one, so that the norms after it do not level m
    attention.v.weight.add_(gain * directions.onto_common)
    attention.o.weight.sub_(gain * directions.common_to_match)


def _summarise(block: nn.Module, directions: Directions) -> None:
    """Let a decoder layer average m and c over the query, and the document's words."""
    over_query, over_document = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
    average = 1.5**0.5 * directions.onto_match + 2**0.5 * directions.onto_common
    for linear in (over_query.v, over_query.o):
        linear.weight.add_(average)
    over_document.v.weight.add_(directions.onto_words)
    over_document.o.weight.add_(directions.turn)


def _verdict(model: Ed2lm, directions: Directions, verdict: float) -> None:
    """Set the output rows of `true` and `false`, such that a state of nothing but m has the logit `verdict`."""
    row = 0.5 * verdict / (model.t5.config.d_model**0.5 * model.output_scale) * directions.match
    model.t5.lm_head.weight[model.setting.true_id] = row
    model.t5.lm_head.weight[model.setting.false_id] = -row
