"""Memory that is taken and given back at every step of a training on a CPU."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Of `mallopt`; see its manual page."""
LARGEST: Final = 32 << 20
"""Bytes of a block up to which it is taken from what was freed: the most that glibc allows."""
AT_ONCE: Final = 512 << 20
"""Bytes that the heap grows by at first; they are nobody's until they are written to."""
LATER: Final = 64 << 20
HUGE_PAGE: Final = 2 << 20
MADV_HUGEPAGE: Final = 14
MAPS: Final = Path("/proc/self/maps")


def keep_freed_memory() -> bool:
    """Have this process keep what it frees, in large pages; True where that is done, which is under glibc.

    Otherwise each large tensor of a step is memory that the kernel hands out anew, page by page, zeroed: some
    12,000 pages a step of the smallest language model, a fifth of its time. It is for a process that trains
    and ends, before it has used much memory; results stay what they are, to the bit.
    """
    libc = ctypes.CDLL(None)
    if not MAPS.exists() or not hasattr(libc, "gnu_get_libc_version"):
        return False
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    set_all = (
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        and libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        and libc.mallopt(TOP_PAD, AT_ONCE)
    )
    # Larger than any hole, so that the heap grows.
    libc.free(libc.malloc(LARGEST - HUGE_PAGE))
    libc.mallopt(TOP_PAD, LATER)
    for line in MAPS.read_text().splitlines():
        if line.endswith("[heap]"):
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            start += -start % HUGE_PAGE
            libc.madvise(start, end - start, MADV_HUGEPAGE)
    return bool(set_all)
