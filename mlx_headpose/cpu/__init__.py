"""What makes MLX's CPU build on Linux fast. It changes the process, so users can say no."""

from __future__ import annotations

import os

from .blas import load_optimised_blas
from .memory import keep_freed_memory

NO_TUNING = "MLX_HEADPOSE_NO_TUNING"


def tune() -> None:
    """Load an optimised BLAS and let malloc keep freed memory, before anything imports mlx.core.

    With the environment variable MLX_HEADPOSE_NO_TUNING=1 nothing is done.
    """
    if os.environ.get(NO_TUNING, "0") in ("", "0"):
        keep_freed_memory()
        load_optimised_blas()
