"""The one place that knows the device: which one a notebook computes on, and who holds which GPU."""

import contextlib
import fcntl
import os
import platform
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO

from .memory import keep_freed_memory

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of computing in each period, or `max`


def compute_device(threads: int):
    """Return the torch device to compute on, after pinning PyTorch to `threads` CPU threads."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 numbers itself (AVX-512 BF16 or AMX)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def mkl_halves() -> bool:
    """Return whether MKL uses half this CPU's width for float32: it knows AVX-512 of Intel's CPUs alone."""
    import torch

    return torch.cpu._is_avx512_supported() and _of_processor("vendor_id") == "AuthenticAMD"


def hardware() -> dict[str, str | int]:
    """Return what computes here, for ledgers and reports."""
    import torch

    processor = _of_processor("model name") or platform.processor() or platform.machine()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else processor
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _of_processor(field: str) -> str | None:
    """Return what the kernel says of the first core; nothing where it says nothing of that."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return line.split(":", 1)[1].strip()
    return None


def gpus() -> int:
    """Return how many GPUs the driver shows, without initialising CUDA."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def visible_gpus() -> int:
    """Return how many GPUs a run may use here: those of the scheduler's choice, or all."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return gpus() if chosen is None else len([number for number in chosen.split(",") if number])


def lease(count: int, wanted: int = 1) -> dict[int, TextIO]:
    """Wait for `wanted` free ones of `count` GPUs; return their numbers, each with the open file that holds it.

    A GPU is held until its file is closed in this process and in every child that inherited it, so that a command that
    outlives this process keeps its GPU. All or none are taken, as two processes that wait for each other's never end.
    """
    while True:
        held: dict[int, TextIO] = {}
        for number in range(count):
            file = _lock_file(Path(tempfile.gettempdir()) / f"rankscale-gpu{number}.lock")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            held[number] = file
            if len(held) == wanted:
                return held
        for file in held.values():
            file.close()
        time.sleep(random.uniform(0.1, 0.3))


def _lock_file(path: Path) -> TextIO:
    """Open a lock for reading, which is all that a lock needs, so that it serves every user of the machine."""
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444)
        os.fchmod(handle, 0o444)  # whatever the user's umask
        return open(handle, encoding="utf-8")
    return open(path, encoding="utf-8")


@contextmanager
def leased(wanted: int) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Hold GPUs while the block runs: yield a command's environment, and the files that it must inherit to hold them.

    Under a scheduler the scheduler's choice (CUDA_VISIBLE_DEVICES) stands; without a GPU nothing is held.
    """
    count = 0 if "CUDA_VISIBLE_DEVICES" in os.environ else gpus()
    held = lease(count, min(wanted, count)) if count else {}
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, held))} if held else {}
    try:
        yield os.environ | chosen, [file.fileno() for file in held.values()]
    finally:
        for file in held.values():
            file.close()


def cores() -> int:
    """Return how many cores this process may use: those of its affinity and of its container's quota, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
