"""The leader of a process group: runs a command in it, and ends the whole group when its own parent has gone.

Started as `python leader.py PARENT COMMAND …`, without the package, so that it takes no time.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

SIGNAL_WHEN_PARENT_ENDS = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def end_group(*_: int | FrameType | None) -> None:
    """Kill everything in this process group, this process too."""
    os.killpg(0, signal.SIGKILL)


def main(parent: int, command: list[str]) -> int:
    """Run the command and return its exit status."""
    signal.signal(signal.SIGTERM, end_group)
    signal.signal(signal.SIGINT, lambda *_: None)  # the command's own affair
    with suppress(AttributeError):  # systems other than Linux have no prctl
        ctypes.CDLL(None).prctl(SIGNAL_WHEN_PARENT_ENDS, signal.SIGTERM)
    if os.getppid() != parent:
        end_group()
    return subprocess.call(command, close_fds=False)  # what it inherits holds the study's lock


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
