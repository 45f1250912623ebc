"""The one place that knows the device: which one a notebook computes on, and who holds which GPU.

As a command, `python -m rankscale_utils.device COMMAND …` runs a command on the first GPU that no other such command
holds. Under a scheduler the scheduler's choice (CUDA_VISIBLE_DEVICES) stands, and without a GPU the command just runs.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout


def compute_device(threads: int):
    """Return the torch device to compute on, after pinning PyTorch to `threads` CPU threads."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware() -> dict[str, str | int]:
    """Return what computes here, for ledgers and reports."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def gpus() -> int:
    """Return how many GPUs the driver shows, without initialising CUDA."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def lease(count: int) -> tuple[int, FileLock]:
    """Wait for a free one of `count` GPUs; return its number and the lock that holds it until released."""
    folder = Path(tempfile.gettempdir())
    locks = [FileLock(folder / f"rankscale-gpu{number}.lock") for number in range(count)]
    while True:
        for number, lock in enumerate(locks):
            try:
                return number, lock.acquire(blocking=False).lock
            except Timeout:
                continue
        time.sleep(0.2)


def main(command: list[str]) -> int:
    """Run a command on a free GPU and return its exit status."""
    count = 0 if "CUDA_VISIBLE_DEVICES" in os.environ else gpus()
    if not count:
        return subprocess.call(command)
    number, lock = lease(count)
    with lock:
        return subprocess.call(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": str(number)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
