"""What a process must be like for MLX: its standard streams open, and not forked from another."""

from __future__ import annotations

import os

from .errors import InputError

STANDARD_STREAMS = (0, 1, 2)
_mlx_runs = False
_forked = False


def keep_standard_descriptors() -> None:
    """Let closed standard streams lead nowhere.

    The next file that is opened takes the lowest free descriptor. MLX takes 0 for a failure to
    open it, and what C libraries print would go into a file that has 1 or 2.
    """
    for descriptor in STANDARD_STREAMS:
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def require_mlx() -> None:
    """Be called before MLX computes.

    Raises:
        InputError: it has computed in this process's parent. Its threads were not copied by the
            fork, and whoever waits for them waits for ever.
    """
    global _mlx_runs  # noqa: PLW0603
    if _forked:
        raise InputError(
            "this process was forked after a network was loaded, where MLX hangs; load networks in "
            "the child alone, or start it by multiprocessing.get_context('spawn')"
        )
    _mlx_runs = True


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = _mlx_runs


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
