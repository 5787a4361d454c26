"""Exported files in the hands of those who read them: forms, devices, metadata, and the crop.

`MLX_031_PYTHON` names a Python that has MLX 0.31.1, the version in MLX Swift.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, assert_refused, run
from support.documentation import marked_lines

from mlx_headpose import HeadPoseEstimator
from mlx_headpose.core.crop import Margins
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.export.metadata import (
    NO_LICENCE,
    fed_with_images,
    known_licence,
    network_name,
)
from mlx_headpose.export.mlxfn import READERS, export_mlxfn, metadata_path
from mlx_headpose.methods import METHODS, build, config_class
from mlx_headpose.quantization import quantize_int8, quantize_weights
from mlx_headpose.readers import mlxfn
from mlx_headpose.readers.pictures import to_rgb
from mlx_headpose.weights import BUNDLED, save_pretrained

ASTRONAUT = ROOT / "docs" / "images" / "astronaut.jpg"
BOX = (178, 63, 178 + 90, 63 + 114)
GOLDEN = ROOT / "swift" / "Tests" / "HeadPoseCoreTests" / "golden"
OLD_PYTHON = os.environ.get("MLX_031_PYTHON")


@pytest.fixture(scope="module")
def astronaut() -> tuple[float, float, float]:
    """The angles that Python gives, as the README's first command prints them."""
    (head,) = HeadPoseEstimator()(ASTRONAUT, boxes=[BOX])
    return head.yaw, head.pitch, head.roll


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the documentation's lines want it."""
    folder = tmp_path_factory.mktemp("documentation")
    done = run(
        "export.py",
        *("--format", "mlxfn", "--for", "current", "--device", "cpu"),
        *("--output", folder / "headpose.mlxfn"),
    )
    assert done.returncode == 0, done.stderr
    assert "for MLX from 0.32.1 on" in done.stdout
    assert "on the CPU" in done.stdout
    shutil.copy(ASTRONAUT, folder)
    Image.open(ASTRONAUT).convert("RGB").save(folder / "astronaut.ppm")
    return folder


def tiny(path: Path) -> bytes:
    """A small function, as this MLX writes it."""
    with mx.stream(mx.cpu):
        mx.export_function(str(path), lambda x: [mx.softmax(x @ x.T, axis=1)], mx.ones((2, 2)))
    return path.read_bytes()


def run_lines(lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> Any:
    """What `pose` is after lines of the documentation."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    names |= {"json": json, "mx": mx, "Image": Image, "Path": Path}
    exec(lines, names)
    return np.array(names["pose"])


def test_the_documented_python_lines_give_the_angles(folder, astronaut, monkeypatch):
    lines, _, _ = marked_lines("export.md", "python")
    pose = run_lines(lines, folder, monkeypatch)
    np.testing.assert_allclose(pose, [astronaut], atol=0.01)


def test_the_documented_onnx_lines_give_the_angles(folder, astronaut, monkeypatch):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    done = run("export.py", "--format", "onnx", "--output", folder / "headpose.onnx")
    assert done.returncode == 0, done.stderr
    _, lines, _ = marked_lines("export.md", "python")
    pose = run_lines(lines, folder, monkeypatch, onnxruntime=runtime)
    np.testing.assert_allclose(pose, [astronaut], atol=0.01)
    about = runtime.InferenceSession(str(folder / "headpose.onnx")).get_modelmeta()
    assert about.custom_metadata_map["licence"] == "MIT"
    assert about.custom_metadata_map["name"] == "headpose"
    assert "nose" in about.custom_metadata_map["signs"]


def test_the_documented_core_ml_lines_give_the_angles(folder, astronaut, monkeypatch):
    tools = pytest.importorskip("coremltools", reason="exporting Core ML needs coremltools")
    from support.coreml import Package

    def predict(model: Any, given: dict[str, Any]) -> dict[str, np.ndarray]:
        """What Apple's runtime would answer, which is on Apple's systems only."""
        assert list(given) == ["image"]
        assert given["image"].mode == "RGB"
        return Package(Path(model.package_path))(np.asarray(given["image"]))

    monkeypatch.setattr(tools.models.MLModel, "predict", predict)
    _, _, lines = marked_lines("export.md", "python")
    for dtype, tolerance in (("float32", 0.01), ("float16", 0.1)):
        package = folder / "headpose.mlpackage"
        done = run("export.py", "--format", "coreml", "--dtype", dtype, "--output", package)
        assert done.returncode == 0, done.stderr
        pose = run_lines(lines, folder, monkeypatch, coremltools=tools)
        np.testing.assert_allclose(pose, [astronaut], atol=tolerance)


def compiled(project: Path, build: Path) -> Path:
    """The folder of programs that a CMake project builds."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs cmake and a C++ compiler")
    for step in (
        ["cmake", "-S", project, "-B", build, f"-DPython_EXECUTABLE={sys.executable}"],
        ["cmake", "--build", build],
    ):
        subprocess.run(step, check=True, capture_output=True)
    return build


def angles(printed: str) -> list[float]:
    """Of a line `yaw 1.0 pitch 2.0 roll 3.0`."""
    words = printed.split()
    assert words[::2] == ["yaw", "pitch", "roll"]
    return [float(word) for word in words[1::2]]


def test_the_cpp_program_and_the_documented_lines_give_the_angles(folder, astronaut, tmp_path):
    project = tmp_path / "cpp"
    shutil.copytree(ROOT / "examples" / "cpp", project)
    (lines,) = marked_lines("export.md", "cpp")
    (project / "lines.cpp").write_text(
        '#include <cstdio>\n#include "crop.hpp"\n#include "mlx/mlx.h"\n'
        f"namespace mx = mlx::core;\nint main() {{\n{lines}mx::eval(pose);\n"
        "const float* a = pose.data<float>();\n"
        'std::printf("yaw %.4f pitch %.4f roll %.4f\\n", a[0], a[1], a[2]);\n}\n'
    )
    with (project / "CMakeLists.txt").open("a") as file:
        file.write("add_executable(lines lines.cpp)\ntarget_link_libraries(lines PRIVATE mlx)\n")
    build = compiled(project, tmp_path / "build")
    done = subprocess.run([build / "lines"], check=True, capture_output=True, text=True, cwd=folder)
    np.testing.assert_allclose(angles(done.stdout), astronaut, atol=0.01)

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [build / "headpose", *arguments]
        return subprocess.run(line, check=False, capture_output=True, text=True, cwd=folder)

    done = program("headpose.mlxfn", "astronaut.ppm", "178,63,90,114")
    np.testing.assert_allclose(angles(done.stdout), astronaut, atol=1e-3)
    for arguments, words in (
        (("headpose.mlxfn", "astronaut.jpg", "178,63,90,114"), "not a binary PPM"),
        (("headpose.mlxfn", "astronaut.ppm", "178,63,0,114"), "x_max > x_min"),
        (("headpose.mlxfn", "astronaut.ppm"), "usage"),
    ):
        refused = program(*arguments)
        assert refused.returncode == 2
        assert words in refused.stderr


def including_crop(source: Path, program: Path) -> Path:
    """A program that includes crop.hpp."""
    if not shutil.which("c++"):
        pytest.skip("needs a C++ compiler")
    headers = f"-I{ROOT / 'examples' / 'cpp'}"
    line = ["c++", "-std=c++20", "-O1", "-Wall", "-Werror", headers, source, "-o", program]
    subprocess.run(line, check=True)
    return program


def cut_by_cpp(golden: dict[str, Any], images: Path, folder: Path) -> bytes:
    """The crops of golden files, one after another."""
    source = ROOT / "tests" / "support" / "golden_crops.cpp"
    program = including_crop(source, folder / "golden_crops")
    cases = [len(golden["sizes"]), *(side for size in golden["sizes"] for side in size)]
    for case in golden["crops"]:
        fed = case["input"]
        squash = int(fed["resize"] == "squash")
        cases += [case["image"], *case["box"], *fed["face_margins"]]
        cases += [fed["side"], fed["resize_to"], squash]
    text = " ".join(map(repr, cases)).encode()
    return subprocess.run([program, images], check=True, capture_output=True, input=text).stdout


def test_cpp_cuts_to_the_byte_as_python_does(tmp_path):
    golden = json.loads((GOLDEN / "golden.json").read_text())
    crops = cut_by_cpp(golden, GOLDEN / "images.bin", tmp_path)
    assert crops == (GOLDEN / "crops.bin").read_bytes()


