"""How the C library's allocator gives memory back. Arrays of an hour's AUs are some MB each: by default every one of them is memory fresh
from the kernel, and faulting its pages in costs as much as all the work that is done on them."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3     # malloc.h
KEPT_BYTES = 32 << 20         # free memory that a thread's heap may keep for what comes next
LARGE_BYTES = 4 << 20         # larger blocks (heads of many hours) go back at once


def keep_freed() -> None:
    """Have this process keep up to KEPT_BYTES of what it frees. Does nothing where the C library has no such setting (musl)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
