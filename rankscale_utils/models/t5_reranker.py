"""T5s that rerank as they were published: a prompt is encoded, and the decoder's first word makes the score.

monoT5's score is the log-probability of one word against another, such as true against false (arXiv 2003.06713);
RankT5's the logit of a single one (arXiv 2210.10634).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.transfer import send
from rankscale_utils.study.t5 import T5Settings

from .cross_encoder import CrossEncoder
from .ed2lm import output_scale
from .flat_encoders import token_states
from .pretrained import read_tokenizer
from .source import file_of

READS_AT_MOST = 512  # tokens, with which monoT5 and RankT5 were trained; a T5 has no positions that end


class FirstWord(nn.Module):
    """The score that a decoder's first state makes: a word's logit, or its log-probability against another word."""

    def __init__(self, rows: nn.Parameter, words: tuple[int, ...]) -> None:
        """Take the output rows (vocabulary, width), and the ids of one word or two, the relevant one first."""
        super().__init__()
        self.words, self.rows = words, nn.Embedding(*rows.shape, device="meta")
        self.rows.weight = rows  # the very tensor, which may be the embeddings' too and then counts once

    def forward(self, states: Tensor) -> Tensor:
        """Return scores (texts, 1) of states (texts, width)."""
        first, *other = (F.linear(states, self.rows.weight[word][None]) for word in self.words)
        return F.logsigmoid(first - other[0]) if other else first


class Prompts(NamedTuple):
    """What a T5 reads: token ids and attention mask, each (pairs, tokens), padded on the right, on the host."""

    ids: Tensor
    mask: Tensor


class T5Reranker(CrossEncoder):
    """Score a query and a document in one prompt, by what the decoder would say first."""

    def __init__(self, t5: PreTrainedModel, words: tuple[int, ...]) -> None:
        """Take a T5 apart; words: the ids of one word or two, the relevant one first."""
        super().__init__(t5.encoder, "first word", FirstWord(t5.lm_head.weight, words))
        self.decoder, self.reads_segments = t5.decoder, False
        self.start, self.scale = t5.config.decoder_start_token_id, output_scale(t5.config)

    def inputs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        of_query: Tensor | None = None,
    ) -> Prompts:
        """Return what is read of padded pairs; segments and where the document begins tell a T5 nothing."""
        return Prompts(input_ids, attention_mask)

    def forward(self, *given: Prompts | Tensor) -> Tensor:
        """Return scores (pairs,) from `inputs`, or from what makes them."""
        inputs = given[0] if isinstance(given[0], Prompts) else self.inputs(*given)
        return self.head(self.pooled(inputs)).squeeze(-1)

    def pooled(self, inputs: Prompts) -> Tensor:
        """Return the decoder's first state after every pair: (pairs, width)."""
        states = token_states(self.encoder, inputs.ids, inputs.mask)
        decoded = self.decoder(
            input_ids=torch.full((len(states), 1), self.start, device=states.device),
            encoder_hidden_states=states,
            encoder_attention_mask=send(inputs.mask, states.device),
            use_cache=False,
        )
        return decoded.last_hidden_state[:, 0] * self.scale


def settings_of_t5(field: str, source: str, config: PretrainedConfig, given: T5Settings | None) -> T5Settings:
    """Return how a T5 reranks: as the study says, or as its name or model card does.

    Raises:
        StudyError: neither says it.
    """
    if given:
        return given
    card = file_of(source, "README.md")
    told = f"{source.rstrip('/').rpartition('/')[2]}\n{card.read_text('utf-8', 'replace') if card else ''}".lower()
    if "rankt5" in told:
        return T5Settings(template="rankt5")
    if "monot5" in told or "rerank" in told:
        return T5Settings(words=("true", "false") if config.model_type == "t5" else ("yes", "no"))
    raise StudyError(
        f"{field} = {source!r} is a {config.model_type} model whose name and card do not say that it reranks: set "
        f"{field}.t5, such as {{template: monot5, words: ['true', 'false']}}, as it was trained, or name a reranker."
    )


def word_ids(field: str, source: str, settings: T5Settings) -> tuple[int, ...]:
    """Return the ids of the words that a T5 says first.

    Raises:
        StudyError: a word is no single token.
    """
    tokenizer, *_ = read_tokenizer(field, source)
    pieces = [tokenizer.encode(word, add_special_tokens=False).ids for word in settings.verdict]
    for word, ids in zip(settings.verdict, pieces, strict=True):
        if len(ids) != 1:
            raise StudyError(
                f"{field}.t5.words: the tokenizer of {source!r} makes {len(ids)} tokens of {word!r}: choose words of "
                "one token each."
            )
    return tuple(ids[0] for ids in pieces)
