"""The memory of a process: what it frees, it keeps."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
KEPT = 2**30  # bytes, free at the heap's end, above which they go back to the kernel


def keep_freed_memory() -> None:
    """Let large tensors take the memory that earlier ones have left.

    As it comes, glibc gives every block of 32 MB back when it is freed, and the kernel clears every page of the next
    one anew, which takes a quarter of a training step of real weights on the CPU. Elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, KEPT)
