"""The estimator that users call: every form of picture, boxes, signs, and what can go wrong."""

from __future__ import annotations

import dataclasses
import io
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.io import loadmat

import mlx_headpose
from mlx_headpose import HeadPoseEstimator
from mlx_headpose.convert import convert_file
from mlx_headpose.data import open_dataset
from mlx_headpose.data.base import resample
from mlx_headpose.data.protocols import OPAL
from mlx_headpose.detection.yunet import ONNX_NAME, FaceDetector
from mlx_headpose.errors import InputError
from mlx_headpose.inference import estimator as estimators
from mlx_headpose.inference.draw import AXIS_COLOURS, draw_heads, place_labels
from mlx_headpose.inference.estimator import Head, find_network
from mlx_headpose.inference.pictures import open_picture
from mlx_headpose.methods import build, config_class, config_from_dict
from mlx_headpose.readers.pictures import open_upright, upright_size
from mlx_headpose.weights import from_pretrained, save_pretrained


@pytest.fixture(scope="module")
def weights(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "squeezenet_1_1.safetensors"
    convert_file(shared / "weights" / "squeezenet_1_1.pkl", path)
    return path


@pytest.fixture(scope="module")
def estimator(shared: Path, weights: Path) -> HeadPoseEstimator:
    pytest.importorskip("onnx")
    return HeadPoseEstimator.from_pretrained(weights, shared / "weights" / ONNX_NAME)


@pytest.fixture(scope="module")
def photo(shared: Path) -> Path:
    return shared / "data" / "AFLW2000" / "image00013.jpg"


def assert_same(a: list[Head], b: list[Head], pixels: float = 1.0, degrees: float = 1.0) -> None:
    assert len(a) == len(b) >= 1
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=pixels)
        np.testing.assert_allclose(one.pose, other.pose, atol=degrees)


def test_angles_are_right_on_real_photos(shared: Path, estimator: HeadPoseEstimator) -> None:
    folder = shared / "data" / "AFLW2000"
    names = (folder / "aflw2000_list.txt").read_text().split()[7::160]
    errors = []
    for name in names:
        annotation = loadmat(folder / f"{name}.mat")
        pitch, yaw, roll = np.degrees(annotation["Pose_Para"][0, :3])
        points = annotation["pt3d_68"][:2]
        centre = (points.max(1) + points.min(1)) / 2
        heads = estimator(folder / f"{name}.jpg")
        if not heads:
            continue
        middles = np.array([np.add(h.box[:2], h.box[2:]) / 2 for h in heads])
        head = heads[int(np.linalg.norm(middles - centre, axis=1).argmin())]
        errors.append(np.abs(head.pose - [yaw, pitch, roll]))
    assert len(errors) >= 12  # of 13: one face in a hundred is not found
    assert np.mean(errors) < 8


def test_path_pil_array_and_list_agree(photo: Path, estimator: HeadPoseEstimator) -> None:
    heads = estimator(photo)
    picture = Image.open(photo)
    array = np.asarray(picture)
    for form in (str(photo), picture, array, array.astype(np.uint16) * 257, array / 255):
        assert_same(heads, estimator(form), 0.01, 0.01)
    several = estimator([photo, array])
    assert len(several) == 2
    assert_same(heads, several[1], 0.01, 0.01)
    assert estimator([]) == []


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation(
    photo: Path, estimator: HeadPoseEstimator, tmp_path: Path, orientation: int
) -> None:
    upright = Image.open(photo)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    upright.transpose(turn).save(path, exif=exif)
    np.testing.assert_array_equal(open_picture(path), np.asarray(upright))
    np.testing.assert_array_equal(np.asarray(open_upright(path)), np.asarray(upright))
    assert upright_size(path) == upright.size
    if orientation == 6:
        assert_same(estimator(photo), estimator(path), 0.01, 0.01)


def test_every_mode_shows_the_same_picture(photo: Path, tmp_path: Path) -> None:
    rgb = Image.open(photo).convert("RGB")
    expected = np.asarray(rgb).astype(int)
    grey = np.asarray(rgb.convert("L")).astype(int)
    wide = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    cases = {
        "alpha.png": (rgb.convert("RGBA"), expected),
        "grey.png": (rgb.convert("L"), grey[:, :, None]),
        "grey_alpha.png": (rgb.convert("LA"), grey[:, :, None]),
        "wide.png": (wide, grey[:, :, None]),
        "wide.tiff": (wide, grey[:, :, None]),
        "12bits.png": (wide.point(lambda value: value / 16), grey[:, :, None]),
        "float.tiff": (Image.fromarray((grey / 255).astype(np.float32)), grey[:, :, None]),
        "cmyk.tiff": (rgb.convert("CMYK"), expected),
        "cmyk.jpg": (rgb.convert("CMYK"), expected),
        "palette.png": (rgb.quantize(256), expected),
        "bits.png": (rgb.convert("1"), None),
    }
    for name, (picture, pixels) in cases.items():
        picture.save(tmp_path / name)
        read = open_picture(tmp_path / name)
        # Training and tests read the same pixels.
        np.testing.assert_array_equal(np.asarray(open_upright(tmp_path / name)), read)
        assert read.shape == (450, 450, 3), name
        assert read.dtype == np.uint8
        if pixels is not None:
            assert np.abs(read - pixels).mean() < 8, name


