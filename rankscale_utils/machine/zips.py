"""Zip files: the same bytes for the same files, and unpacked without trust in whoever made them."""

import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from rankscale_utils.errors import StudyError

from .files import whole_file

BEGINNING = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold, in place of when a file was written
READ_ALONE = (".csv", ".json", ".yaml", ".parquet", ".lock", ".pem", ".tsr")  # kinds of files, none of which is run
MOST_FILES, MOST_BYTES = 1000, 2**28


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names as a zip, whole or not at all."""
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, BEGINNING)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)


def unpack(path: Path, folder: Path) -> None:
    """Write the files of a zip into a folder, once all of them are known to be harmless.

    Raises:
        StudyError: it is no zip or damaged, it holds too much, a link, a kind of file that is not only read, or a name
            that leads out of the folder or stands twice.
    """
    if not path.is_file():
        raise StudyError(f"{path}: there is no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for said in _refusals(entries):
                raise StudyError(f"{path.name} is not unpacked: {said}.")
            for entry in entries:
                file = folder / entry.filename
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(entry))  # no more than the size that it states
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise StudyError(f"{path.name} is no whole zip ({' '.join(str(error).split())}): get it again.") from error


def _refusals(entries: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Yield what is wrong with the entries of a zip, by what it states of them."""
    if len(entries) > MOST_FILES:
        yield f"it holds {len(entries):,} files, more than {MOST_FILES:,}"
    if (held := sum(entry.file_size for entry in entries)) > MOST_BYTES:
        yield f"it unpacks to {held / 2**20:,.0f} MB, more than {MOST_BYTES / 2**20:,.0f}"
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
            yield f"the name {name!r} leads out of its folder"
        if stat.S_ISLNK(entry.external_attr >> 16):
            yield f"{name} is a link"
        if PurePosixPath(name).suffix.lower() not in READ_ALONE:
            yield f"{name} is none of the kinds that are only read: {', '.join(READ_ALONE)}"
        if name.casefold() in seen:
            yield f"the name {name} stands twice"
        seen.add(name.casefold())
