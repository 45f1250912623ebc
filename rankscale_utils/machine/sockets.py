"""Folders for Unix sockets, whose paths may have 107 bytes and no more."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankscale_utils.errors import StudyError

LONGEST = 75  # bytes of a folder in which `rankscale-xxxxxxxx/kernel-5` still fits
PREFIX, HELD = "rankscale-", ".lock"


@contextmanager
def socket_folder() -> Iterator[str]:
    """Yield a new folder of mode 0700 in which sockets fit: in TMPDIR, or elsewhere where that is too long.

    Those that killed processes left there are removed.

    Raises:
        StudyError: no folder for temporary files is short enough and can be written to.
    """
    place = _place()
    _remove_left(Path(place))
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as folder, open(f"{folder}/new", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as long as this process lives, and no longer
        os.rename(held.name, f"{folder}/{HELD}")
        yield folder


def _place() -> str:
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    for place in places:
        if place and len(os.fsencode(place)) <= LONGEST and os.access(place, os.W_OK | os.X_OK):
            return place
    raise StudyError(
        f"TMPDIR = {places[0]} is longer than {LONGEST} bytes, and nothing shorter can be written to: set it."
    )


def _remove_left(place: Path) -> None:
    """Remove the folders whose owners have gone without doing so."""
    for file in place.glob(f"{PREFIX}*/{HELD}"):
        try:
            with open(file, "rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(file.parent, ignore_errors=True)
        except OSError:  # held, gone by now, or another user's
            continue
