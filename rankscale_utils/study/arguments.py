"""The entrance of the functions that people call from Python: every argument is read before any work is done."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rankscale_utils.errors import StudyError

Read = Callable[[Any], Any]  # returns an argument in one form, or raises a ValueError with what it must be
P, R = ParamSpec("P"), TypeVar("R")
SHOWN = 60  # letters of a value in a message


def checked(**kinds: Read) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function's arguments be read before it begins; those that cannot be end in one sentence, a StudyError."""

    def guard(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @wraps(function)
        def entrance(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            for name in kinds.keys() & given.arguments:
                try:
                    given.arguments[name] = kinds[name](given.arguments[name])
                except ValueError as error:
                    if isinstance(error, StudyError):
                        raise
                    raise StudyError(f"{name} = {shown(given.arguments[name])}: {error}.") from None
            return function(*given.args, **given.kwargs)

        return entrance

    return guard


def shown(value: Any) -> str:
    """Return a value as a message shows it, on one line."""
    written = " ".join(repr(value).split())
    return written if len(written) <= SHOWN else f"{written[:SHOWN]}…"


def optional(read: Read) -> Read:
    """Return what leaves None alone, and reads all else."""
    return lambda value: None if value is None else read(value)


def flag(value: Any) -> bool:
    """Read a yes or no."""
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def text(value: Any) -> str:
    """Read a text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def path(value: Any) -> Path:
    """Read a path, or a name that may become one."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("must be a path, as a text or a pathlib.Path")
    return Path(value)


def names(value: Any) -> tuple[str, ...]:
    """Read one name, or any number of them."""
    given = [value] if isinstance(value, str) else value
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise ValueError("must be a name or a list of names")
    given = tuple(given)
    if wrong := [name for name in given if not isinstance(name, str) or not name.strip()]:
        raise ValueError(f"must be a list of names, and {shown(wrong[0])} is no text: write it in quotes")
    return given
