"""Freed memory stays with the process, so that the kernel need not clear it again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from rankscale_utils.machine.memory import keep_freed_memory
{keep}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc decides for itself")
def test_large_tensors_take_the_memory_of_those_before():
    """Of 20 tensors of 80 MB each page is cleared once at most, instead of 20 times."""
    faults = []
    for keep in ("", "keep_freed_memory()"):
        done = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, check=True)
        faults.append(int(done.stdout))
    as_it_comes, kept = faults
    assert kept < as_it_comes / 10
