"""Work whose parts know nothing of one another, on all cores at once."""

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

from .device import cores

Result = TypeVar("Result")
_parts: tuple[Callable[..., Any], list[tuple]] | None = None  # in a process that computes such parts: all of them


def each(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """Return what `map` would, from as many forked processes as there are cores; in this process where it cannot fork.

    A part's own parts come one after the other, and so do all where a process is killed. Results are pickled; the
    function and its arguments are not.
    """
    parts = [*zip(*arguments, strict=True)]
    workers = min(len(parts), cores())
    if workers > 1 and not _parts and _may_fork():
        forking = multiprocessing.get_context("fork")
        with (
            suppress(BrokenProcessPool),  # one was killed, as where memory runs out: one after the other need less
            ProcessPoolExecutor(workers, forking, initializer=_enter, initargs=(function, parts)) as processes,
        ):
            return list(processes.map(_result, range(len(parts))))
    return [function(*of_part) for of_part in parts]


def _may_fork() -> bool:
    """Say whether a fork serves: workers of a caller's `multiprocessing.Pool` may have no children."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def _enter(function: Callable[..., Any], parts: list[tuple]) -> None:
    global _parts
    _parts = function, parts


def _result(place: int) -> Any:
    function, parts = _parts
    return function(*parts[place])
