"""Text files that people wrote, which are UTF-8 or are named as what they are."""

import codecs
from pathlib import Path

from rankscale_utils.errors import StudyError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def encoding_of(start: bytes) -> str:
    """Return what a file that begins with these bytes is encoded in, as far as can be told: utf-8, utf-16 or cp1252."""
    if start.startswith(UTF_16) or start[:64].count(0) > len(start[:64]) // 4:
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def read_text(path: Path) -> str:
    """Return a user's text file, with or without a byte order mark.

    Raises:
        StudyError: it is not UTF-8; the message names the encoding that it seems to have, and the remedy.
    """
    written = Path(path).read_bytes()
    try:
        return written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(not_utf_8(path, encoding_of(written), written[: error.start].count(b"\n") + 1)) from None


def not_utf_8(path: Path, encoding: str, line: int) -> str:
    """Return the sentence that says what a file is encoded in, and how to make it UTF-8."""
    seems = {"utf-16": "UTF-16", "cp1252": "Windows-1252 or Latin-1"}.get(encoding, "something else")
    return (
        f"{path}, line {line}: not UTF-8 but, it seems, {seems}: save it as UTF-8, for example with "
        f"`iconv -f {encoding.upper()} -t UTF-8 {path.name} > new`."
    )
