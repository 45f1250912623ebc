"""ED2LM: a T5 encoder-decoder that reads a document, then says how likely the query is and whether it is relevant.

The encoder never sees the query, so its states can be stored and the decoder alone scores (arXiv 2204.11458).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedModel

from rankscale_utils.machine.transfer import send

from . import log_odds as log_odds_module
from .flat_encoders import token_states, unpad


class Ed2lmError(ValueError):
    """The model does not take this; the message names what, and the remedy."""


@dataclass(frozen=True)
class Setting:
    """What a T5 needs to know to rerank: two tokens' ids, and the documents that it is trained on."""

    true_id: int
    false_id: int
    document_tokens: int  # the longest document, in tokens
    poolings: tuple[int, ...] = (1,)  # group sizes of document states that the decoder is trained to read

    def check(self, document_tokens: int, pooling: int) -> None:
        """Refuse documents and poolings that the model is not trained for.

        Raises:
            Ed2lmError: the document is longer than the model takes, or the pooling is another one.
        """
        if document_tokens > self.document_tokens:
            raise Ed2lmError(
                f"a document has {document_tokens} tokens and the model takes {self.document_tokens}: cut it first."
            )
        if pooling not in self.poolings:
            trained = ", ".join(map(str, self.poolings))
            raise Ed2lmError(f"the model was not trained for a pooling of {pooling} tokens: choose one of {trained}.")


class Reading(NamedTuple):
    """What the decoder says of B queries, each after its document.

    log_odds: (B, q) log p/(1 − p) of every query token given the document and the tokens before it, None where it was
    not asked for; mask: (B, q) 1 for a token, 0 for padding; relevance: (B,) the logit of `true` less that of `false`,
    after the query.
    """

    log_odds: Tensor | None
    mask: Tensor
    relevance: Tensor

    def log_likelihood(self) -> Tensor:
        """Return Σ_t log p(q_t | q_<t, d) in nats, the query's log-likelihood: (B,)."""
        return (F.logsigmoid(self.log_odds) * self.mask).sum(1)

    def log_unlikelihood(self) -> Tensor:
        """Return Σ_t log(1 − p(q_t | q_<t, d)) in nats: (B,)."""
        return (F.logsigmoid(-self.log_odds) * self.mask).sum(1)

    def scores(self, kind: str) -> Tensor:
        """Return the scores to rank by: (B,). kind: one of `SCORES`."""
        return combine_scores(kind, None if self.log_odds is None else self.log_likelihood(), self.relevance)


def combine_scores(kind: str, log_likelihood: Tensor | None, relevance: Tensor | None) -> Tensor:
    """Return the scores (B,) of one of `SCORES` from what it needs, each (B,).

    `both` is the log-probability of all that the decoder would write for a relevant pair: the query, then `true`.
    """
    if kind == "both":
        return log_likelihood + F.logsigmoid(relevance)
    return {"log_likelihood": log_likelihood, "true_false": relevance}[kind]


