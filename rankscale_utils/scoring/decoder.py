"""ED2LM's decoder as a scorer of its own: one query against the stored states of K documents, in one batch.

T5's decoder, written out: pre-norm layers of causal self-attention (relative position bias, no scale), cross-attention
and a feed-forward block. What the K documents share is computed once: up to the first cross-attention a query's states
are the same for all. The last layer is computed where it is read.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.models.t5.modeling_t5 import T5Block

from rankscale_utils.models.ed2lm import Ed2lm, combine_scores
from rankscale_utils.study.objectives import SCORES

from .cross_attention import WAYS, CandidateGroup, Candidates, Projections, attend_candidates, by_head

ACTIVATIONS = {"relu": torch.relu_, "gelu_new": partial(F.gelu, approximate="tanh")}  # of T5 and v1.1, one pass each
VOCABULARY_ROWS = 128  # logits (rows, vocabulary) at once: 16 MB of T5's, which caches hold


class Layer(NamedTuple):
    """A decoder layer's matrices, each (out, in); norms' weights are multiplied into the matrices that follow them."""

    query: Tensor
    key_value: Tensor
    out: Tensor
    cross_query: Tensor
    cross: Projections
    cross_out: Tensor
    wide: Tensor  # both matrices of a gated block, one below the other
    narrow: Tensor
    gated: bool


class DecoderScorer:
    """Scores a query's documents from their stored states; takes the weights as they are at that moment."""

    def __init__(self, model: Ed2lm, way: str = "absorbed", dtype: torch.dtype = torch.float32) -> None:
        """Take the decoder's weights of `model`. way: how to attend to documents, one of `cross_attention.WAYS`."""
        decoder, config, setting = model.t5.decoder, model.t5.config, model.setting
        self.attend_to_documents = WAYS[way]
        self.heads, self.epsilon = config.num_heads, config.layer_norm_epsilon
        self.activation = ACTIVATIONS.get(config.dense_act_fn, ACT2FN[config.dense_act_fn])
        self.start_id = config.decoder_start_token_id
        with torch.no_grad():
            self.embedding = model.t5.shared.weight.to(dtype)
            self.layers = [_layer(block, config.num_heads, dtype) for block in decoder.block]
            self.final_norm = (decoder.final_layer_norm.weight * model.output_scale).to(dtype)
            self.vocabulary = model.t5.lm_head.weight.to(dtype)
            self.verdict = self.vocabulary[setting.true_id] - self.vocabulary[setting.false_id]
            attentions = [block.layer[0].SelfAttention for block in decoder.block]
            tables = [own.relative_attention_bias.weight for own in attentions if own.has_relative_attention_bias]
            self.distance_bias = [table.to(dtype) for table in tables]  # (buckets, heads) each: one, or uMT5's layers'
        self.farthest = attentions[0].relative_attention_max_distance

    @torch.inference_mode()
    def score(self, query_ids: Tensor, candidates: Candidates, kind: str = "true_false") -> Tensor:
        """Return the scores (K,) of a query's token ids (q,), in the caller's order. kind: one of `ed2lm.SCORES`."""
        return self.scores(query_ids, candidates, (kind,))[kind]

    @torch.inference_mode()
    def scores(self, query_ids: Tensor, candidates: Candidates, kinds: Sequence[str] = SCORES) -> dict[str, Tensor]:
        """Return the scores (K,) of several kinds from one pass of the decoder."""
        tokens, verdict, words = len(query_ids), kinds != ("log_likelihood",), kinds != ("true_false",)
        ids = torch.cat([query_ids.new_tensor([self.start_id]), query_ids])
        if not verdict:
            ids = ids[:-1]  # nothing is read after the last token
        states = self.decode(ids, candidates.groups, slice(0 if words else tokens, None))
        log_likelihood = self._log_likelihood(states[:, :tokens], query_ids) if words else None
        relevance = states[:, -1].float() @ self.verdict.float() if verdict else None
        found = {kind: combine_scores(kind, log_likelihood, relevance) for kind in kinds}
        return {
            kind: torch.empty_like(scores).index_copy_(0, candidates.order, scores) for kind, scores in found.items()
        }

    def decode(self, ids: Tensor, groups: Sequence[CandidateGroup], read: slice = slice(None)) -> Tensor:
        """Return the decoder's last states (K, positions, d) of token ids (t,), at the positions that `read` names."""
        x = self.embedding[ids].unsqueeze(0)  # (1, t, d) until the first cross-attention, (K, t, d) from there on
        biases = [self._position_bias(table, len(ids)) for table in self.distance_bias]
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            bias = biases[min(number, len(biases) - 1)]
            x = self._layer(x, layer, number, groups, bias, read if last else slice(None))
        return self._norm(x) * self.final_norm

    def _layer(
        self, x: Tensor, layer: Layer, number: int, groups: Sequence[CandidateGroup], bias: Tensor, read: slice
    ) -> Tensor:
        """Return a layer's states at the positions `read` of all its states x, which it may overwrite."""
        normed = self._norm(x)
        query = by_head(F.linear(normed[:, read], layer.query), self.heads)
        key, value = (by_head(part, self.heads) for part in F.linear(normed, layer.key_value).chunk(2, -1))
        mixed = attend_candidates(query, key, value, bias[:, :, read])
        x = _add_linear(x[:, read].contiguous(), mixed.transpose(1, 2).flatten(2), layer.out)
        gathered = self._cross(F.linear(self._norm(x), layer.cross_query), layer, number, groups)
        x = _add_linear(x.expand(len(gathered), -1, -1).contiguous(), gathered, layer.cross_out)
        wide = F.linear(self._norm(x), layer.wide)
        if layer.gated:
            gate, wide = wide.chunk(2, -1)
            return _add_linear(x, self.activation(gate) * wide, layer.narrow)
        return _add_linear(x, self.activation(wide), layer.narrow)

    def _cross(self, query: Tensor, layer: Layer, number: int, groups: Sequence[CandidateGroup]) -> Tensor:
        """Return what the query's tokens (1 or K, t, heads·c) gather from each document: (K, t, heads·c)."""
        sizes = [group.parts.shape[1] for group in groups]
        queries = query.split(sizes) if len(query) > 1 else [query] * len(groups)
        parts = [
            self.attend_to_documents(by_head(mine, self.heads), layer.cross, group, number)
            for mine, group in zip(queries, groups, strict=True)
        ]
        return torch.cat(parts)

    def _log_likelihood(self, states: Tensor, query_ids: Tensor) -> Tensor:
        """Return log p(query | document) in nats (K,) from the states (K, q, d) before each query token."""
        targets = query_ids.expand(len(states), -1).flatten()
        parts = zip(states.flatten(0, 1).split(VOCABULARY_ROWS), targets.split(VOCABULARY_ROWS), strict=True)
        gained = [-F.cross_entropy(F.linear(x, self.vocabulary).float(), ids, reduction="none") for x, ids in parts]
        return torch.cat(gained).view(states.shape[:2]).sum(1)

    def _norm(self, x: Tensor) -> Tensor:
        """Return x over its root mean square; two passes over memory where `F.rms_norm` takes four on a CPU."""
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square() / x.shape[-1]
        return x * torch.rsqrt(square + self.epsilon).to(x.dtype)

    def _position_bias(self, table: Tensor, tokens: int) -> Tensor:
        """Return T5's bias by distance, −inf towards later tokens: (1, heads, tokens, tokens)."""
        place = torch.arange(tokens, device=table.device)
        back = place[:, None] - place[None, :]
        buckets = distance_buckets(back.clamp(min=0), len(table), self.farthest)
        return table[buckets].masked_fill((back < 0).unsqueeze(-1), -torch.inf).permute(2, 0, 1)[None]


