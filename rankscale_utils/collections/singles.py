"""Batches of single texts, which a bi-encoder and ED2LM read: queries and documents apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from rankscale_utils.study.evaluation import Text
from rankscale_utils.study.objectives import Family

from .tokens import Pairs, StudyTokenizer, Texts

Around = Literal["both", "end", "none"]
TEXTS_CUT_TOGETHER = 1000  # texts that are cut at once


class TextBatch(NamedTuple):
    """Padded texts; each tensor is (texts, longest text)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


@dataclass(frozen=True)
class Singles:
    """Makes batches of single texts, each cut so that it has no more than `tokens`, its special ones included.

    around: `both` is `[CLS] text [SEP]` or how else the tokenizer lays out a text, as a bi-encoder reads it; `end` is
    `text [SEP]`, ED2LM's document; `none` is the text alone, ED2LM's query.
    """

    texts: Texts
    tokenizer: StudyTokenizer
    tokens: int
    around: Around = "both"

    @property
    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens before and after a text."""
        before, after = (specials.ids for specials in self.tokenizer.layout.alone)
        return before if self.around == "both" else (), () if self.around == "none" else after

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each text after truncation: (texts,)."""
        return self.lengths_of(self.texts.lengths(rows))

    def lengths_of(self, tokens: np.ndarray) -> np.ndarray:
        """Return what becomes of texts of so many tokens: their lengths with special tokens, after truncation."""
        return np.minimum(tokens + sum(map(len, self._around)), self.tokens)

    def batch(self, rows: np.ndarray) -> TextBatch:
        """Return the texts at `rows` padded to the longest."""
        before, after = self._around
        lengths = self.lengths(rows)[:, None]
        place = np.arange(lengths.max())[None, :]
        ids = np.full((len(lengths), place.size), self.tokenizer.pad, np.int64)
        end = lengths - len(after)
        inside = (place >= len(before)) & (place < end)
        ids[inside] = self.texts.ids[(self.texts.starts[rows][:, None] + place - len(before))[inside]]
        ids[:, : len(before)] = before
        ids[np.arange(len(rows))[:, None], end + np.arange(len(after))] = after
        return TextBatch(torch.from_numpy(ids), torch.from_numpy((place < lengths).astype(np.int64)))

    def written(self, rows: np.ndarray) -> Texts:
        """Return the texts at `rows` as a batch has them, cut and with their special tokens, without padding."""
        batches = [self.batch(some) for some in np.array_split(rows, -(-len(rows) // TEXTS_CUT_TOGETHER))]
        ids = np.concatenate([ids[mask.bool()].numpy() for ids, mask in batches])
        return Texts(ids.astype(np.int32), np.concatenate([[0], np.cumsum(self.lengths(rows))]))


def joined(batches: Sequence[TextBatch]) -> TextBatch:
    """Return several batches as one, as wide as the widest; masks say that what is added is no text."""
    width = max(batch.input_ids.shape[1] for batch in batches)
    columns = zip(*batches, strict=True)
    return TextBatch(*(torch.cat([F.pad(part, (0, width - part.shape[1])) for part in column]) for column in columns))


def singles(pairs: Pairs, text: Text, family: Family = "bi_encoder", ended: bool = False) -> tuple[Singles, Singles]:
    """Return the makers of batches of queries and of documents for a family that reads them apart.

    ended: ED2LM's queries have an end token, as one that writes queries must learn.
    """
    if family == "ed2lm":
        queries = Singles(pairs.queries, pairs.tokenizer, text.longest_query + ended, "end" if ended else "none")
        return queries, Singles(pairs.documents, pairs.tokenizer, text.document_tokens + 1, "end")
    longest = pairs.tokenizer.layout.apart(pairs.tokenizer.pair_tokens, text.query_tokens)
    texts = (pairs.queries, pairs.documents)
    return tuple(Singles(part, pairs.tokenizer, tokens) for part, tokens in zip(texts, longest, strict=True))


def token_shares(texts: Sequence[Texts], tokenizer: StudyTokenizer) -> np.ndarray:
    """Return each token's share of all tokens (vocabulary,), never 0; 1 for the special ones, which every text has."""
    counts = sum(np.bincount(some.ids, minlength=tokenizer.tokenizer.get_vocab_size()) for some in texts) + 1.0
    shares = counts / counts.sum()
    shares[[tokenizer.pad, *(id for specials in tokenizer.layout.alone for id in specials.ids)]] = 1.0
    return shares
