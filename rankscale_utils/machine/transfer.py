"""What the host does so that a GPU never waits for it: it prepares ahead, sends from pinned memory, and reads late."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")


def ahead(prepare: Callable[[Item], Prepared], items: Iterable[Item], early: bool) -> Iterator[Prepared]:
    """Yield what is prepared of every item, in order; if `early`, the next one in a thread of its own meanwhile."""
    if not early:
        yield from map(prepare, items)
        return
    waiting: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for item in items:
            waiting.append(thread.submit(prepare, item))
            if len(waiting) == 2:
                yield waiting.popleft().result()
        for last in waiting:
            yield last.result()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host's memory on a device; a GPU takes it when it gets there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fetch(tensor: Tensor) -> Callable[[], np.ndarray]:
    """Let a tensor be copied into the host's memory once it is computed; return what waits for that and returns it."""
    tensor = tensor.detach()
    if tensor.device.type != "cuda":
        return tensor.numpy
    copied, done = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
    done.record()

    def read() -> np.ndarray:
        done.synchronize()
        return copied.numpy()

    return read
