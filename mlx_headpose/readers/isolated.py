"""Read a file in a process of its own, where the library that reads it cannot be trusted.

HDF5's library is written in C, and some damaged files send it round in circles or crash it. In a
child process, both end as one sentence.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ..core.checkpoint import Tensors
from ..errors import InputError

# Processor time for the reading itself; the largest known file takes a tenth of it.
CPU_SECONDS = 5
# Memory besides that of the weights: HDF5 reads a list of names at once, of which a small file
# can claim gigabytes.
MEMORY_BYTES = 512 << 20
# For a machine that is busy with other things.
WALL_SECONDS = 300
REFUSED = 3
# `-c` puts the working folder before everything else, and untrusted files may lie there.
CODE = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from mlx_headpose.readers import isolated; isolated.child(*sys.argv[1:])"
)


def read_h5_isolated(path: Path) -> Tensors:
    """`read_h5`, but whatever the library does, this process goes on.

    Raises:
        InputError: see `read_h5`.
    """
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "arrays.npz"
        command = [sys.executable, "-c", CODE, str(path), str(arrays), str(CPU_SECONDS)]
        folders = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        try:
            done = subprocess.run(
                command,
                check=False,
                env=os.environ | {"PYTHONPATH": folders},
                capture_output=True,
                text=True,
                timeout=WALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: damaged, reading it finds no end; get it again") from None
        if done.returncode == REFUSED:
            raise InputError(done.stdout)
        if done.returncode < 0:
            raise InputError(f"{path}: damaged, its reader crashes or finds no end; get it again")
        if done.returncode:
            raise RuntimeError(f"reading {path} in a child process failed: {done.stderr}")
        with np.load(arrays, allow_pickle=False) as archive:
            return {name: archive[f"arr_{i}"] for i, name in enumerate(json.loads(done.stdout))}


def child(path: str, arrays: str, limit: str) -> None:
    """What the child process does: the arrays to a file, their names to standard output."""
    from .h5 import read_h5

    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        seconds = int(time.process_time()) + 1 + int(limit)
        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if most != resource.RLIM_INFINITY:  # nobody may raise a limit that is there already
            seconds = min(seconds, most)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # where the limit works, and what is taken so far is known
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            memory = taken + MEMORY_BYTES + 2 * Path(path).stat().st_size
            most = resource.getrlimit(resource.RLIMIT_AS)[1]
            if most != resource.RLIM_INFINITY:
                memory = min(memory, most)
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        tensors = read_h5(path)
    except InputError as error:
        print(error)
        sys.exit(REFUSED)
    np.savez(arrays, *tensors.values())
    print(json.dumps(list(tensors)))