def test_pictures_of_iphones(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"  # some programs rename without converting
    path.write_bytes(b"\0\0\0\x18ftypheic broken")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(InputError, match="pip install pillow-heif"):
            open_picture(path)
    heif = pytest.importorskip("pillow_heif")
    with pytest.raises(InputError, match="no picture"):
        open_picture(path)
    expected = np.asarray(Image.open(photo).convert("RGB"))
    heif.from_bytes("RGB", (450, 450), expected.tobytes()).save(tmp_path / "photo.heic")
    (tmp_path / "photo.heic").rename(path)
    assert np.abs(open_picture(path).astype(int) - expected).mean() < 8


def test_a_jpeg_under_an_iphones_ending_needs_no_package(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    shutil.copy(photo, tmp_path / "photo.heic")
    np.testing.assert_array_equal(open_picture(tmp_path / "photo.heic"), open_picture(photo))


def test_a_turned_photo_is_evaluated_as_it_is_predicted(
    shared: Path, estimator: HeadPoseEstimator
) -> None:
    folder = shared / "faults" / "exif"
    dataset = open_dataset("panoptic", folder, folder / "annotations.csv")
    upright = open_picture(folder / "phone.jpg")
    np.testing.assert_array_equal(np.asarray(dataset.image(0)), upright)
    (found,) = estimator(upright)
    np.testing.assert_allclose(dataset.boxes[0], found.box, atol=3)
    crop = dataset.cut(0, dataset.boxes[0], 64)
    np.testing.assert_array_equal(crop, resample(Image.fromarray(upright), dataset.boxes[0], 64))
    reduced = dataset.cut(0, dataset.boxes[0], 32)  # decoded at a half
    assert (
        np.abs(reduced.astype(int) - resample(Image.fromarray(crop), [0, 0, 64, 64], 32)).mean() < 6
    )


def test_what_is_transparent_is_white() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert open_picture(picture).min() == 255
    palette = Image.new("P", (8, 8))
    palette.info["transparency"] = 0
    assert open_picture(palette).min() == 255
    assert open_picture(np.zeros((4, 4, 4), np.uint8)).min() == 255


def test_huge_pictures(photo: Path, estimator: HeadPoseEstimator, tmp_path: Path) -> None:
    small = Image.open(photo).convert("RGB")
    huge = Image.new("RGB", (6000, 6000))
    huge.paste(small.resize((3600, 3600)), (1800, 900))
    (head,) = estimator(huge)
    (expected,) = estimator(small)
    np.testing.assert_allclose(
        (np.array(head.box) - [1800, 900, 1800, 900]) / 8, expected.box, atol=15
    )
    np.testing.assert_allclose(head.pose, expected.pose, atol=4)
    too_large = tmp_path / "large.png"
    Image.new("1", (14000, 14000)).save(too_large)
    with pytest.raises(InputError, match="108 megapixels"):
        open_picture(too_large)


@pytest.mark.parametrize(
    ("nothing", "said"),
    [
        (5, "int is no picture; give a path"),
        (None, "is no picture"),
        ([5], "is no picture"),
        ([[1.0, 2.0]], "is no picture"),
        (b"GIF89a", "the picture: no picture that can be read"),
        (io.StringIO("text"), "binary mode"),
        (mx.zeros((9, 9)).astype(mx.int32), "int32 is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(
    estimator: HeadPoseEstimator, nothing: object, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        estimator(nothing)


def test_bytes_files_and_arrays_of_mlx_are_pictures(photo: Path) -> None:
    expected = open_picture(photo)
    np.testing.assert_array_equal(open_picture(photo.read_bytes()), expected)
    with photo.open("rb") as file:
        np.testing.assert_array_equal(open_picture(file), expected)
    np.testing.assert_array_equal(open_picture(mx.array(expected)), expected)
    half = mx.array(expected).astype(mx.bfloat16) / 255
    assert np.abs(open_picture(half).astype(int) - expected).max() <= 1


def test_given_boxes(photo: Path, estimator: HeadPoseEstimator) -> None:
    (found,) = estimator(photo)
    heads = estimator(photo, boxes=[found.box, (0, 0, 50, 50)])
    np.testing.assert_allclose(heads[0].pose, found.pose, atol=0.01)
    assert heads[0].score is None
    assert len(heads) == 2
    assert estimator(photo, boxes=[]) == []
    # Boxes that reach far beyond the picture, and some that miss it.
    assert len(estimator(photo, boxes=[(-1e6, -1e6, 1e6, 1e6), (-50, -50, 1, 1)])) == 2
    for missing in ((5000, 5000, 5010, 5010), (-50, -50, -40, -40), (9, -50, 40, 0)):
        with pytest.raises(InputError, match="outside the image of 450×450 pixels"):
            estimator(photo, boxes=[found.box, missing])
    for wrong in ([(5, 5, 5, 9)], [(0, 0, 1)], [(0, 0, np.nan, 4)], 5, "box", [(1, 2), 3]):
        with pytest.raises(InputError, match="box"):
            estimator(photo, boxes=wrong)
    with pytest.raises(InputError, match="boxes must be"):
        estimator([photo], boxes=5)
    with pytest.raises(InputError, match="as many lists"):
        estimator([photo, photo], boxes=[[found.box]])


def test_largest_faces_first_and_how_many(shared: Path, estimator: HeadPoseEstimator) -> None:
    photo = shared / "data" / "AFLW2000" / "image00006.jpg"
    two = estimator(photo)
    assert len(two) == 2
    areas = [(h.box[2] - h.box[0]) * (h.box[3] - h.box[1]) for h in two]
    assert areas[0] > areas[1]
    assert_same(estimator(photo, max_heads=1), two[:1], 0.01, 0.01)
    assert estimator(photo, min_score=0.99) == []
    with pytest.raises(InputError, match="below 0"):
        estimator(photo, max_heads=-1)


def test_files_in_place_of_what_they_hold(weights: Path) -> None:
    model = from_pretrained(weights)
    with pytest.raises(InputError, match="read_camera"):
        HeadPoseEstimator(model, camera="camera.json")
    with pytest.raises(InputError, match=r"Zero\.load"):
        HeadPoseEstimator(model, zero="zero.json")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 2.0),
        np.full((4, 4, 3), np.nan),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        open_picture(array)


def test_broken_files(tmp_path: Path, photo: Path) -> None:
    good = photo.read_bytes()
    for name, content in (
        ("empty.jpg", b""),
        ("text.jpg", b"hello"),
        ("cut.jpg", good[: len(good) // 2]),
        ("cut.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            open_picture(tmp_path / name)
    with pytest.raises(InputError, match="no such picture"):
        open_picture(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match="folder"):
        open_picture(tmp_path)
    with Image.open(tmp_path / "cut.jpg") as cut, pytest.raises(InputError, match="decoded"):
        open_picture(cut)


@pytest.mark.parametrize("method", ["whenet", "pyramid"])
def test_other_methods_need_nothing_new(method: str, shared: Path, photo: Path) -> None:
    mx.random.seed(0)
    detector = FaceDetector.from_pretrained(shared / "weights" / ONNX_NAME)
    model = build(config_class(method)())
    model.eval()
    (head,) = HeadPoseEstimator(model, detector)(photo)
    assert np.isfinite(head.pose).all()
    assert head.confidence is None or 0 <= head.confidence <= 1


def test_networks_that_read_landmarks(
    photo: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)  # as where it is not installed
    mx.random.seed(0)
    detector = FaceDetector.from_pretrained(shared / "weights" / ONNX_NAME)
    model = build(config_class("nlml")())
    with pytest.raises(InputError, match="need MediaPipe"):
        HeadPoseEstimator(model, detector)(photo)
    rng = np.random.default_rng(0)

    def landmarker(image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        assert image.shape == (450, 450, 3)
        return rng.normal(size=(468, 3)).astype(np.float32) if box[0] > 0 else None

    estimator = HeadPoseEstimator(model, detector, landmarker=landmarker)
    assert len(estimator(photo)) == 1
    # A face without landmarks is left out, not made up.
    assert len(estimator(photo, boxes=[(0, 0, 9, 9), (1, 1, 9, 9)])) == 1


def test_margin(photo: Path, weights: Path, estimator: HeadPoseEstimator) -> None:
    wide = HeadPoseEstimator.from_pretrained(weights, crop_margin=1.0)
    box = estimator(photo)[0].box
    assert np.abs(wide(photo, [box])[0].pose - estimator(photo, [box])[0].pose).max() > 1
    bare = HeadPoseEstimator.from_pretrained(weights, crop_margin=0.0)
    np.testing.assert_array_equal(bare.margins.apply(np.array([1, 2, 3, 4])), [1, 2, 3, 4])


def test_a_margin_without_a_use_is_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for demo in ("6drepnet-pip", "uniface"):
        with pytest.raises(InputError, match=r"crop_margin changes nothing: .* around faces"):
            HeadPoseEstimator.from_pretrained(weights, crop_margin=0.5, crop_of=demo)
        HeadPoseEstimator.from_pretrained(weights, crop_margin=0.0, crop_of=demo)
    reads_landmarks = build(config_from_dict({"model_type": "nlml"}))
    with pytest.raises(InputError, match="crop_margin is for networks that read images"):
        HeadPoseEstimator(reads_landmarks, crop_margin=0.0)
    # The detector that is taken where nobody names one may find what no margin is for.
    finder = SimpleNamespace(finds="landmarks", name="a detector")
    monkeypatch.setattr(estimators, "default_detector", lambda bundled: finder)
    model = from_pretrained(weights)
    opal = dataclasses.replace(model.config.preprocessing, crop=OPAL)
    estimator = HeadPoseEstimator(model.with_preprocessing(opal), crop_margin=0.5)
    with pytest.raises(InputError, match=r"crop_margin changes nothing: .* around landmarks"):
        _ = estimator.detector


def test_which_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"python convert\.py --weight whenet"):
        find_network("whenet")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "mine.safetensors").write_bytes(weights.read_bytes())
    assert find_network("mine") == Path("weights/mine.safetensors")
    assert find_network(weights) == weights
    with pytest.raises(InputError, match=r"nowhere\.safetensors"):
        HeadPoseEstimator.from_pretrained("nowhere.safetensors")


def test_the_network_in_the_box(
    photo: Path, weights: Path, estimator: HeadPoseEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_headpose.weights.BUNDLED", weights)
    boxes = [estimator(photo)[0].box]
    for default in (HeadPoseEstimator(), HeadPoseEstimator.from_pretrained()):
        assert_same(default(photo, boxes), estimator(photo, boxes), degrees=0.01)


def test_a_copy_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_headpose.weights.BUNDLED", tmp_path / "headpose.safetensors")
    for make in (HeadPoseEstimator, HeadPoseEstimator.from_pretrained):
        with pytest.raises(InputError, match=r"python convert\.py --weight hopelessnet-resnet18"):
            make()


def test_hub_folder(tmp_path: Path, weights: Path, photo: Path) -> None:
    original = HeadPoseEstimator.from_pretrained(weights)
    save_pretrained(original.model, tmp_path / "folder")
    again = HeadPoseEstimator.from_pretrained(tmp_path / "folder")
    box = [(120, 126, 318, 382)]
    np.testing.assert_array_equal(again(photo, box)[0].pose, original(photo, box)[0].pose)


@pytest.mark.parametrize("style", ["axis", "cube"])
def test_drawing(style: str) -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    head = Head((100, 100, 300, 300), yaw=30, pitch=20, roll=0)
    drawn = draw_heads(image, [head], style)
    assert drawn.shape == image.shape
    assert image.min() == image.max() == 90
    blue = np.argwhere((drawn == AXIS_COLOURS[2]).all(-1))
    assert len(blue) > 20
    if style == "axis":
        # Positive yaw: the nose to the picture's left. Positive pitch: up.
        yaw, pitch = np.radians(30), np.radians(20)
        end = 200 - 120 * np.array([np.sin(yaw), np.sin(pitch) * np.cos(yaw)])
        assert np.linalg.norm(blue[:, ::-1] - end, axis=1).min() < 4
    # With a camera or a zero the angles say something else than the image shows.
    placed = dataclasses.replace(head, seen=(30.0, 20.0, 0.0)).turned(np.array((-40.0, 0, 10)))
    mine = draw_heads(image, [placed], style)
    assert np.array_equal(mine[110:290, 110:290], drawn[110:290, 110:290])  # beside the label
    assert not np.array_equal(mine, drawn)
    assert "seen" not in placed.to_dict()
    # A face partly outside is no reason to fail.
    draw_heads(
        image, [Head((-500, -500, -20, -20), 1, 2, 3), Head((390, 390, 900, 900), 170, 0, 0)]
    )


def rectangles_meet(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_a_crowd_cover_neither_each_other_nor_the_heads(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform((-20, -20), (620, 460), (40, 2))
    heads = [Head((x, y, x + 40, y + 44), *rng.uniform(-80, 80, 3)) for x, y in corners]
    labels = place_labels(heads, (640, 480))
    assert len(labels) > 20
    for index, label in enumerate(labels):
        left, top, right, bottom = label.box
        assert min(left, top) >= 0
        assert right < 640
        assert bottom < 480
        assert not any(rectangles_meet(label.box, other.box) for other in labels[:index])
        for head in heads:
            x = min(right, head.box[2]) - max(left, head.box[0])
            y = min(bottom, head.box[3]) - max(top, head.box[1])
            assert max(x, 0) * max(y, 0) <= 0.25 * 40 * 44 + 1e-6


def test_neighbours_in_a_row_keep_their_faces_free() -> None:
    heads = [Head((40 + 90 * i, 150, 130 + 90 * i, 250), 20, 10, 5) for i in range(6)]
    labels = place_labels(heads, (640, 400))
    assert len(labels) == len(heads)
    assert not any(rectangles_meet(label.box, head.box) for label in labels for head in heads)


def test_axes_of_a_head_cut_by_the_edge_are_as_long_as_what_is_seen() -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    drawn = draw_heads(image, [Head((-90, 150, 110, 250), 0, 0, 0)])  # 110 of 200 pixels
    reach = np.argwhere((drawn == AXIS_COLOURS[0]).all(-1))[:, 1].max()
    assert 70 <= reach <= 80  # 0.6 · 110 from the box's middle at x = 10


def test_lazy_names() -> None:
    assert mlx_headpose.HeadPoseEstimator is HeadPoseEstimator
    assert mlx_headpose.Head is Head
    with pytest.raises(AttributeError, match="no attribute"):
        _ = mlx_headpose.nothing


def test_a_picture_with_a_drawn_circle_has_no_head(estimator: HeadPoseEstimator) -> None:
    picture = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(picture).ellipse((100, 50, 200, 150), outline="black")
    assert estimator(picture) == []


def test_confidence_is_low_where_there_is_nothing_to_see(
    photo: Path, estimator: HeadPoseEstimator
) -> None:
    box = [(120, 126, 318, 382)]
    noise = np.random.default_rng(0).integers(0, 256, (450, 450, 3)).astype(np.uint8)
    clear, nothing = estimator(photo, box)[0].confidence, estimator(noise, box)[0].confidence
    assert clear is not None
    assert nothing is not None
    assert 0 <= nothing < 0.8 < clear <= 1
