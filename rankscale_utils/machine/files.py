"""Files that are written whole or not at all, and hashes of what they hold."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscale_utils.errors import NO_ROOM, Damaged, DiskFull

from .lease import lease
from .progress import say

if TYPE_CHECKING:
    import pandas as pd

HALF = re.compile(r"\..+\.[0-9a-f]{8}")  # how what is being written is called
RESULTS = "RANKSCALE_RESULTS"  # the environment's word on a study's results: "write", or "read" in a notebook by hand


def whole_file(path: Path) -> AbstractContextManager[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block ends well, and is removed when not.

    Raises:
        DiskFull: there is no room for it; what stood at `path` still does.
    """
    return _whole(Path(path), Path.touch)


def whole_folder(path: Path) -> AbstractContextManager[Path]:
    """Yield a temporary folder that becomes `path`, in place of what was there, when the block ends well.

    Raises:
        DiskFull: there is no room for it; what stood at `path` still does.
    """
    return _whole(Path(path), Path.mkdir)


@contextmanager
def _whole(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        make(temporary)
        try:
            yield temporary
            for file in _files(temporary) if temporary.is_dir() else [temporary]:
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
            if temporary.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Say it in one sentence when there is none."""
    try:
        yield
    except Exception as error:
        if _is_full(error):
            remedy = "free some and run the same command again, which goes on from what was finished"
            raise DiskFull(errno.ENOSPC, f"no room on the disk for {path}: {remedy}") from error
        raise


def remove_halves(folder: Path) -> None:
    """Remove what `whole_file` and `whole_folder` had begun in a folder, when they were killed; nobody writes there."""
    for half in [path for path in folder.rglob(".*") if HALF.fullmatch(path.name)]:
        shutil.rmtree(half, ignore_errors=True) if half.is_dir() else half.unlink(missing_ok=True)


def unwritable(folder: Path) -> str:
    """Say in a sentence why nothing can be written to a folder, which is made where it is not there; or nothing."""
    try:
        with _room_for(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(1 << 16))
    except DiskFull as error:
        return error.strerror or ""
    except OSError as error:
        return f"{folder} cannot be written to ({error.strerror}): let it be a folder that can, or move it away"
    return ""


def _is_full(error: Exception) -> bool:
    """Say whether an error means that there is no room; torch and safetensors say so in words of their own."""
    signs = ("No space left", "File too large", "Disk quota exceeded", "PytorchStreamWriter failed", "unexpected pos")
    number = getattr(error, "errno", None)
    return number in NO_ROOM or any(sign in str(error) for sign in signs)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        Damaged: it is no JSON.
    """
    with readable(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Read a file that the package wrote, or say in one sentence which one cannot be read, and the remedy.

    Raises:
        Damaged: it is not as it was written.
        FileNotFoundError: it is not there.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zlib.error) as error:  # pyarrow's, pandas' and json's errors are ValueErrors
        reason = " ".join(str(error).split())[:120]
        remedy = "delete it and run the same command again, which makes it anew"
        raise Damaged(f"{path} is damaged or cannot be read ({reason}): {remedy}.") from error


def read_only() -> bool:
    """Whether a study's results stay as they are, as beside a notebook that is run by hand: the batch writes them."""
    return os.environ.get(RESULTS) == "read"


@contextmanager
def result_file(path: Path) -> Iterator[Path]:
    """Like `whole_file`, for a study's results: where they are only read, what the block writes is let go."""
    if not read_only():
        with whole_file(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="rankscale-") as folder:
        yield Path(folder) / Path(path).name


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write a result as a table with a checksum in every page, whole or not at all."""
    with result_file(path) as temporary:
        table.to_parquet(temporary, write_page_checksum=True)


def read_parquet(path: Path, columns: list[str] | None = None) -> "pd.DataFrame":
    """Return the table, or some columns of it, that `write_parquet` wrote.

    Raises:
        Damaged: it is not as it was written.
        FileNotFoundError: it is not there.
    """
    import pandas as pd  # which takes a while, and few commands read tables

    with readable(path):
        return pd.read_parquet(path, columns=columns, page_checksum_verification=True)


def digest(*parts: Any, length: int = 64) -> str:
    """SHA-256 (hex, first `length` characters) of texts, bytes, paths' contents, or JSON-able values, in order."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            sha.update(part.stat().st_size.to_bytes(8, "little"))
            with open(part, "rb") as file:
                while piece := file.read(1 << 20):  # a run of MS MARCO's size is larger than memory should be
                    sha.update(piece)
            continue
        text = part if isinstance(part, str | bytes) else json.dumps(part, sort_keys=True)
        data = text if isinstance(text, bytes) else text.encode()
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:length]


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a folder by its name there, as `sha256sum` prints it."""
    found = {}
    for file in sorted(_files(folder)):
        with open(file, "rb") as content:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def damage_of(folder: Path, hashes: dict[str, str]) -> str:
    """Say in words which file of a folder is not as `hashes_of` found it, or nothing; further files do not count."""
    if not hashes:
        return "nobody noted what its files were"
    for name, wanted in hashes.items():
        try:
            with open(folder / name, "rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != wanted:
                    return f"{name} is not what was written"
        except OSError:
            return f"{name} is gone or cannot be read"
    return ""


def cached_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, first filling it with `build(temporary folder)` when it is absent.

    Processes that start at once wait for one builder; a killed builder leaves nothing at `folder`. Sizes, times and
    SHA-256 of what was built are kept beside it, and a folder with a file of another size, or of another time and
    content, is built again.

    Raises:
        DiskFull: there is no room for it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lease(Path(f"{folder}.lock")):
        if folder.exists() and not _as_built(folder):
            say(f"{folder} is damaged, so it is built again")
            shutil.rmtree(folder)
        if not folder.exists():
            temporary = folder.with_name(f".{folder.name}.building")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                with _room_for(folder):
                    build(temporary)
                write_json(
                    _built(folder),
                    {name: [*_seen(temporary / name), sha] for name, sha in hashes_of(temporary).items()},
                )
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _built(folder: Path) -> Path:
    """Return the file that says what a cached folder was when it was built."""
    return Path(f"{folder}.built.json")


def _seen(file: Path) -> tuple[int, int]:
    """Return what tells at a glance whether a file was touched: its size and time."""
    return file.stat().st_size, file.stat().st_mtime_ns


def _as_built(folder: Path) -> bool:
    """Say whether every file is what was built; those of another time, as in a copy, are read."""
    try:
        built = read_json(_built(folder))
        now = {name: [*_seen(folder / name), sha] for name, (*_, sha) in built.items()}
        touched = {name: now[name][2] for name in built if now[name] != built[name]}
        if any(now[name][0] != built[name][0] for name in touched) or (touched and damage_of(folder, touched)):
            return False
    except (Damaged, OSError, ValueError, TypeError, AttributeError):
        return False
    if touched:
        write_json(_built(folder), now)
    return True
