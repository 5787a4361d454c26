"""Core ML packages, computed by PyTorch from what was saved; no system here can run them."""

from __future__ import annotations

import json
import tempfile

import mlx.core as mx
import numpy as np
import pytest
from support.commands import assert_refused, run
from support.coreml import Package
from support.exported import OPERATIONS, angles, crops, difference

from mlx_headpose import HeadPoseEstimator
from mlx_headpose.convert import convert_file
from mlx_headpose.weights import BUNDLED, from_pretrained

pytest.importorskip("coremltools", reason="exporting Core ML needs coremltools")
from mlx_headpose.errors import InputError
from mlx_headpose.export.coreml import (
    export_coreml,
    outside_neural_engine,
    translate,
)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_equal_mlxs(operation, tmp_path):
    def function(x):
        return [OPERATIONS[operation](x.reshape(2, 7, 8, 4))]

    def example(batch):
        values = np.random.default_rng(0).normal(size=(batch, 448))
        return mx.array(values.astype(np.float32))

    translate(function, example, ["y"], tmp_path / "y.mlpackage")
    x = example(1)
    found = Package(tmp_path / "y.mlpackage")(np.array(x[0]))["y"]
    np.testing.assert_allclose(found, np.array(function(x)[0]), atol=1e-5)


def test_colours_turned_round_and_images(tmp_path):
    def function(images):
        return [images[..., ::-1].astype(mx.float32)[:, 1:3, ::2]]

    def example(batch):
        return mx.array(np.arange(batch * 60, dtype=np.uint8).reshape(batch, 4, 5, 3))

    translate(function, example, ["y"], tmp_path / "y.mlpackage")
    found = Package(tmp_path / "y.mlpackage")(np.array(example(1)[0]))["y"]
    np.testing.assert_array_equal(found, np.array(function(example(1))[0]))


@pytest.mark.parametrize("source", ["bundled", "squeezenet_1_1.pkl"])
def test_trained_networks_on_real_faces(source, shared, tmp_path):
    network = HeadPoseEstimator().model
    if source != "bundled":
        convert_file(shared / "weights" / source, tmp_path / "net.safetensors")
        network = from_pretrained(tmp_path / "net.safetensors")
    inputs = crops(network.config, shared, 8)
    wanted = angles(network, inputs)
    path = tmp_path / "net.mlpackage"
    for dtype, tolerance in ((mx.float32, 1e-3), (mx.float16, 0.1)):
        about = export_coreml(network, path, "net", "MIT", dtype)
        package = Package(path)
        found = [package(one) for one in inputs]
        assert difference(np.concatenate([one["pose"] for one in found]), wanted) < tolerance
        assert list(found[0]) == about["outputs"]
        assert package.metadata["licence"] == "MIT"
        assert json.loads(package.metadata["input"]) == about["input"]
        assert package.metadata["arithmetic"] == str(dtype).rsplit(".", 1)[-1]
        # Those around the convolutions have cancelled. coremltools moves none past the reversal
        # that makes a mirror image, so two of the image itself stay.
        operations = package.operations()
        assert operations.count("transpose") <= 3 + 2 * operations.count("reverse")
    # iOS 16 and macOS 13.
    assert package.spec.specificationVersion == 7


def test_what_the_neural_engine_leaves_to_others(tmp_path):
    def function(x):
        return [mx.sin(x.astype(mx.float16) + 1).astype(mx.float32) * 2]

    translate(function, lambda n: mx.ones((n, 3)), ["y"], tmp_path / "y.mlpackage")
    outside = outside_neural_engine(tmp_path / "y.mlpackage")
    assert outside["sin"] == 1
    assert outside["in float32"] >= 1
    assert "add" not in outside


def test_an_unknown_operation_leaves_nothing_behind(tmp_path):
    network = HeadPoseEstimator().model
    decode = network.head.decode
    network.head.decode = lambda outputs: mx.sort(decode(outputs))
    with pytest.raises(InputError, match=r"net\.mlpackage: .* to Core ML: it uses Sort"):
        export_coreml(network, tmp_path / "net.mlpackage")
    assert not list(tmp_path.iterdir())


def test_an_export_leaves_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    export_coreml(HeadPoseEstimator().model, tmp_path / "net.mlpackage")
    assert (tmp_path / "net.mlpackage").is_dir()
    assert not list(temporary.iterdir())


def test_export_as_a_user_types_it(tmp_path):
    def export(*arguments):
        return run("export.py", "--format", "coreml", *arguments, folder=tmp_path)

    for dtype in ((), ("--dtype", "float32")):  # the second replaces the first
        done = export(*dtype)
        assert done.returncode == 0, done.stderr
        assert f"ML program for iOS16, {dtype[1] if dtype else 'float16'}" in done.stdout
        assert "outside the Neural Engine's known operations: " in done.stdout
        assert done.stderr == ""
        assert Package(tmp_path / "weights" / "headpose.mlpackage").metadata["licence"] == "MIT"
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["headpose.mlpackage"]
    assert_refused(export("--batch_size", 2), "--batch_size: is for --format onnx")
    assert_refused(export("--output", "net.onnx"), "add --format onnx")
    (tmp_path / "file.mlpackage").write_bytes(BUNDLED.read_bytes()[:10])
    assert_refused(export("--output", "file.mlpackage"), "file.mlpackage")
