"""Token ids of every query and document, made once and read memory-mapped, and batches of pairs made from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer, Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PAD, _, CLS, SEP = range(4)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer of about `vocabulary` pieces, the same for the same texts.

    The trainer numbers the letters inside words in the random order of a hash map, which changes ids, and with them
    the merges between equally frequent pairs; naming these letters first, in order, takes the chance out.
    """
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    letters = sorted(set().union(*(tokenizer.normalizer.normalize_str(text) for text in texts)))
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    tokenizer.train_from_iterator(
        texts,
        vocab_size=max(vocabulary, len(SPECIAL) + 2 * len(inside)),
        special_tokens=SPECIAL + inside,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    return BertWordPieceTokenizer(vocab=tokenizer.get_vocab(), lowercase=True)


class Batch(NamedTuple):
    """Padded pairs `[CLS] query [SEP] document [SEP]`; each tensor is (pairs, longest pair)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor


@dataclass(frozen=True)
class Texts:
    """The token ids of many texts, one after the other. ids: (tokens,) int32; starts: (texts + 1,) int64."""

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def encode(cls, tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> "Texts":
        """Tokenise texts, each cut after `longest` tokens."""
        cut = [" ".join(text.split()[:longest]) for text in texts]  # a word is a token or more
        pieces = [code.ids[:longest] for code in tokenizer.encode_batch(cut, add_special_tokens=False)]
        starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
        return cls(np.concatenate(pieces).astype(np.int32), starts)

    def save(self, folder: Path, name: str) -> None:
        """Write both arrays as .npy files."""
        np.save(folder / f"{name}_ids.npy", self.ids)
        np.save(folder / f"{name}_starts.npy", self.starts)

    @classmethod
    def load(cls, folder: Path, name: str) -> "Texts":
        """Open both arrays memory-mapped."""
        return cls(*(np.load(folder / f"{name}_{part}.npy", mmap_mode="r") for part in ("ids", "starts")))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return how many tokens the texts at `rows` have."""
        return self.starts[rows + 1] - self.starts[rows]


@dataclass(frozen=True)
class Pairs:
    """Makes batches of query–document pairs. A document gives way when a pair exceeds `pair_tokens`."""

    queries: Texts
    documents: Texts
    pair_tokens: int

    def lengths(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each pair, special tokens included, after truncation: (pairs,)."""
        whole = self.queries.lengths(query_rows) + self.documents.lengths(document_rows) + 3
        return np.minimum(whole, self.pair_tokens)

    def batch(self, query_rows: np.ndarray, document_rows: np.ndarray) -> Batch:
        """Return the pairs (query_rows[i], document_rows[i]) padded to the longest."""
        query_lengths = self.queries.lengths(query_rows)[:, None]
        lengths = self.lengths(query_rows, document_rows)[:, None]
        place = np.arange(lengths.max())[None, :]
        ids = np.full((len(lengths), place.size), PAD, np.int64)
        ids[:, 0] = CLS
        in_query = (place >= 1) & (place <= query_lengths)
        in_document = (place >= query_lengths + 2) & (place < lengths - 1)
        ids[in_query] = self.queries.ids[(self.queries.starts[query_rows][:, None] + place - 1)[in_query]]
        document_place = self.documents.starts[document_rows][:, None] + place - query_lengths - 2
        ids[in_document] = self.documents.ids[document_place[in_document]]
        ids[(place == query_lengths + 1) | (place == lengths - 1)] = SEP
        types = ((place >= query_lengths + 2) & (place < lengths)).astype(np.int64)
        mask = (place < lengths).astype(np.int64)
        return Batch(*(torch.from_numpy(array) for array in (ids, mask, types)))
