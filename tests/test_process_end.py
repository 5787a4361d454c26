"""The end of a process while a thread of ours still computes."""

from __future__ import annotations

import subprocess
import sys

from support.commands import ROOT

PROGRAM = """
from mlx_headpose import process
import mlx.core as mx

def compute():
    print("begun", flush=True)
    x = mx.ones((700, 700))
    for _ in range(150):
        x = x @ x / 700
        mx.eval(x)
    print("done", flush=True)

process.begin(compute)
"""


def test_what_is_being_computed_is_waited_for():
    """Else MLX aborts the process in some of its ends."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["begun", "done"]
