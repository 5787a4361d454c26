"""Give MLX's CPU build on Linux a fast BLAS.

The Linux wheel links the reference BLAS, about 40 times slower than an optimised one. A library
that is loaded globally before `mlx.core` takes its place, because the dynamic linker binds a
symbol to the first library that offers it. macOS has Accelerate and needs none of this.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADVICE = (
    "mlx-headpose: no optimised BLAS found, the CPU will be slow; "
    'run `pip install "opencv-python-headless>=5"` (or set MLX_HEADPOSE_BLAS=0 to hide this line)'
)
_SET = "openblas_set_num_threads"
_OPENMP = 2  # as openblas_get_parallel says it
TOO_LATE = (
    "mlx-headpose: mlx was imported first, so its CPU build keeps its slow BLAS; write `import "
    "mlx_headpose` above `import mlx.core` (or set MLX_HEADPOSE_BLAS=0 to hide this line)"
)


def candidates() -> list[str]:
    """Paths and names of optimised CBLAS libraries that this machine may have, best first."""
    import ctypes.util  # and subprocess, which it imports

    found = []
    # Debian's and Fedora's libopenblas, then the copy inside the opencv wheel.
    name = ctypes.util.find_library("openblas")
    if name:
        found.append(name)
    spec = importlib.util.find_spec("cv2")
    if spec and spec.origin:
        site = Path(spec.origin).parent.parent
        for folder in (site / "opencv_python_headless.libs", site / "opencv_python.libs"):
            found += sorted(str(path) for path in folder.glob("libopenblas*.so*"))
    return found


def core_type(cpuinfo: str) -> str | None:
    """OpenBLAS's name for the best kernels of an x86 processor, by the text of /proc/cpuinfo."""
    lines = (line for line in cpuinfo.splitlines() if line.startswith("flags"))
    flags = set(next(lines, "").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


@contextmanager
def best_kernels() -> Iterator[None]:
    """Inside, an OpenBLAS that is being loaded takes the kernels that the processor can run.

    OpenBLAS goes by the processor's model, and one that is older than the processor falls back to
    kernels of 2007: that of the opencv wheel (0.3.15) computes at a quarter of the speed on Zen 5.
    A choice in OPENBLAS_CORETYPE stays.
    """
    variable = "OPENBLAS_CORETYPE"
    try:
        kernels = core_type(Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        kernels = None
    if kernels is None or variable in os.environ:
        yield
        return
    os.environ[variable] = kernels
    try:
        yield
    finally:
        del os.environ[variable]


def load_optimised_blas() -> str | None:
    """Load an optimised BLAS globally, before MLX; return its name, or None where none is used.

    Does nothing on macOS, with a GPU build, or with MLX_HEADPOSE_BLAS=0.
    """
    setting = os.environ.get("MLX_HEADPOSE_BLAS", "1")
    if not sys.platform.startswith("linux") or setting == "0" or _gpu_build():
        return None
    if "mlx.core" in sys.modules:
        print(TOO_LATE, file=sys.stderr)
        return None
    for name in [setting, *candidates()] if setting != "1" else candidates():
        try:
            with best_kernels():
                library = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if hasattr(library, "cblas_sgemm"):
            return name
    print(ADVICE, file=sys.stderr)
    return None


def threads() -> int:
    """How many threads a matrix product uses; 1 where `set_threads` could not change that.

    It can with OpenBLAS on Linux, unless that is built with OpenMP, which counts for each thread.
    """
    if not sys.platform.startswith("linux"):
        return 1
    blas = ctypes.CDLL(None)
    if not hasattr(blas, _SET) or blas.openblas_get_parallel() == _OPENMP:
        return 1
    return int(blas.openblas_get_num_threads())


def set_threads(count: int) -> None:
    """Let matrix products use so many threads; only where `threads` gave more than 1."""
    getattr(ctypes.CDLL(None), _SET)(count)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, a matrix product uses one thread, and those of two threads do not wait in turn."""
    count = threads()
    if count <= 1:
        yield
        return
    set_threads(1)
    try:
        yield
    finally:
        set_threads(count)


def _gpu_build() -> bool:
    """Whether the installed MLX is a CUDA build, which multiplies on the GPU.

    The libraries of both builds have one name; the packages that bring them, `mlx-cuda-12` and the
    like, do not.
    """
    spec = importlib.util.find_spec("mlx")
    places = spec.submodule_search_locations if spec else None
    return any(any(Path(place).parent.glob("mlx_cuda*.dist-info")) for place in places or ())
