"""Freed memory stays with the process, so that the kernel need not clear it again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from rankscale_utils.machine.memory import keep_freed_memory
{keep}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for megabytes in range(2, 31):
    torch.ones(megabytes * 250_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc decides for itself")
def test_tensors_take_the_memory_of_those_before():
    """Each of 29 tensors is a megabyte larger than the last: of 30 MB each page is cleared once, or of all 464 MB."""
    faults = []
    for keep in ("", "keep_freed_memory()"):
        done = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, check=True)
        faults.append(int(done.stdout))
    as_it_comes, kept = faults
    assert kept < as_it_comes / 4
