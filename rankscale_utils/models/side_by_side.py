"""Batches side by side, each on a core of its own, as the many small operations of one batch keep cores waiting."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")


def side_by_side(work: Callable[[Item], None], items: Iterable[Item], device: torch.device) -> None:
    """Do the work on all items: on the CPU as many at once as torch has threads, each on one thread.

    Elsewhere they are done in turn. Threads start outside torch's inference mode, which is a thread's own.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        for item in items:
            work(item)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, items):
                pass
    finally:
        torch.set_num_threads(threads)
