"""Texts as the words that BM25 compares, by the study's language, tokenizer and stemmer."""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache

import bm25s
import Stemmer

from rankscale_utils.errors import StudyError
from rankscale_utils.study.evaluation import FirstStage

from .normal_text import folded_words

# Scripts without blanks between words: Thai, Lao, Burmese, Khmer, kana, Han, and Hangul, whose blanks part phrases.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
UNSPACED += "\U00020000-\U000323af"
RUN = re.compile(f"([{UNSPACED}]+)")


def words_of(texts: Iterable[str], settings: FirstStage) -> list[list[str]]:
    """Return the words of texts, without the language's stop words, stemmed where a stemmer is set."""
    options = {"stopwords": settings.language, "stemmer": settings.stemmer and _stemmer(settings.stemmer)}
    if settings.tokenizer == "unicode":
        texts, options["token_pattern"] = map(unicode_words, texts), r"\S+"
    return bm25s.tokenize(list(texts), **options, return_ids=False, show_progress=False)


def refuse_wordless(vocabulary: Collection[str], settings: FirstStage) -> None:
    """Refuse documents of which BM25 reads no word at all."""
    if not vocabulary:
        raise StudyError(
            f"first_stage = {settings.model_dump(exclude_none=True)}: no document has a word that BM25 compares: set "
            "first_stage.tokenizer: unicode, or bring candidates, a TREC run."
        )


@cache
def _stemmer(algorithm: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(algorithm)


def unicode_words(text: str) -> str:
    """Return the words of a text of any script, a blank between them.

    A word is a run of letters, marks and digits of two or more; of scripts without blanks it is every pair of
    neighbouring characters, as Lucene's CJK analyzer has it.
    """
    return " ".join(word for part in folded_words(text) for piece in RUN.split(part) for word in _pieces(piece))


def _pieces(piece: str) -> Sequence[str]:
    if RUN.fullmatch(piece):
        return [piece[place : place + 2] for place in range(max(1, len(piece) - 1))]
    return [piece] if len(piece) > 1 else []
