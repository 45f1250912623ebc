"""Files that are written whole or not at all, and hashes of what they hold."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from rankscale_utils.errors import DiskFull

from .progress import say


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block ends well, and is removed when not.

    Raises:
        DiskFull: there is no room for it; what stood at `path` still does.
    """
    path = Path(path)
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


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


def _is_full(error: Exception) -> bool:
    """Say whether an error means that there is no room; torch and safetensors say so in words of their own."""
    signs = ("No space left", "File too large", "Disk quota exceeded", "PytorchStreamWriter failed", "unexpected pos")
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) or any(sign in str(error) for sign in signs)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, in place of what was there, when the block ends well.

    Raises:
        DiskFull: there is no room for it; what stood at `path` still does.
    """
    path = Path(path)
    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)  # mkdtemp makes folders that only their owner may read
            for file in _files(temporary):
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(Path(path).read_text())


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


def cached_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, first filling it with `build(temporary folder)` when it is absent.

    Processes that start at once wait for one builder; a killed builder leaves nothing at `folder`. The sizes of what
    was built are kept beside it, and a folder with a file of another size is built again.

    Raises:
        DiskFull: there is no room for it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists() and not _has_sizes(folder):
            say(f"{folder} is damaged, so it is built again")
            shutil.rmtree(folder)
        if not folder.exists():
            temporary = folder.with_name(f".{folder.name}.building")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                with _room_for(folder):
                    build(temporary)
                sizes = {str(file.relative_to(temporary)): file.stat().st_size for file in _files(temporary)}
                write_json(Path(f"{folder}.sizes.json"), sizes)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _has_sizes(folder: Path) -> bool:
    """Say whether every file has the size it was built with; earlier versions kept no sizes, and are trusted."""
    try:
        sizes = read_json(Path(f"{folder}.sizes.json"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except FileNotFoundError as missing:
        return str(missing.filename).endswith(".sizes.json")
