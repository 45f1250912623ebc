"""What a file is instead of text in UTF-8."""

MAGIC = {
    b"\xff\xfe": ("UTF-16", "convert it, such as with `iconv -f UTF-16 -t UTF-8`"),
    b"\xfe\xff": ("UTF-16", "convert it, such as with `iconv -f UTF-16 -t UTF-8`"),
    b"\x1f\x8b": ("gzip", "let its name end in .gz, or unpack it"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save it as text"),
    b"PAR1": ("Parquet", "let its name end in .parquet"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unpack it"),
    b"BZh": ("bzip2", "unpack it"),
    b"\xfd7zXZ": ("XZ", "unpack it"),
}


def decode_utf8(data: bytes) -> str | None:
    """Return the text that bytes are in UTF-8, without a mark of it at the begin; None where they are none.

    Text holds no NUL.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def instead_of_utf8(begin: bytes, line: bytes, number: int) -> str:
    """Return what a file is and the remedy, by its first bytes and its first line that is none in UTF-8."""
    for magic, (kind, remedy) in MAGIC.items():
        if begin.startswith(magic):
            return f"is {kind}: {remedy}"
    if b"\0" in line:
        return f"has a NUL byte on line {number}, so it is UTF-16 or no text: convert it to UTF-8"
    wrong = _first_wrong(line)
    return (
        f"is no UTF-8: on line {number} stands the byte {wrong.hex().upper()}, which would be "
        f"{wrong.decode('cp1252', 'replace')!r} in Latin-1: convert it, such as with `iconv -f WINDOWS-1252 -t UTF-8`"
    )


def _first_wrong(line: bytes) -> bytes:
    try:
        line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.object[error.start : error.start + 1]
    return b""
