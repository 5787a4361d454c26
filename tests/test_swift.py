"""The Swift package: its tests pass where a Swift tool chain is, and its golden files are Python's.

`SWIFT` names a `swift` that is not on the path; `HEADPOSE_MLX` a checkout of MLX Swift to build the
part that needs MLX, which takes long.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT
from support.documentation import marked_lines

from mlx_headpose import HeadPoseEstimator
from mlx_headpose.export.mlxfn import export_mlxfn

SWIFT = os.environ.get("SWIFT") or shutil.which("swift")
MLX_SWIFT = os.environ.get("HEADPOSE_MLX")
PACKAGE = ROOT / "swift"


def swift_test(*options: str, **environment: str) -> str:
    """What `swift test` prints of the package, once it has passed."""
    if SWIFT is None:
        pytest.skip("needs a Swift tool chain, on the path or named by SWIFT")
    done = subprocess.run(
        [SWIFT, "test", "--package-path", str(ROOT), *options],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def close(found: object, expected: object) -> bool:
    """Whether two JSON values are equal, numbers up to rounding."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        return found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in found)
    if isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple)
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float):
        assert isinstance(found, float | int)
        return abs(found - expected) < 1e-9
    return found == expected


def test_the_golden_files_are_what_python_computes():
    spec = importlib.util.spec_from_file_location("golden", PACKAGE / "Tests" / "write_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fresh = module.golden()
    stored = {path.name: path.read_bytes() for path in module.GOLDEN.iterdir()}
    assert fresh.keys() == stored.keys()
    for name in ("images.bin", "crops.bin"):
        assert fresh[name] == stored[name]
    assert close(json.loads(fresh["golden.json"]), json.loads(stored["golden.json"]))
    # The rest of functions.json holds addresses and a version of MLX.
    new, old = (
        json.loads(json.loads(files["functions.json"])["metadata"]) for files in (fresh, stored)
    )
    assert close(new["input"], old["input"])
    assert new.keys() == old.keys()


def test_swift_test_passes_without_mlx():
    printed = swift_test(HEADPOSE_MLX="0")
    found = re.findall(r"Executed (\d+) tests?, with 0 failures", printed)
    assert max(map(int, found)) >= 16


def test_the_documented_swift_lines_are_those_that_swift_tests_run():
    (lines,) = marked_lines("export.md", "swift")
    source = (PACKAGE / "Tests" / "HeadPoseTests" / "DocumentationTests.swift").read_text()
    run = [line.strip() for line in source.splitlines()]
    for line in lines.splitlines():
        assert line.strip() in run


def test_mlx_swift_gives_the_angles_of_python(tmp_path: Path):
    if not MLX_SWIFT or MLX_SWIFT == "0":
        pytest.skip("needs a checkout of MLX Swift, named by HEADPOSE_MLX")
    photo = ROOT / "docs" / "images" / "astronaut.jpg"
    estimator = HeadPoseEstimator()
    (head,) = estimator(photo, boxes=[[178, 63, 178 + 90, 63 + 114]])
    expected = [head.yaw, head.pitch, head.roll, head.confidence]
    Image.open(photo).convert("RGB").save(tmp_path / "astronaut.ppm")
    # MLX Swift reads either form: the loader turns the one that it cannot read into the other.
    for reader in ("current", "mlx-swift"):
        export_mlxfn(estimator.model, tmp_path / "headpose.mlxfn", reader=reader, device="cpu")
        printed = swift_test(
            *("-c", "release", "-Xswiftc", "-enable-testing", "--filter", "DocumentationTests"),
            HEADPOSE_TEST_FILES=str(tmp_path),
        )
        (numbers,) = re.findall(r"^(-?[\d.]+ -?[\d.]+ -?[\d.]+ -?[\d.]+)$", printed, re.M)
        found = [float(number) for number in numbers.split()]
        np.testing.assert_allclose(found, expected, atol=1e-3)
