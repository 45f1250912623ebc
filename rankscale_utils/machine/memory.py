"""The memory of a process: what it frees, it keeps."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST = 2**25  # bytes, glibc's own limit, up to which a block is of the heap; a larger one goes back when it is freed
KEPT = 2**30  # bytes that may be free at the heap's end


def keep_freed_memory() -> None:
    """Let tensors take the memory that earlier ones have left.

    As it comes, glibc gives back all beyond 64 MB at the heap's end, and the kernel clears every page of the next
    tensors anew, which takes a quarter of a training step of real weights on the CPU. With another C library nothing
    happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)
