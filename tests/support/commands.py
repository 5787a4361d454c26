"""The commands in a process of their own, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]


def run(script: str, *arguments: object, folder: Path = ROOT) -> Done:
    """An entry script of the repository, such as "test.py", run in a folder."""
    return _run(ROOT / script, *arguments, folder=folder)


def installed(*arguments: object, folder: Path = ROOT) -> Done:
    """The installed command, `mlx-headpose ...`, run in a folder."""
    return _run("-m", "mlx_headpose", *arguments, folder=folder)


def _run(*arguments: object, folder: Path) -> Done:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )


def assert_refused(done: Done, *words: str) -> None:
    """Exit code 2 and one sentence that holds the words."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
