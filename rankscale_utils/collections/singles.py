"""Batches of single texts, which a bi-encoder reads: queries and documents apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from rankscale_utils.collections.tokens import StudyTokenizer, Texts


class TextBatch(NamedTuple):
    """Padded texts `[CLS] text [SEP]`; each tensor is (texts, longest text)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


@dataclass(frozen=True)
class Singles:
    """Makes batches of single texts, each cut so that it has no more than `tokens`, the two special ones included."""

    texts: Texts
    tokenizer: StudyTokenizer
    tokens: int

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each text after truncation: (texts,)."""
        return np.minimum(self.texts.lengths(rows) + 2, self.tokens)

    def batch(self, rows: np.ndarray) -> TextBatch:
        """Return the texts at `rows` padded to the longest."""
        lengths = self.lengths(rows)[:, None]
        place = np.arange(lengths.max())[None, :]
        ids = np.full((len(lengths), place.size), self.tokenizer.pad, np.int64)
        inside = (place >= 1) & (place < lengths - 1)
        ids[inside] = self.texts.ids[(self.texts.starts[rows][:, None] + place - 1)[inside]]
        ids[:, 0] = self.tokenizer.cls
        ids[place == lengths - 1] = self.tokenizer.sep
        return TextBatch(torch.from_numpy(ids), torch.from_numpy((place < lengths).astype(np.int64)))


def token_shares(texts: Sequence[Texts], tokenizer: StudyTokenizer) -> np.ndarray:
    """Return each token's share of all tokens (vocabulary,), never 0; 1 for the special ones, which every text has."""
    counts = sum(np.bincount(some.ids, minlength=tokenizer.tokenizer.get_vocab_size()) for some in texts) + 1.0
    shares = counts / counts.sum()
    shares[[tokenizer.pad, tokenizer.cls, tokenizer.sep]] = 1.0
    return shares