class Ed2lm(nn.Module):
    """A T5 (original, v1.1, flan, mT5 or uMT5) as a reranker.

    The document is encoded, the query and its verdict are decoded.
    """

    def __init__(self, t5: PreTrainedModel, setting: Setting) -> None:
        """Wrap `t5`, and note the setting in its config, so that a saved folder says how to rerank."""
        super().__init__()
        self.t5 = t5
        unpad(t5.encoder)
        self.setting = setting
        t5.config.ed2lm = asdict(setting)

    @property
    def output_scale(self) -> float:
        """What the decoder's last states are multiplied by before the vocabulary."""
        return output_scale(self.t5.config)

    def forward(
        self,
        document_ids: Tensor,
        document_mask: Tensor,
        query_ids: Tensor,
        query_mask: Tensor,
        pooling: int = 1,
        likelihood: bool = True,
    ) -> Reading:
        """Return the reading of B pairs, whose ids and masks are (B, tokens), padded on the right.

        Without `likelihood` only the verdict is read, which spares the product with the vocabulary.
        """
        return self.decode(*self.encode(document_ids, document_mask, pooling), query_ids, query_mask, likelihood)

    def encode(self, document_ids: Tensor, document_mask: Tensor, pooling: int = 1) -> tuple[Tensor, Tensor]:
        """Return document states (B, ⌈D/pooling⌉, d) and their mask, from ids and mask (B, D).

        Raises:
            Ed2lmError: the documents are longer, or the pooling is another, than the model is trained for.
        """
        self.setting.check(document_ids.shape[1], pooling)
        states = token_states(self.t5.encoder, document_ids, document_mask)
        return pool_states(states, send(document_mask, states.device), pooling)

    def decode(
        self, states: Tensor, mask: Tensor, query_ids: Tensor, query_mask: Tensor, likelihood: bool = True
    ) -> Reading:
        """Return the reading of queries (B, q) after document states (B, D, d) with their mask (B, D).

        The decoder reads the start token and the query. Padding on the right needs no mask: attention is causal.
        """
        start = query_ids.new_full((len(query_ids), 1), self.t5.config.decoder_start_token_id)
        decoded = self.t5.decoder(
            input_ids=torch.cat([start, query_ids], 1),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        decoded = decoded * self.output_scale
        after_query = decoded[torch.arange(len(decoded), device=decoded.device), query_mask.sum(1)]
        verdict = self.t5.lm_head.weight[self.setting.true_id] - self.t5.lm_head.weight[self.setting.false_id]
        log_odds = self._log_odds(decoded[:, :-1], query_ids, query_mask.bool()) if likelihood else None
        return Reading(log_odds, query_mask, after_query @ verdict)

    def _log_odds(self, decoded: Tensor, query_ids: Tensor, read: Tensor) -> Tensor:
        """Return the log-odds (B, q) of the tokens that are read, and 0 where there is padding."""
        found = log_odds_module.log_odds(decoded[read], self.t5.lm_head.weight, query_ids[read])
        return decoded.new_zeros(read.shape, dtype=found.dtype).masked_scatter(read, found)


def output_scale(config: PretrainedConfig) -> float:
    """Return what a T5 multiplies the decoder's last states by before the vocabulary: d^−½, or 1 in v1.1 and mT5."""
    scales = getattr(config, "scale_decoder_outputs", config.model_type == "umt5")
    return config.d_model**-0.5 if scales else 1.0


def pool_states(states: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the mean of every `size` neighbouring states (B, ⌈D/size⌉, d) and the mask of groups with a token.

    A document's last group holds the tokens that are left (KaLM-Reranker, arXiv 2606.22807).
    """
    if size == 1:
        return states, mask
    missing = -states.shape[1] % size
    grouped = F.pad(states * mask.unsqueeze(-1), (0, 0, 0, missing)).unflatten(1, (-1, size))
    tokens = F.pad(mask, (0, missing)).unflatten(1, (-1, size)).sum(2)
    return grouped.sum(2) / tokens.clamp(min=1).unsqueeze(-1), (tokens > 0).to(mask.dtype)


def build_ed2lm(config: PretrainedConfig, setting: Setting) -> Ed2lm:
    """Return a new model of this shape, its weights drawn from torch's global generator.

    transformers 5.23 ties a new model's output rows to its embeddings whatever `tie_word_embeddings` says; all that is
    left of False is an unscaled output. Here False means what it says: output rows of their own, of unit logits.
    """
    model = Ed2lm(AutoModelForSeq2SeqLM.from_config(config), setting)
    if model.output_scale == 1:
        rows = torch.empty(config.vocab_size, config.d_model)
        model.t5.lm_head.weight = nn.Parameter(rows.normal_(std=config.d_model**-0.5))
    return model


def share_rows(model: Ed2lm, shared: bool) -> None:
    """Let a model's output rows be its embeddings, or rows of their own, whose numbers are to be read."""
    if shared != (model.t5.lm_head.weight is model.t5.shared.weight):
        rows = model.t5.shared.weight
        model.t5.lm_head.weight = rows if shared else nn.Parameter(torch.empty_like(rows))


def load_ed2lm(folder: Path | str, setting: Setting | None = None) -> Ed2lm:
    """Return the model of a folder or Hugging Face id; `setting` is needed where a T5 was not saved as a reranker.

    Raises:
        Ed2lmError: neither the folder nor the caller says how the T5 reranks.
    """
    t5 = AutoModelForSeq2SeqLM.from_pretrained(folder)
    noted = getattr(t5.config, "ed2lm", None)
    if setting is None and noted is None:
        raise Ed2lmError(f"{folder} holds a T5 that was not saved as a reranker: give its setting.")
    return Ed2lm(t5, setting or Setting(**{**noted, "poolings": tuple(noted["poolings"])}))
