"""What a process is told before it is ended: SIGURG, a scheduler's warning in good time, and SIGTERM, seconds before.

SIGURG is ignored by every process that does not ask for it, so that a scheduler may send it to all of a job's. In a
notebook SIGINT, the kernel's interruption, is taken too: what runs ends after what it is at; asked twice, at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from .progress import in_notebook

SIGNALS = (signal.SIGURG, signal.SIGTERM)


@contextmanager
def warned() -> Iterator[Callable[[], set[int]]]:
    """Take these signals while the block runs; yield what returns those that have come.

    Outside of a process's main thread, where Python takes no signals, none comes.
    """
    came: set[int] = set()
    if current_thread() is not main_thread():
        yield lambda: came
        return

    def take(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            signal.default_int_handler(number, frame)
        came.add(number)

    taken = (*SIGNALS, signal.SIGINT) if in_notebook() else SIGNALS
    before = {number: signal.signal(number, take) for number in taken}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
