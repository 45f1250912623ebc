"""How a tokenizer lays out a text, and a pair of query and document: read from it, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Encoding, Tokenizer

PROBE = "a"  # a text of a token or more in every tokenizer


@dataclass(frozen=True)
class Specials:
    """Special tokens that stand together, each with its segment."""

    ids: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.ids)


@dataclass(frozen=True)
class PairLayout:
    """What stands before a pair's query, between query and document, and after the document; and around a text alone.

    `[CLS] query [SEP] document [SEP]` of BERT, `<s> query </s></s> document </s>` of RoBERTa, or any other. segments:
    the query's and the document's.
    """

    before: Specials
    between: Specials
    after: Specials
    segments: tuple[int, int]
    alone: tuple[Specials, Specials]

    @classmethod
    def of(cls, tokenizer: Tokenizer, segments: bool = True) -> PairLayout:
        """Read the layout off an encoded pair; without `segments`, the model that reads it is given none.

        Raises:
            ValueError: special tokens stand inside a text, or the query does not come first.
        """
        before, query, between, document, after = _pieces(tokenizer.encode(PROBE, PROBE), 2, segments)
        opening, _, closing = _pieces(tokenizer.encode(PROBE), 1, segments)
        return cls(before, between, after, (query.segments[0], document.segments[0]), (opening, closing))

    @property
    def special(self) -> int:
        """How many special tokens a pair has."""
        return len(self.before) + len(self.between) + len(self.after)

    def apart(self, pair_tokens: int, query_tokens: int | None) -> tuple[int, int]:
        """Return the longest query and document that are read apart, special tokens included.

        A document keeps what three special tokens and the longest query leave of a pair; without `query_tokens` either
        is as long as a pair.
        """
        if query_tokens is None:
            return pair_tokens, pair_tokens
        special = sum(map(len, self.alone))
        return query_tokens + special, pair_tokens - query_tokens - 3 + special


def _pieces(code: Encoding, texts: int, segments: bool) -> list[Specials]:
    """Return an encoding cut where its texts begin and end: special tokens, a text, special tokens, …"""
    places = [[place for place, text in enumerate(code.sequence_ids) if text == number] for number in range(texts)]
    ends = [0, *(end for own in places for end in (own[0], own[-1] + 1)), len(code.ids)]
    if ends != sorted(ends) or any(len(own) != own[-1] + 1 - own[0] for own in places):
        raise ValueError("special tokens stand inside a text, or the query does not come first")
    kinds = code.type_ids if segments else [0] * len(code.ids)
    return [Specials(tuple(code.ids[begin:end]), tuple(kinds[begin:end])) for begin, end in pairwise(ends)]
