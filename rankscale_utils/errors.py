"""What ends a command with one sentence."""

import sys
from collections.abc import Callable
from functools import wraps


class DiskFull(OSError):
    """The disk has no room for a file; the message says which, and what to do."""


class StudyError(ValueError):
    """A study cannot be used as written; the message names every field, its value and the remedy."""


class Damaged(StudyError):
    """A file that the package wrote is not as it was written; the message says which, why and what to do."""


def one_sentence(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command that raises StudyError or DiskFull print the error's sentence and return the exit status 2."""

    @wraps(command)
    def ending(*arguments: str) -> int:
        try:
            return command(*arguments)
        except (StudyError, DiskFull) as error:
            print(f"rankscale: {error}", file=sys.stderr)
            return 2

    return ending
