"""What ends a command with one sentence."""

import errno
import os
import select
import sys
from collections.abc import Callable
from functools import wraps
from io import TextIOWrapper

# What a folder may be in the way of: nobody's error here.
OF_FOLDERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
              errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE)  # fmt: skip
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class _OneSentence(Exception):
    """An error of whoever runs something: where it ends a notebook's cell, its sentence says all."""

    def _render_traceback_(self) -> list[str]:  # IPython's own name for what it shows of an error
        return [f"rankscale: {self}"]


class DiskFull(_OneSentence, OSError):
    """The disk has no room for a file; the message says which, and what to do."""


class StudyError(_OneSentence, ValueError):
    """A study cannot be used as written; the message names every field, its value and the remedy."""


class Damaged(StudyError):
    """A file that the package wrote is not as it was written; the message says which, why and what to do."""


def one_sentence(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command print the sentence of its StudyError or DiskFull and return 2, or 130 where it is stopped."""

    @wraps(command)
    def ending(*arguments: str) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a locale that cannot write a letter must not end the command
                stream.reconfigure(errors="backslashreplace")
        try:
            status = command(*arguments)
            print(end="", flush=True)
            return status
        except BrokenPipeError:
            if not _reader_has_gone():
                raise
            return 141  # what a shell says of such a command
        except KeyboardInterrupt:
            print("rankscale: stopped; the same command goes on from what was finished.", file=sys.stderr)
            return 130
        except (StudyError, DiskFull) as error:
            print(f"rankscale: {error}", file=sys.stderr)
            return 2
        except OSError as error:
            if error.errno in OF_FOLDERS and error.filename:
                place = error.filename2 or error.filename
                print(f"rankscale: {place}: {error.strerror}: make it usable or move it away.", file=sys.stderr)
                return 2
            if error.errno not in NO_ROOM:
                raise
            print(f"rankscale: no room on the disk for {error.filename or 'a file'}: free some.", file=sys.stderr)
            return 2

    return ending


def _reader_has_gone() -> bool:
    """Say whether nobody reads what this process prints any more, as after `| head`; then the rest is not printed."""
    watched = select.poll()
    watched.register(sys.stdout, select.POLLOUT)
    gone = any(event & select.POLLERR for _, event in watched.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone
