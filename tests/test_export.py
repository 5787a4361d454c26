"""Exported networks give the angles of the network that they came from, in Python, C++ and ONNX."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, assert_refused, run
from support.converted import seeded_network
from support.exported import OPERATIONS, sensitivity

from mlx_headpose.convert import convert_file
from mlx_headpose.errors import InputError
from mlx_headpose.export.hub import WRITTEN
from mlx_headpose.export.mlxfn import BATCH_SIZES, export_mlxfn, metadata_path
from mlx_headpose.methods import build, config_class
from mlx_headpose.weights import from_pretrained, save_pretrained, tensors_of

CHECKPOINTS = [
    "hopenet_resnet18",
    "hopelessnet_squeezenet_1_1",
    "hopelessnet_mobilenet_v2",
    "hopenet_mlx_resnet50",
    "whenet_keras",
    "pyramid_efficientnet_v2_s",
]


def tamed_network(seeded, name):
    """A seeded network whose logits stay below 5.

    They go into the thousands, where a rounding error decides between two bins.
    """
    network = seeded_network(seeded, name)
    largest = max(mx.abs(o).max().item() for o in network(mx.array(pictures(network, 2))))
    for name, layer in network.head.items():
        if name.startswith(("yaw", "pitch", "roll")):
            layer.weight, layer.bias = layer.weight * 5 / largest, layer.bias * 5 / largest
    return network


def pictures(network, count):
    """Random pictures of the network's size, coarse patches under fine noise.

    Smooth ones drive networks with seeded weights into chaos: PyTorch's float32 and float64
    then differ by several per cent too.
    """
    size = network.config.preprocessing.size
    rng = np.random.default_rng(0)
    coarse = rng.normal(120, 55, (count, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + rng.normal(0, 15, coarse.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A small network with weights that make its answers differ from picture to picture."""
    mx.random.seed(0)
    network = build(config_class("hopenet")(arch="squeezenet1_1"))
    # MLX's initial weights let a picture fade away on its way through the layers.
    lively = [(n, 2.5 * v if v.ndim == 4 else v) for n, v in tensors_of(network).items()]
    network.load_weights(lively)
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    save_pretrained(network, path)
    return path


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_mlxfn_gives_the_same_angles(seeded, tmp_path, name):
    network = tamed_network(seeded, name)
    pixels = pictures(network, 2)
    images, tolerance = mx.array(pixels), sensitivity(network, pixels)
    outputs = network(images)
    pose = np.array(network.decode(outputs))
    export_mlxfn(network, tmp_path / "net.mlxfn", batch_sizes=(2,))
    exported = mx.import_function(str(tmp_path / "net.mlxfn"))(images)
    np.testing.assert_allclose(np.array(exported[0]), pose, atol=tolerance)
    known = np.array(network.confidence(outputs))
    np.testing.assert_allclose(np.array(exported[-1]), known, atol=tolerance)
    assert len(exported) == 2 + len(outputs)
    for output in exported[1:-1]:
        np.testing.assert_allclose(np.array(output).sum(axis=-1), 1, atol=1e-5)


def test_mlxfn_takes_one_to_eight_images_and_says_what_it_is(snapshot, tmp_path):
    network = from_pretrained(snapshot)
    images = pictures(network, 8)
    pose = np.array(network.decode(network(mx.array(images))))
    about = export_mlxfn(network, tmp_path / "net.mlxfn")
    exported = mx.import_function(str(tmp_path / "net.mlxfn"))
    for count in BATCH_SIZES:
        np.testing.assert_allclose(
            np.array(exported(mx.array(images[:count]))[0]), pose[:count], atol=1e-3
        )
    assert np.ptp(pose[:, 0]) > 0.1
    assert about["config"]["model_type"] == "hopenet"
    assert about["input"]["shape"] == ["N", 224, 224, 3]
    assert about["input"]["dtype"] == "uint8"
    assert about["outputs"] == ["pose", "output0", "output1", "output2", "confidence"]
    assert json.loads(metadata_path(tmp_path / "net.mlxfn").read_text()) == about


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_onnx_gives_the_same_angles(seeded, tmp_path, name):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    from mlx_headpose.export.onnx import export_onnx

    network = tamed_network(seeded, name)
    images = pictures(network, 1)
    tolerance = sensitivity(network, images)
    outputs = network(mx.array(images))
    pose = np.array(network.decode(outputs))
    path = tmp_path / "net.onnx"
    export_onnx(network, path, batch_size=1)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(found[0], pose, atol=tolerance)
    expected = (*network.head.probabilities(outputs), network.confidence(outputs))
    for ours, theirs in zip(expected, found[1:], strict=True):
        np.testing.assert_allclose(theirs, np.array(ours), atol=max(1e-4, tolerance / 10))


def test_onnx_equals_mlx_to_a_ten_thousandth_of_a_degree(shared, tmp_path):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    from mlx_headpose.export.onnx import export_onnx

    convert_file(shared / "weights" / "squeezenet_1_1.pkl", tmp_path / "net.safetensors")
    network = from_pretrained(tmp_path / "net.safetensors")
    export_onnx(network, tmp_path / "net.onnx")
    session = runtime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    with Image.open(ROOT / "docs" / "images" / "astronaut.jpg") as photo:
        face = photo.convert("RGB").crop((165, 46, 281, 193)).resize((224, 224))
    for angle in (-30, 0, 30):
        image = np.asarray(face.rotate(angle))[None]
        pose = network.decode(network(mx.array(image)))
        found = session.run(["pose"], {session.get_inputs()[0].name: image})[0]
        np.testing.assert_allclose(found, np.array(pose), atol=1e-4)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_onnx_operations_equal_mlxs(operation):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    from mlx_headpose.export.onnx import translate

    def function(x):
        return [OPERATIONS[operation](x)]

    def example(batch):
        values = np.random.default_rng(0).normal(size=(batch, 7, 8, 4))
        return mx.array(values.astype(np.float32))

    model = translate(function, example, ["y"]).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        x = example(batch)
        found = session.run(None, {session.get_inputs()[0].name: np.array(x)})[0]
        np.testing.assert_allclose(found, np.array(function(x)[0]), atol=1e-5)


BATCHES = {
    "a constant of its length": (lambda x: x + mx.array([1.0] * len(x))[:, None], 2, "constants?"),
    "its mean": (lambda x: x - x.mean(0), 3, "constant"),
    "its first half": (lambda x: x[: len(x) // 2], 4, "inputs|outputs|Slice"),
    "all but one": (lambda x: x[1:], 4, "Slice"),
    "a branch": (lambda x: -x if len(x) == 7 else x * 2 + 1, 4, "operations"),
    "one operation or another": (lambda x: -x if len(x) == 7 else mx.abs(x), 4, "Negative"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_what_depends_on_the_batch_size_is_exported_for_one_only(case):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    from mlx_headpose.export.onnx import translate

    compute, batch, word = BATCHES[case]

    def function(x):
        return [compute(x)]

    def example(batch):
        return mx.arange(3.0 * batch).reshape(batch, 3)

    with pytest.raises(InputError, match=rf"batch size \(.*({word}).*--batch_size"):
        translate(function, example, ["y"])
    model = translate(function, example, ["y"], batch).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: np.array(example(batch))})[0]
    np.testing.assert_allclose(found, np.array(function(example(batch))[0]), atol=1e-6)


def test_numbers_of_every_width_have_a_type_in_onnx():
    onnx = pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    from mlx_headpose.export.onnx import translate

    for dtype, name in ((mx.uint16, "UINT16"), (mx.bfloat16, "BFLOAT16"), (mx.int64, "INT64")):
        proto = translate(lambda x, dtype=dtype: [x.astype(dtype)], mx.ones, ["y"])
        assert proto.graph.output[0].type.tensor_type.elem_type == getattr(onnx.TensorProto, name)


def test_an_unknown_operation_is_named_not_guessed(tmp_path, snapshot):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    from mlx_headpose.export.onnx import export_onnx

    network = from_pretrained(snapshot)
    decode = network.head.decode
    network.head.decode = lambda outputs: mx.sort(decode(outputs))
    with pytest.raises(InputError, match="it uses Sort"):
        export_onnx(network, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_equality_of_what_is_no_number_is_not_exported():
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    from mlx_headpose.export.onnx import translate

    with pytest.raises(InputError, match="it uses Equal where NaN equals NaN"):
        translate(lambda x: [mx.array_equal(x, -x, equal_nan=True)], lambda _: mx.ones(3), ["y"])


def test_onnx_says_in_one_sentence_what_mlx_cannot_trace(tmp_path, snapshot):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    from mlx_headpose.export.onnx import export_onnx

    network = from_pretrained(snapshot)
    decode = network.head.decode
    # MLX refuses to evaluate while it traces.
    network.head.decode = lambda outputs: decode(outputs) + float(decode(outputs)[0, 0].item())
    with pytest.raises(InputError, match=r"net\.onnx: this network cannot be exported"):
        export_onnx(network, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_export_as_a_user_types_it(snapshot, tmp_path):
    def export(*arguments):
        return run("export.py", "--snapshot", snapshot, *arguments, folder=tmp_path)

    done = export("--format", "mlxfn")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weights" / "net.mlxfn").is_file()
    done = export("--output", "hub", "--licence", "CC BY 4.0")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "hub").iterdir()) == sorted(WRITTEN)
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "library_name: mlx" in card
    assert "| licence of the weights | CC BY 4.0 |" in card
    assert from_pretrained(tmp_path / "hub").config == from_pretrained(snapshot).config
    done = export("--format", "mlxfn", "--quantize", "int8")
    assert_refused(done, "second call")


def test_export_overwrites_no_network_and_ignores_no_option(snapshot, tmp_path):
    (tmp_path / "weights").mkdir()
    own = tmp_path / "weights" / "own.safetensors"
    own.write_bytes(snapshot.read_bytes())

    def export(*arguments):
        return run("export.py", "--snapshot", "own", *arguments, folder=tmp_path)  # in weights/

    assert_refused(export(), "own.safetensors", "would overwrite")
    assert_refused(
        export("--format", "onnx", "--output", "weights/own.safetensors"), "--format safetensors"
    )
    assert_refused(export("--output", "face.onnx"), "add --format onnx")
    assert_refused(export("--format", "mlxfn", "--output", "face.bin"), "ends in .mlxfn")
    assert_refused(export("--format", "mlxfn", "--batch_size", 2), "--batch_size: is for")
    assert_refused(export("--output", "a", "--calibration_images", 9), "is for --quantize")
    half = ("--quantize", "half", "--output", "half.safetensors")
    assert_refused(export(*half, "--calibration_dir", "photos"), "--calibration_dataset")
    assert_refused(export(*half, "--calibration_dataset", "foo"), "foo")
    assert own.read_bytes() == snapshot.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    assert [p.name for p in own.parent.iterdir()] == [own.name]
    done = export("--format", "mlxfn")
    assert "It reads images of 224" in done.stdout
