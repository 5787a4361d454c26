"""Built packages: everything is in them, and the bundled network is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import mlx.core as mx
import pytest
from support.commands import ROOT

from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.methods import build
from mlx_headpose.methods.hopenet.network import Config
from mlx_headpose.weights import save_pretrained

pytest.importorskip("setuptools", minversion="77", reason="builds a wheel with setuptools")

USE = """
import numpy as np, mlx_headpose
(head,) = mlx_headpose.HeadPoseEstimator()(np.zeros((90, 90, 3), np.uint8), boxes=[(9, 9, 80, 80)])
print(mlx_headpose.__file__, head.yaw)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is packed, with a bundled network of random weights and another in weights/."""
    folder = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mlx_headpose", folder / "mlx_headpose", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    mx.random.seed(0)
    network = build(Config(arch="squeezenet1_1", preprocessing=Preprocessing(size=64)))
    for place in ("mlx_headpose/bundled/headpose", "weights/downloaded"):
        save_pretrained(network, folder / f"{place}.safetensors", half=True)
    return folder


def built(kind: str, source: Path, target: Path) -> Path:
    """The archive that pip and build make of a folder."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = target.iterdir()
    return archive


@pytest.mark.parametrize("way", ["wheel", "wheel of the source archive"])
def test_a_wheel_has_all_code_and_the_network(checkout: Path, tmp_path: Path, way: str) -> None:
    source = checkout
    if way != "wheel":
        with tarfile.open(built("sdist", checkout, tmp_path / "sdist")) as archive:
            archive.extractall(tmp_path, filter="data")
        (source,) = tmp_path.glob("mlx_headpose-*")
    wheel = built("wheel", source, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("mlx_headpose/")}
        archive.extractall(tmp_path / "site")
    code = {f"mlx_headpose/{path.relative_to(ROOT / 'mlx_headpose')}" for path in modules()}
    bundled = {f"mlx_headpose/bundled/{name}.safetensors" for name in ("headpose", "headdetector")}
    bundled.add("mlx_headpose/bundled/signs.png")
    checked = {f"mlx_headpose/selfcheck/{name}" for name in ("astronaut.png", "values.safetensors")}
    assert packed == code | bundled | checked
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))


def modules() -> list[Path]:
    return list((ROOT / "mlx_headpose").rglob("*.py"))


PREDICT = ["docs/images/astronaut.jpg", "--bbox", "178,63,90,114"]


def zipped(folder: Path) -> Path:
    """The tracked files through a zip archive, which keeps no links."""
    archive = folder / "tree.zip"
    subprocess.run(["git", "archive", "-o", archive, "HEAD"], cwd=ROOT, check=True)
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder / "tree")
    return folder / "tree"


def cloned(folder: Path) -> Path:
    """A plain clone."""
    clone = ["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), folder / "clone"]
    subprocess.run(clone, check=True)
    return folder / "clone"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
@pytest.mark.parametrize("obtain", [zipped, cloned])
def test_the_tree_runs_without_installation(obtain, tmp_path: Path) -> None:
    tree = obtain(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = []
    for command in (["predict.py"], ["-m", "mlx_headpose", "predict"]):
        done = subprocess.run(
            [sys.executable, *command, *PREDICT],
            cwd=tree,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        shown.append(done.stdout)
    assert "yaw" in shown[0]
    assert shown[0] == shown[1]
