"""When two texts are the same for a reader: case, width, punctuation and blanks make no difference."""

import unicodedata
from collections.abc import Iterable

import numpy as np
import pandas as pd


class _LettersAndDigits(dict):
    """Maps a number to its character where that is a letter, a mark on one, or a digit, else to a blank.

    Characters that are not seen, such as soft hyphens, are left out.
    """

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))
        self[code] = kept = chr(code) if kind[0] in "LMN" else "" if kind == "Cf" else " "
        return kept


_KEPT = _LettersAndDigits()


def folded_words(text: str) -> list[str]:
    """Return the runs of letters, marks and digits of a text in NFKC, case-folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.translate(_KEPT).split()


def normal_text(text: str) -> str:
    """Return a text in NFKC, case-folded, each run of what is no letter and no digit as one blank.

    A text without a letter or digit, such as an emoticon, is itself, without blanks around it.
    """
    return " ".join(folded_words(text)) or text.strip()


def normal_rows(texts: Iterable[str]) -> np.ndarray:
    """Return a number for every text, equal for texts that are the same: (texts,)."""
    return pd.factorize(pd.Series([normal_text(text) for text in texts], dtype=object))[0]
