"""Keep freed memory for the next array, in large pages, on Linux; say in words when memory ends.

MLX's CPU build takes every array from malloc. glibc gives large blocks back to the kernel as soon
as they are free, so each operation faults its result's pages in anew, which can take longer than
the operation. Where pages have 4 KiB, looking up their addresses takes time as well. macOS has its
own allocator in MLX and needs none of this.
"""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# From Linux's mman.h.
_MADV_HUGEPAGE = 14
_LARGE_PAGE = 2 << 20
# 2: the kernel promises no more memory than there is.
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let malloc keep up to 1 GiB that is free; return whether it agreed (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    if not (
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES) and libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    ):
        return False
    _large_pages(libc)
    return True


def _large_pages(libc: ctypes.CDLL) -> None:
    """Ask for large pages where malloc will put the first GiB.

    Pages that stay unused take no memory, but count where addresses or promises are limited. BLAS
    may need them more there: where it gets no buffer, OpenBLAS tries for ever.
    """
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits):
        return
    if _OVERCOMMIT.exists() and _OVERCOMMIT.read_text().strip() == "2":
        return
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = KEPT_BYTES - _LARGE_PAGE
    block = libc.malloc(size)
    if block:
        first = -(-block // _LARGE_PAGE) * _LARGE_PAGE
        libc.madvise(first, block + size - first, _MADV_HUGEPAGE)
        libc.free(block)


@contextmanager
def batch_size_named(batch_size: int) -> Iterator[None]:
    """Turn running out of memory into a sentence that names the batch size.

    Raises:
        InputError: memory ended, as numpy, Metal or CUDA say it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error).lower()
        if not isinstance(error, MemoryError) and "memory" not in said and "alloc" not in said:
            raise
        advice = f"--batch_size {batch_size // 2}" if batch_size > 1 else "a smaller network"
        raise InputError(
            f"out of memory with --batch_size {batch_size}; try {advice} ({error})"
        ) from error
