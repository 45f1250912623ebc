"""Folders for Unix sockets, whose paths may have 107 bytes and no more."""

import os
import tempfile

from rankscale_utils.errors import StudyError

LONGEST = 75  # bytes of a folder in which `rankscale-xxxxxxxx/kernel-5` still fits


def socket_folder() -> tempfile.TemporaryDirectory:
    """Return a new folder of mode 0700 in which sockets fit: in TMPDIR, or elsewhere where that is too long.

    Raises:
        StudyError: no folder for temporary files is short enough and can be written to.
    """
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    for place in places:
        if place and len(os.fsencode(place)) <= LONGEST and os.access(place, os.W_OK | os.X_OK):
            return tempfile.TemporaryDirectory(prefix="rankscale-", dir=place)
    raise StudyError(
        f"TMPDIR = {places[0]} is longer than {LONGEST} bytes, and nothing shorter can be written to: set it."
    )
