"""The descriptors 0, 1 and 2 of a process, which daemons close and which files must not get."""

from __future__ import annotations

import os

STANDARD = (0, 1, 2)


def keep_standard_descriptors() -> None:
    """Let closed standard streams lead nowhere.

    The next file that is opened takes the lowest free descriptor. MLX takes 0 for a failure to
    open it, and what C libraries print would go into a file that has 1 or 2.
    """
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
