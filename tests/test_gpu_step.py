"""The operations of a GPU's step, on the CPU, so that machines without a GPU see them work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_headpose.methods import METHODS, config_class


@pytest.mark.parametrize("method", METHODS)
def test_a_gpus_operations_train_as_the_cpus(method: str) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, root / "tests" / "support" / "gpu_step.py"]
    config = json.dumps({"model_type": method, **config_class(method).small})
    # Where MLX finds no C++ compiler it does not compile for the CPU, which would take minutes.
    environment = os.environ | {"PATH": "", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [*command, config], env=environment, capture_output=True, text=True, check=True
    )
    trained, statistics, magnified = map(float, done.stdout.split())
    assert trained < max(1e-2, magnified / 2)
    assert statistics < 1e-3