@pytest.mark.parametrize("resize", ["squash", "short_side"])
def test_the_examples_cut_large_crops_as_python_does(resize, tmp_path, monkeypatch):
    """Out of the image at a half, whose last row and column are of what is left."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    from crop import cut

    width, height = 4001, 2999
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    (tmp_path / "images.bin").write_bytes(pixels.tobytes())
    box = [-3501.0, -2701.0, 7502.0, 5398.0]
    fed = {"resize": resize, "side": 32, "resize_to": 32}
    fed |= {"face_margins": [0.0] * 4, "head_margins": [0.0] * 4}
    preprocessing = Preprocessing(size=32, resize=resize)
    expected = ImageInput(preprocessing).head_reader(Margins(), None)(pixels, np.float32(box))
    assert np.array_equal(cut(Image.fromarray(pixels), box, fed), expected)
    golden = {"sizes": [(width, height)], "crops": [{"image": 0, "box": box, "input": fed}]}
    assert cut_by_cpp(golden, tmp_path / "images.bin", tmp_path) == expected.tobytes()


def test_the_python_example_cuts_to_the_byte(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    from crop import cut

    golden = json.loads((GOLDEN / "golden.json").read_text())
    stored, images = (GOLDEN / "images.bin").read_bytes(), []
    for width, height in golden["sizes"]:
        pixels, stored = stored[: 3 * width * height], stored[3 * width * height :]
        images.append(Image.frombytes("RGB", (width, height), pixels))
    crops = [cut(images[one["image"]], one["box"], one["input"]) for one in golden["crops"]]
    assert b"".join(crop.tobytes() for crop in crops) == (GOLDEN / "crops.bin").read_bytes()


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "RGBA", "LA"])
def test_the_python_example_cuts_images_of_every_mode(mode, monkeypatch):
    """Across the border too, where the image's own colours end."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    from crop import cut

    image = Image.open(ROOT / "docs" / "images" / "astronaut.jpg").reduce(4).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    config = config_class("rotation9d")()
    box = np.array([-10.0, 20.0, 50.0, 90.0], np.float32)
    read = config.inputs.head_reader(config.preprocessing.crop.face, None)
    expected = read(np.asarray(to_rgb(image)), box)
    assert np.array_equal(cut(image, box, fed_with_images(config)), expected)


def test_a_box_of_a_head_has_margins_of_its_own(folder):
    fed = json.loads((folder / "headpose.mlxfn.json").read_text())["input"]
    assert fed["face_margins"] == pytest.approx([0.21, 0.09625, 0.21, 0.21])
    assert fed["head_margins"] == [0, 0, 0, 0]
    assert (fed["side"], fed["resize"], fed["resize_to"]) == (64, "short_side", 64)


