"""What a process is told before it is ended: SIGURG, a scheduler's warning in good time, and SIGTERM, seconds before.

SIGURG is ignored by every process that does not ask for it, so that a scheduler may send it to all of a job's.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

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
    before = {number: signal.signal(number, lambda number, _: came.add(number)) for number in SIGNALS}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
