"""Keep freed memory for the next array, on Linux.

MLX's CPU build takes every array from malloc. glibc gives large blocks back to the kernel as soon
as they are free, so each operation faults its result's pages in anew, which can take longer than
the operation. macOS has its own allocator in MLX and needs none of this.
"""

from __future__ import annotations

import ctypes
import sys

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
