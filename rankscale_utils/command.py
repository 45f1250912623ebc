"""How the package's commands end: with an exit status, and where something cannot be done, with one sentence."""

import sys
from collections.abc import Callable
from functools import wraps

from rankscale_utils.files import DiskFull
from rankscale_utils.study import StudyError


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
