"""A lock between processes of one machine or of several that share a folder, which none that died holds for ever.

It asks of the file system only that a name is made once (`link`), a file replaced whole (`rename`) and a time kept
(`utime`): no locks of its own, which NFS and Lustre may lack, or leave behind when a node dies. Each holder makes the
next number's file and renews its time; on the same machine a holder that has ended is known at once, on another one by
a time that stands still. The highest number is never taken away, so that two who wait cannot both succeed a third.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from .progress import say

RENEWED = 15.0  # seconds after which a holder renews its file's time
GONE = 120.0  # seconds without that after which a holder on another machine counts as gone


class Held(Exception):
    """Somebody else holds the lease."""


@contextmanager
def lease(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold `path` while the block runs.

    timeout: seconds after which a holder that is seen to live is waited for no longer; absent: for ever.

    Raises:
        Held: it is held for longer.
    """
    taken = _wait(Path(path), timeout)
    over = Event()
    renewing = Thread(target=_renew, args=(taken, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        with suppress(OSError):  # no room, or no folder any more
            _write(taken, {})  # free, and still the highest number


def _wait(path: Path, timeout: float | None) -> Path:
    """Return the file of the number that this process could take."""
    began, seen = time.monotonic(), {}
    while True:
        if taken := _take(path, seen):
            return taken
        waited = time.monotonic() - began
        lives = not seen or any(count > 1 for _, count, _ in seen.values())  # here, or renewed while we watched
        if timeout is not None and waited > timeout and (lives or waited > GONE + RENEWED):
            raise Held(path)
        time.sleep(min(0.2 + waited / 20, 2.0))


def _numbers(path: Path) -> list[tuple[int, Path]]:
    files = [(file.name.removeprefix(f"{path.name}."), file) for file in path.parent.glob(f"{path.name}.*")]
    return sorted((int(number), file) for number, file in files if number.isdecimal())


def _take(path: Path, seen: dict) -> Path | None:
    """Return the next number's file where the last holder has gone; none where somebody holds it."""
    numbers = _numbers(path)
    last, file = numbers[-1] if numbers else (0, path)
    if numbers and not _free(file, seen):
        return None
    following = path.with_name(f"{path.name}.{last + 1}")
    if not _write(following, _this_process(), once=True):
        return None
    for _, older in numbers:
        older.unlink(missing_ok=True)
    return following


def _free(file: Path, seen: dict[Path, tuple[int, int, float]]) -> bool:
    """Say whether a number's holder has let go or has gone; seen: a file's time, how many it had, and since when."""
    try:
        moment, holder = file.stat().st_mtime_ns, json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # taken away just now, or damaged
        moment, holder = 0, {"machine": "unknown"}
    if not holder:
        return True
    if holder["machine"] == _machine():
        seen.clear()
        return _started(holder["pid"]) != holder["started"]
    last, count, since = seen.get(file, (-1, 0, 0.0))
    if moment != last:
        seen[file] = (moment, count + 1, time.monotonic())
        return False
    return time.monotonic() - since > GONE


def _renew(file: Path, over: Event) -> None:
    """Renew the time until the block is over; a process that slept so long that another took over ends at once."""
    while not over.wait(RENEWED):
        if [last for _, last in _numbers(file.with_suffix(""))[-1:]] not in ([], [file]):
            say(f"{file} was taken over by another machine while this process slept: it ends")
            os._exit(70)
        with suppress(OSError):
            os.utime(file)


def _write(file: Path, value: dict, once: bool = False) -> bool:
    """Write a file whole; `once`: only if there is none. Return whether it is this process's."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    try:
        os.link(temporary, file) if once else os.replace(temporary, file)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _this_process() -> dict:
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _machine() -> str:
    """Return what processes share that know each other by number: a machine since it started, a container there."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """Return when a living process started, in the system's own count; nothing of one that has ended."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if state in "ZX" else others[18]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)  # systems without /proc
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
