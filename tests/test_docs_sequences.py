"""Sequences of commands in the documentation, run as they stand on local stand-ins.

A tiny folder stands in for AFLW2000, a seeded network for a download, and trainings are shortened.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from support.commands import ROOT

from mlx_headpose.methods import build, config_class
from mlx_headpose.weights import save_pretrained

SHORT = ["--samples", "8", "--num_epochs", "1", "--batch_size", "4"]


def sequence(page: str, start: str) -> list[list[str]]:
    """The commands of a page's block that begins with these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(rf"^```\n({re.escape(start)}.*?)^```", text, re.S | re.M)
    assert block is not None, f"{page}: no block begins with {start}"
    return [shlex.split(line, comments=True) for line in block[1].replace("\\\n", "").splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the program beside a small AFLW2000 and a photo."""
    shutil.copytree(
        ROOT / "mlx_headpose",
        tmp_path / "mlx_headpose",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for script in ROOT.glob("*.py"):
        shutil.copy(script, tmp_path)
    folder = tmp_path / "datasets" / "AFLW2000"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("image00002", "image00004"):
        Image.fromarray(rng.integers(0, 256, (120, 120, 3), np.uint8)).save(folder / f"{name}.jpg")
        points = rng.uniform(30, 90, (3, 68))
        pose = np.array([[0.1, -0.2, 0.05, 0, 0, 0, 1]])
        savemat(
            folder / f"{name}.mat",
            {"Pose_Para": pose, "pt2d": points[:2, :21], "pt3d_68": points},
        )
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / "photo.jpg")
    return tmp_path


def run_all(commands: list[list[str]], folder: Path) -> str:
    """The commands' output; each must end well."""
    shown = ""
    for program, *words in commands:
        assert program == "python"
        more = SHORT if words[0] == "train.py" else []
        done = subprocess.run(
            [sys.executable, *words, *more],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        shown += done.stdout
    return shown


def test_reproduce_a_published_table(checkout):
    convert, *commands = sequence("README.md", "python convert.py --weight hopelessnet")
    mx.random.seed(0)
    network = build(config_class("hopenet")(arch="squeezenet1_1"))
    (checkout / "weights").mkdir()
    save_pretrained(network, checkout / "weights" / f"{convert[-1]}.safetensors")
    assert "2 images" in run_all(commands, checkout)


def test_add_a_method(checkout):
    text = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- a test runs this file -->\n```python\n(.*?)```", text, re.S)
    assert code is not None
    method = checkout / "mlx_headpose" / "methods" / "sixd"
    method.mkdir()
    (method / "__init__.py").touch()
    (method / "network.py").write_text(code[1], encoding="utf-8")
    (checkout / "datasets" / "300W_LP").mkdir()  # is not taken for what the first line trains on
    commands = sequence("docs/adding-a-method.md", "python train.py --model sixd")
    assert [words[1] for words in commands] == ["train.py", "test.py", "predict.py", "export.py"]
    run_all(commands, checkout)
    assert list(checkout.rglob("*.onnx"))