def distance_buckets(distance: Tensor, buckets: int, farthest: int) -> Tensor:
    """Return the bucket of each distance ≥ 0: half are exact, half logarithmic up to `farthest` (T5, §2.1)."""
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(farthest / exact)
    return torch.where(distance < exact, distance, (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1))


def project(model: Ed2lm, states: Tensor) -> Tensor:
    """Return what a store of keys and values holds of document states (B, D, d): (B, D, 2·layers, heads·c)."""
    attentions = [block.layer[1].EncDecAttention for block in model.t5.decoder.block]
    return torch.stack([linear(states) for a in attentions for linear in (a.k, a.v)], 2)


def _add_linear(x: Tensor, y: Tensor, matrix: Tensor) -> Tensor:
    """Add y matrixᵀ to contiguous x in place, in one matrix product; x: (k, t, m), y: (k, t, n), matrix: (m, n)."""
    x.flatten(0, 1).addmm_(y.flatten(0, 1), matrix.t())
    return x


def _layer(block: T5Block, heads: int, dtype: torch.dtype) -> Layer:
    """Return a block's matrices."""
    mine, cross, forward = block.layer[0].SelfAttention, block.layer[1].EncDecAttention, block.layer[2].DenseReluDense
    gated = hasattr(forward, "wi_0")
    wide = [forward.wi_0, forward.wi_1] if gated else [forward.wi]

    def after_norm(number: int, *linears: nn.Linear) -> Tensor:
        scale = block.layer[number].layer_norm.weight
        return (torch.cat([linear.weight for linear in linears]) * scale).to(dtype)

    return Layer(
        query=after_norm(0, mine.q),
        key_value=after_norm(0, mine.k, mine.v),
        out=mine.o.weight.to(dtype),
        cross_query=after_norm(1, cross.q),
        cross=Projections(*(linear.weight.unflatten(0, (heads, -1)).to(dtype) for linear in (cross.k, cross.v))),
        cross_out=cross.o.weight.to(dtype),
        wide=after_norm(2, *wide),
        narrow=forward.wo.weight.to(dtype),
        gated=gated,
    )