@pytest.mark.parametrize(
    ("method", "rule"),
    [
        ("opal", {"resize": "warp", "filter": "nearest", "face_margins": None}),
        ("semiuhpe", {"resize": "pad", "filter": "bicubic", "clip": True, "head_margins": None}),
        ("sixdrepnet", {"resize": "short_side", "face_margins": None, "head_margins": [0.0] * 4}),
    ],
)
def test_crops_by_another_rule_are_said_and_not_cut_by_the_usual_one(
    method, rule, monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    from crop import cut

    fed = fed_with_images(config_class(method)())
    assert fed.items() >= rule.items()
    image = Image.new("RGB", (400, 300))
    with pytest.raises(ValueError, match="crop of a face follows a rule of its own"):
        cut(image, BOX, fed)
    if method == "sixdrepnet":
        assert cut(image, BOX, fed, around="head").shape == (224, 224, 3)
    assert said_by_cpp(json.dumps({"input": fed}, indent=2), tmp_path) == (
        "head 224, this network's crop of such boxes follows a rule of its own"
        if method == "sixdrepnet"
        else "net.json: its network's crop follows a rule of its own"
    )


def test_metadata_that_are_cut_off_are_refused_by_cpp(tmp_path):
    fed = fed_with_images(config_class("rotation9d")())
    text = json.dumps({"input": fed})
    assert said_by_cpp(text, tmp_path).startswith("head 64, face 64")
    last = text.index('"head_margins":') + len('"head_margins":')
    for end in (last, last + 2, last + 7, len(text) // 2):
        said = said_by_cpp(text[:end], tmp_path)
        assert said == "net.json: is not the metadata of a network that reads images"


def said_by_cpp(metadata: str, folder: Path) -> str:
    """What the C++ example makes of metadata: crops of a head and of a face, or an error."""
    (folder / "read.cpp").write_text(READ)
    program = folder / "read"
    if not program.exists():
        including_crop(folder / "read.cpp", program)
    (folder / "net.json").write_text(metadata)
    done = subprocess.run([program, "net.json"], check=True, capture_output=True, cwd=folder)
    return done.stdout.decode()


READ = """
#include <cstdio>
#include "crop.hpp"
int main(int, char** arguments) {
  const headpose::Image image{4, 4, std::vector<uint8_t>(48, 9)};
  const headpose::Box box{0, 0, 4, 4};
  try {
    const auto input = headpose::read_input(arguments[1]);
    std::printf("head %d, ", headpose::cut(image, box, input, input.head_margins).width);
    std::printf("face %d", headpose::cut(image, box, input).width);
  } catch (const std::runtime_error& error) {
    std::printf("%s", error.what());
  }
}
"""


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_gets_its_form_and_the_device_that_is_asked_for(tmp_path, reader):
    model = HeadPoseEstimator().model
    path = tmp_path / "net.mlxfn"
    for device in ("cpu", "gpu"):
        about = export_mlxfn(model, path, (1, 2), reader, device, "net", "MIT")
        content = path.read_bytes()
        header = mlxfn.read_header(content)
        assert header.functions == 2
        assert (header.metadata is not None) == READERS[reader].metadata
        assert header.metadata is None or json.loads(header.metadata) == about
        assert json.loads(metadata_path(path).read_text()) == about
        assert set(mlxfn.devices(content)) == {device}
        assert mlxfn.devices(content)[device] > 500
    assert mlxfn.on_device(mlxfn.on_device(content, "cpu"), "gpu") == content


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_container_of_every_method_is_understood(tmp_path, method):
    model = build(config_class(method)())
    model.eval()
    export_mlxfn(model, tmp_path / "net.mlxfn", (1,), device="gpu")
    assert set(mlxfn.devices((tmp_path / "net.mlxfn").read_bytes())) == {"gpu"}


@pytest.mark.parametrize("scheme", ["int8", "mlx8"])
def test_quantised_networks_are_exported_for_any_device(tmp_path, scheme):
    model = HeadPoseEstimator().model
    inputs = mx.array(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    small = quantize_int8(model, inputs) if scheme == "int8" else quantize_weights(model, 8, inputs)
    expected = np.array(small.decode(small(inputs)))
    path = tmp_path / "net.mlxfn"
    export_mlxfn(small, path, (2,), device="cpu")
    found = np.array(mx.import_function(str(path))(inputs)[0])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    export_mlxfn(small, path, (2,), device="gpu")
    assert set(mlxfn.devices(path.read_bytes())) == {"gpu"}


def test_the_old_form_is_read_by_the_mlx_of_mlx_swift(tmp_path, astronaut, monkeypatch):
    if not OLD_PYTHON:
        pytest.skip("needs a Python with MLX 0.31.1, named by MLX_031_PYTHON")
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "python"))
    from crop import cut

    model = HeadPoseEstimator().model
    for reader in READERS:
        about = export_mlxfn(model, tmp_path / f"{reader}.mlxfn", reader=reader, device="cpu")
    with Image.open(ASTRONAUT) as photo:
        np.save(tmp_path / "face.npy", cut(photo, BOX, about["input"]))

    def read(reader: str) -> subprocess.CompletedProcess[str]:
        lines = (
            "import mlx.core as mx, numpy as np, json; face = mx.array(np.load('face.npy'))[None];"
            f"pose = mx.import_function('{reader}.mlxfn')(face)[0];"
            "print(json.dumps(pose.tolist()))"
        )
        line = [OLD_PYTHON, "-c", lines]
        return subprocess.run(line, check=False, capture_output=True, text=True, cwd=tmp_path)

    for reader in ("mlx-swift", "mlx-0.31"):
        done = read(reader)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(json.loads(done.stdout), [astronaut], atol=1e-3)
    assert "bad_alloc" in read("current").stderr  # why there are two forms


def test_both_forms_of_the_header_are_told_apart(tmp_path):
    new = tiny(tmp_path / "tiny.mlxfn")
    assert mlxfn.read_header(new).metadata == ""
    old = mlxfn.with_metadata(new, None)
    assert len(old) == len(new) - 8
    assert mlxfn.read_header(old).metadata is None
    assert mlxfn.with_metadata(old, "") == new
    told = mlxfn.with_metadata(old, '{"a": "é"}')
    assert mlxfn.read_header(told).metadata == '{"a": "é"}'
    assert mlxfn.with_metadata(told, None) == old
    names = [name for name, _ in mlxfn.operations(old)]
    assert Counter(names)["Softmax"] == 1
    assert [name for name, _ in mlxfn.operations(told)] == names
    (tmp_path / "told.mlxfn").write_bytes(told)
    function = mx.import_function(str(tmp_path / "told.mlxfn"))
    np.testing.assert_allclose(np.array(function(mx.ones((2, 2)))[0]), 0.5)


def constant_of(sizes: list[int]) -> bytes:
    """A file whose only function returns a constant of one byte that claims these sizes."""
    header = struct.pack("<Q3si?", 3, b"0.3", 1, False)
    array = struct.pack("<Qiib", 1, 1, 10, 4)  # of one number
    function = struct.pack("<QQQQ", 0, 1, 0, 1) + array + struct.pack("<QQ", 1, 1)
    shape = struct.pack(f"<Q{len(sizes)}i", len(sizes), *sizes)
    constant = struct.pack("<Q??", 1, False, True) + shape + struct.pack("<ib", 10, 1)
    return header + function + struct.pack("<Q", 1) + constant + b"x"


def test_damaged_and_unknown_functions_are_refused(tmp_path):
    whole = tiny(tmp_path / "tiny.mlxfn")
    for length in range(len(whole)):
        with pytest.raises(mlxfn.Malformed):
            mlxfn.devices(whole[:length])
    assert not mlxfn.devices(constant_of([1]))
    for sizes, word in (([2] * 100_000, "100000 dimensions"), ([3, -1], "negative size")):
        with pytest.raises(mlxfn.Malformed, match=word):
            mlxfn.devices(constant_of(sizes))
    with pytest.raises(mlxfn.Malformed, match="bytes follow"):
        mlxfn.devices(whole + b"x")
    with pytest.raises(mlxfn.Malformed, match="Sqftmax is not known"):
        mlxfn.devices(whole.replace(b"Softmax", b"Sqftmax"))
    with pytest.raises(mlxfn.Malformed, match=r"not a \.mlxfn"):
        mlxfn.read_header(b"P6\n2 1\n255\n" + bytes(100))


def test_a_network_is_called_after_its_training(tmp_path):
    for path, name in (
        ("workdirs_mine/best.safetensors", "mine"),
        ("workdirs_mine/snapshots/12.safetensors", "mine-12"),
        ("somewhere/best.safetensors", "somewhere"),
        ("weights/best-of-all.safetensors", "best-of-all"),
        ("hub/model.safetensors", "hub"),
        ("folder.v2", "folder.v2"),
        ("owner/name", "name"),
    ):
        assert network_name(tmp_path / path) == name
    assert network_name("owner/name") == "name"


def test_licences_are_those_that_are_known():
    assert known_licence(BUNDLED) == "MIT"
    assert "300W-LP" in known_licence("weights/hopelessnet-resnet18.safetensors")
    assert known_licence("weights/mine.safetensors") == NO_LICENCE


def test_export_names_the_reader_and_takes_the_training_s_name(tmp_path):
    model = build(config_class("hopenet")(arch="squeezenet1_1"))
    save_pretrained(model, tmp_path / "workdirs_mine" / "best.safetensors")

    def export(*arguments):
        snapshot = ("--snapshot", "workdirs_mine/best.safetensors")
        return run("export.py", *snapshot, *arguments, folder=tmp_path)

    done = export("--format", "mlxfn", "--licence", "CC BY 4.0")
    assert done.returncode == 0, done.stderr
    assert "for every MLX Swift up to 0.31.6" in done.stdout
    assert "on the GPU" in done.stdout
    written = tmp_path / "weights" / "mine.mlxfn"
    assert mlxfn.read_header(written.read_bytes()).metadata is None
    about = json.loads(metadata_path(written).read_text())
    assert (about["name"], about["licence"]) == ("mine", "CC BY 4.0")
    for options, word in (
        (("--format", "onnx", "--for", "current"), "--for: is for --format mlxfn"),
        (("--device", "cpu"), "--device: is for --format mlxfn"),
        (("--licence", "MIT"), "--licence: is for"),
    ):
        assert_refused(export(*options), word)
