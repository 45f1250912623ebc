"""Token ids of every query and document, made once and read memory-mapped, and batches of pairs made from them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer, Regex, Tokenizer, pre_tokenizers

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json, write_json
from rankscale_utils.models.pair_layout import PairLayout
from rankscale_utils.models.pretrained import read_tokenizer
from rankscale_utils.models.prompts import prompts_of_study
from rankscale_utils.study.evaluation import Text
from rankscale_utils.study.study import Study

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
LONGEST_WORD = 100  # letters: WordPiece takes a longer word for an unknown one
TEXTS_TOGETHER = 10_000  # texts that are tokenised at once


@dataclass(frozen=True)
class StudyTokenizer:
    """The tokenizer that every rung of a study reads, the roles of its special tokens, and the longest pair and query.

    Saved, it is a folder that transformers' AutoTokenizer loads too.
    """

    tokenizer: Tokenizer
    special: dict[str, str]  # pad_token, cls_token, sep_token, …: the token
    pair_tokens: int
    query_tokens: int | None = None  # the longest query; None: as long as a pair, whose longer text gives way
    segments: bool = True  # whether models are told which tokens are the document's
    prompts: tuple[str, str] = ("", "")  # what stands before every query and before every document

    def queries(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield queries as they are read, with their prompt."""
        return (self.prompts[0] + text for text in texts)

    def documents(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield documents as they are read, with their prompt."""
        return (self.prompts[1] + text for text in texts)

    @property
    def pad(self) -> int:
        """The id that fills a batch's shorter pairs."""
        return self.tokenizer.token_to_id(self.special["pad_token"])

    @cached_property
    def layout(self) -> PairLayout:
        """How it lays out pairs, and texts alone."""
        return PairLayout.of(self.tokenizer, self.segments)

    def encode(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Return the ids of every text without special tokens, each cut after `longest`."""
        begins = _begins(longest)
        cut = [match.group() if (match := begins.match(text)) else text for text in texts]
        return [code.ids[:longest] for code in self.tokenizer.encode_batch_fast(cut, add_special_tokens=False)]

    def counts(self, texts: Sequence[str], prompt: str = "") -> np.ndarray:
        """Return tokens, letters, and letters of words that are read as the unknown token: (texts, 3).

        Texts are whole, without special tokens. The prompt before each of them counts as tokens and not as letters.
        """
        unknown, once = self.tokenizer.token_to_id(self.special.get("unk_token", "")), list(dict.fromkeys(texts))
        codes = self.tokenizer.encode_batch([prompt + text for text in once], add_special_tokens=False)
        counted = {}
        for text, code in zip(once, codes, strict=True):
            begins, ends = np.array(code.offsets, int).reshape(-1, 2).T
            letters = (ends - begins) * (begins >= len(prompt))
            counted[text] = len(code), letters.sum(), letters[np.array(code.ids) == unknown].sum()
        return np.array([counted[text] for text in texts], int).reshape(-1, 3)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        lengths = {"model_max_length": self.pair_tokens, "pair_tokens": self.pair_tokens}
        lengths |= {"query_tokens": self.query_tokens, "prompts": self.prompts}
        inputs = ["input_ids", *["token_type_ids"] * self.segments, "attention_mask"]
        fields = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": inputs} | lengths | self.special
        write_json(folder / "tokenizer_config.json", fields)

    @classmethod
    def load(cls, folder: Path) -> "StudyTokenizer":
        """Read what `save` wrote."""
        fields = read_json(folder / "tokenizer_config.json")
        special = {name: token for name, token in fields.items() if name.endswith("_token")}
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        segments = "token_type_ids" in fields["model_input_names"]
        prompts = tuple(fields.get("prompts", ("", "")))
        return cls(tokenizer, special, fields["pair_tokens"], fields["query_tokens"], segments, prompts)


@cache
def _begins(words: int) -> re.Pattern[str]:
    """Match a text up to its nth word: a word with a letter or digit is a token or more, so that none is lost."""
    return re.compile(rf"(?>.*?\w[^ \t\r\n]*){{{words}}}", re.DOTALL)


def study_tokenizer(study: Study, training_texts: Iterable[str]) -> StudyTokenizer:
    """Return the tokenizer of a study: WordPiece learned from `training_texts`, or the one of its pretrained rungs.

    `training_texts` are held in memory while a vocabulary is learned, and left alone where rungs are pretrained.

    Raises:
        StudyError: the pretrained rungs bring different tokenizers, or one whose pairs have another layout.
    """
    if not study.pretrained:
        tokenizer = train_tokenizer(list(training_texts), study.text.vocabulary)
        return _with_lengths(tokenizer, SPECIAL, True, study.text)
    (first, (tokenizer, special, segments)), *others = (
        (rung, read_tokenizer(f"ladder.{rung}", source, study.decoder.prompt))
        for rung, source in study.pretrained.items()
    )
    for rung, (other, *_) in others:
        if other.to_str() != tokenizer.to_str():
            raise StudyError(
                f"ladder: {first} = {study.pretrained[first]!r} and {rung} = {study.pretrained[rung]!r} bring "
                "different tokenizers, so the rungs would read different tokens: use encoders of one family."
            )
    made = _with_lengths(tokenizer, special, segments, study.text)
    return replace(made, prompts=prompts_of_study(study))


def _with_lengths(tokenizer: Tokenizer, special: dict[str, str], segments: bool, text: Text) -> StudyTokenizer:
    """Return a study's tokenizer; without `query_tokens`, pairs have room for an even number of tokens.

    Of two long texts transformers' `longest_first` leaves the longer one the odd token, and which one that is is not
    known of texts that have been cut before.
    """
    odd = text.query_tokens is None and (text.pair_tokens - PairLayout.of(tokenizer).special) % 2
    return StudyTokenizer(tokenizer, special, text.pair_tokens - odd, text.query_tokens, segments)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer of about `vocabulary` pieces, the same for the same texts.

    The trainer numbers the letters inside words in the random order of a hash map, which changes ids, and with them
    the merges between equally frequent pairs; naming these letters first, in order, takes the chance out.
    """
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    letters = sorted(set(tokenizer.normalizer.normalize_str("".join(sorted(set().union(*texts))))))
    inside = [f"##{letter}" for letter in letters if not letter.isspace()]
    tokenizer.train_from_iterator(
        texts,
        vocab_size=max(vocabulary, len(SPECIAL) + 2 * len(inside)),
        special_tokens=[*SPECIAL.values(), *inside],
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer = Tokenizer.from_str(BertWordPieceTokenizer(vocab=tokenizer.get_vocab(), lowercase=True).to_str())
    # A script without blanks has sentences for words.
    pieces = pre_tokenizers.Split(Regex(f".{{{LONGEST_WORD}}}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, pieces])
    return tokenizer


class Batch(NamedTuple):
    """Padded pairs, as the tokenizer lays them out: (pairs, longest pair).

    of_query: (pairs,), how many of each one's first tokens stand before the document.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    of_query: torch.Tensor


@dataclass(frozen=True)
class Texts:
    """The token ids of many texts, one after the other. ids: (tokens,) int32; starts: (texts + 1,) int64."""

    ids: np.ndarray
    starts: np.ndarray

    @staticmethod
    def write(folder: Path, name: str, tokenizer: StudyTokenizer, texts: Iterable[str], longest: int) -> None:
        """Tokenise texts, each cut after `longest` tokens, into two .npy files, holding few of them in memory."""
        lengths, texts = [0], iter(texts)
        with open(folder / f"{name}_ids.npy", "wb") as file:
            _write_header(file, 0)
            while chunk := list(islice(texts, TEXTS_TOGETHER)):
                pieces = tokenizer.encode(chunk, longest)
                file.write(np.fromiter(chain.from_iterable(pieces), np.int32))
                lengths += map(len, pieces)
            starts = np.cumsum(lengths, dtype=np.int64)
            _write_header(file, int(starts[-1]))
        np.save(folder / f"{name}_starts.npy", starts)

    @staticmethod
    def join(folder: Path, name: str, before: "Texts") -> None:
        """Let texts that `write` wrote stand behind others, whose rows stay as they are."""
        own = Texts.load(folder, name)
        starts = np.concatenate([before.starts, before.starts[-1] + own.starts[1:]])
        joined = np.lib.format.open_memmap(folder / "joined.npy", "w+", np.int32, (int(starts[-1]),))
        joined[: before.starts[-1]], joined[before.starts[-1] :] = before.ids, own.ids
        joined.flush()
        (folder / "joined.npy").replace(folder / f"{name}_ids.npy")
        np.save(folder / f"{name}_starts.npy", starts)

    @classmethod
    def encoded(cls, tokenizer: StudyTokenizer, texts: Sequence[str], longest: int) -> "Texts":
        """Tokenise texts, each cut after `longest` tokens, in memory."""
        pieces = tokenizer.encode(texts, longest)
        starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return cls(np.fromiter(chain.from_iterable(pieces), np.int32, starts[-1]), starts)

    @classmethod
    def load(cls, folder: Path, name: str) -> "Texts":
        """Open both arrays memory-mapped."""
        return cls(*(np.load(folder / f"{name}_{part}.npy", mmap_mode="r") for part in ("ids", "starts")))

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return how many tokens the texts at `rows` have."""
        return self.starts[rows + 1] - self.starts[rows]


def _write_header(file: BinaryIO, count: int) -> None:
    """Write the header of `count` int32 at the file's begin; NumPy leaves room in it for the first axis to grow."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": (count,)})


def longest_first(query: np.ndarray, document: np.ndarray, room: int) -> np.ndarray:
    """Return how many tokens of queries stay where pairs longer than `room` lose tokens of their longer text.

    query, document, returned: (pairs,) tokens. Source: tokenizers' `longest_first`.
    """
    half = room // 2
    cut = np.where(query <= document, np.minimum(query, half), room - np.minimum(document, half))
    return np.where(query + document <= room, query, cut)


@dataclass(frozen=True)
class Pairs:
    """Makes batches of query–document pairs.

    When a pair is too long, its document gives way where queries are cut before, else the longer of the two.
    """

    queries: Texts
    documents: Texts
    tokenizer: StudyTokenizer

    def lengths(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        """Return the tokens of each pair, special tokens included, after truncation: (pairs,)."""
        whole = self.queries.lengths(query_rows) + self.documents.lengths(document_rows)
        whole += self.tokenizer.layout.special
        return np.minimum(whole, self.tokenizer.pair_tokens)

    def _query_lengths(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        """Return how many tokens of every pair's query are read: (pairs,)."""
        query, document = self.queries.lengths(query_rows), self.documents.lengths(document_rows)
        room = self.tokenizer.pair_tokens - self.tokenizer.layout.special
        return query if self.tokenizer.query_tokens else longest_first(query, document, room)

    def batch(self, query_rows: np.ndarray, document_rows: np.ndarray) -> Batch:
        """Return the pairs (query_rows[i], document_rows[i]) padded to the longest."""
        layout = self.tokenizer.layout
        lengths = self.lengths(query_rows, document_rows)[:, None]
        place = np.arange(lengths.max())[None, :]
        query_begin = len(layout.before)
        query_end = query_begin + self._query_lengths(query_rows, document_rows)[:, None]
        document_begin, document_end = query_end + len(layout.between), lengths - len(layout.after)
        ids = np.full((len(lengths), place.size), self.tokenizer.pad, np.int64)
        types = np.zeros_like(ids)
        texts = (
            (self.queries, query_rows, query_begin, query_end),
            (self.documents, document_rows, document_begin, document_end),
        )
        for segment, (text, rows, begin, end) in zip(layout.segments, texts, strict=True):
            inside = (place >= begin) & (place < end)
            ids[inside] = text.ids[(text.starts[rows][:, None] + place - begin)[inside]]
            types[inside] = segment
        every = np.arange(len(lengths))[:, None]
        specials = ((layout.before, 0), (layout.between, query_end), (layout.after, document_end))
        for special, begin in specials:
            own = begin + np.arange(len(special))[None, :]
            ids[every, own], types[every, own] = special.ids, special.segments
        mask = (place < lengths).astype(np.int64)
        return Batch(*(torch.from_numpy(array) for array in (ids, mask, types, document_begin[:, 0])))
