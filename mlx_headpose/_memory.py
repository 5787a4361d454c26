"""Keep freed memory for the next array, on Linux; say in words when memory ends.

MLX's CPU build takes every array from malloc. glibc gives large blocks back to the kernel as soon
as they are free, so each operation faults its result's pages in anew, which can take longer than
the operation. macOS has its own allocator in MLX and needs none of this.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import InputError

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let malloc keep up to 1 GiB that is free; return whether it agreed (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))


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
