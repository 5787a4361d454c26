"""Memory of a process, on Linux and macOS."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

# getrusage counts in kB on Linux and in bytes on macOS.
UNIT = 1 if sys.platform == "darwin" else 1024
_FORGET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def peak_bytes(children: bool = False) -> int:
    """The most that this process, or a child that has ended, ever had in memory."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    return resource.getrusage(who).ru_maxrss * UNIT


def forget_peak() -> None:
    """Begin a new peak for `recent_peak_bytes`, where the system can (Linux)."""
    if _FORGET.exists():
        _FORGET.write_text("5")


def recent_peak_bytes() -> int:
    """The most that this process had in memory since `forget_peak`, or ever."""
    if not _FORGET.exists():
        return peak_bytes()
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def resident_bytes() -> int:
    """What this process has in memory now."""
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024
