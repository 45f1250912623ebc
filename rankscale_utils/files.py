"""Files that are written whole or not at all, and hashes of what they hold."""

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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block ends well, and is removed when not."""
    path = Path(path)
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
            data = part.read_bytes()
        elif isinstance(part, bytes):
            data = part
        else:
            data = (part if isinstance(part, str) else json.dumps(part, sort_keys=True)).encode()
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()[:length]


def cached_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, first filling it with `build(temporary folder)` when it is absent.

    Processes that start at once wait for one builder; a killed builder leaves nothing at `folder`.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            temporary = folder.with_name(f".{folder.name}.building")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            build(temporary)
            os.replace(temporary, folder)
    return folder
