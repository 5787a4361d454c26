"""What this machine is and has: nothing that tells whose it is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlx.core as mx

from .._version import __version__
from .check import tf32
from .compute import on_gpu

PACKAGES = ("mlx", "numpy", "pillow", "scipy", "safetensors", "opencv-python-headless")


def describe() -> dict[str, Any]:
    """Chip, system, versions, device and memory, as JSON can hold them."""
    info = mx.device_info()
    limit = info.get("max_recommended_working_set_size")
    return {
        "chip": chip(),
        "device": "GPU" if on_gpu() else "CPU",
        "device_name": info.get("device_name"),
        "architecture": info.get("architecture"),
        "cores": os.cpu_count(),
        "memory_gb": _gigabytes(_memory()),
        "gpu_memory_gb": _gigabytes(limit),
        "system": _system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "mlx_headpose": __version__,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "tf32": tf32(),
    }


def chip() -> str:
    """The processor's name, such as "Apple M2"."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return f"{platform.system()} {platform.release()}"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _gigabytes(count: Any) -> float | None:
    return round(count / 1e9, 1) if isinstance(count, int) else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
