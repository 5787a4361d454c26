"""Published protocols and demos by name: their crops pixel for pixel, their counts of errors."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from support.commands import assert_refused, run
from support.converted import seeded_network

from mlx_headpose.convert import convert_file
from mlx_headpose.core.crop import Crop, Margins, cut
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.data.protocols import DEMOS, PROTOCOLS, find_demo, find_protocol
from mlx_headpose.errors import InputError
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.pose import (
    align_poses,
    angle_errors,
    geodesic_errors,
    matrix_to_pose,
    pose_to_matrix,
    pose_to_r,
    r_to_pose,
    shifted_angle_errors,
    twin_angle_errors,
)
from mlx_headpose.weights import from_pretrained

IMAGE = "image00002"
# Golden file → protocol.
GOLDEN = {
    "sixdrepnet": "6drepnet",
    "sixdrepnet_yakhyo": "yakhyo",
    "opal": "opal",
    "semiuhpe": "semiuhpe",
}


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"{IMAGE}\n")
    return path


@pytest.mark.parametrize("name", GOLDEN)
def test_inputs_and_answers_equal_the_published_codes(shared, seeded, listed, name):
    with np.load(shared / "golden" / f"{name}_aflw2000_{IMAGE}.npz") as golden:
        network = seeded_network(seeded, str(golden["network"]))
        preprocessing = PROTOCOLS[GOLDEN[name]].cut.apply(network.config.preprocessing)
        folder = shared / "data" / "AFLW2000"
        dataset = open_dataset("AFLW2000", folder, listed, crop=preprocessing.crop)
        image = cut(dataset.image(0), dataset.crop_box(0), preprocessing)
        found = np.array(preprocessing.normalize(mx.array(image[None])))[0]
        expected = golden["input"].transpose(1, 2, 0)
        # One step of a pixel is 0.0039 / 0.23 or more; the rest is the order of three operations.
        assert np.abs(found - expected).max() < 2e-6
        assert np.abs(pose_to_r(dataset.poses[0]) - published_r(golden, name)).max() < 1e-6
        outputs = network(mx.array(image[None]))
        error = np.abs(np.array(outputs[0]).ravel() - golden["output0"].ravel()).max()
        assert error / np.abs(golden["output0"]).max() < 1e-4


def published_r(golden, name):
    """6DRepNet's R of the image's label; OPAL's is D."""
    r = golden["R_true"].astype(float)
    return pose_to_r(matrix_to_pose(r)) if name == "opal" else r


def test_counts_equal_the_published_codes(shared):
    with np.load(shared / "golden" / "metrics_sixd.npz") as golden:
        order = [1, 0, 2]
        true, predicted = golden["true_pyr_deg"][:, order], golden["pred_pyr_deg"][:, order]
        for name, count in (("sixdrepnet", shifted_angle_errors), ("sixdrepnet360", angle_errors)):
            expected = golden[f"{name}_error_pyr"][:, order]
            np.testing.assert_allclose(count(predicted, true), expected, atol=1e-4)
        true, predicted = (matrix_to_pose(golden[f"opal_R_{w}"]) for w in ("true", "pred"))
        np.testing.assert_allclose(
            twin_angle_errors(predicted, true), golden["opal_mae_ypr"], atol=1e-9
        )
        np.testing.assert_allclose(geodesic_errors(predicted, true), golden["opal_ge"], atol=1e-9)
        aligned = align_poses(matrix_to_pose(golden["opal_align_R_pred"]), true)
        # The published mean is found in steps and ends 0.003° short of this one.
        after = golden["opal_align_ge_after"]
        np.testing.assert_allclose(geodesic_errors(aligned, true), after, atol=0.01)
        np.testing.assert_allclose(
            twin_angle_errors(matrix_to_pose(pose_to_matrix(aligned)), true),
            golden["opal_align_mae_after_ypr"],
            atol=0.1,
        )


@pytest.mark.parametrize(
    ("name", "count"), [("6drepnet", 1969), ("yakhyo", 1969), ("opal", 1969), ("semiuhpe", 1964)]
)
def test_protocols_keep_the_published_numbers_of_images(shared, name, count):
    protocol = find_protocol(name)
    dataset = open_dataset("AFLW2000", shared / "data" / "AFLW2000", crop=protocol.cut.crop)
    protocol.keep(dataset)
    assert len(dataset) == count


def test_a_head_from_behind_is_counted_with_yaw_within_90():
    true = r_to_pose(pose_to_r(np.array([[170.0, 5.0, 0.0]])))
    found = PROTOCOLS["6drepnet360"].mean_errors(np.array([[170.0, 5.0, 0.0]]), true)
    assert np.abs(found).max() < 1e-9


BOX = np.array([100.9, 50.9, 140.2, 130.7])


@pytest.mark.parametrize(
    ("name", "box"),
    [
        # 40 × 80 pixels: int(0.2·80) = 16 to each side, int(0.2·40) = 8 above and below.
        ("6drepnet-demo", [84, 42, 156, 138]),
        ("yakhyo-detect", [84, 42, 156, 138]),
        ("yakhyo-onnx", [84, 42, 156, 138]),
        ("uniface", [100, 50, 140, 130]),
        ("6drepnet-pip", BOX),
    ],
)
def test_demos_margins_around_a_detected_face(name, box):
    np.testing.assert_allclose(DEMOS[name].crop.face.apply(BOX), box)


def test_demos_shapes_borders_and_colours():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(1, 255, (120, 160, 3), np.uint8))
    box = np.array([-10.0, 20.0, 50.0, 60.0])
    plain = Preprocessing()
    shapes = {
        name: cut(picture, demo.crop.face.apply(box), demo.apply(plain)).shape
        for name, demo in DEMOS.items()
    }
    assert shapes.pop("yakhyo-detect")[:2] != (224, 224)
    assert set(shapes.values()) == {(224, 224, 3)}
    swapped = DEMOS["6drepnet-demo"].apply(plain)
    image = mx.array(np.asarray(picture)[None])
    given, turned = (np.array(p.normalize(image)) for p in (plain, swapped))
    pixels = np.rint(255 * (turned * plain.std + plain.mean))
    assert (pixels[..., ::-1] == np.asarray(picture)[None]).all()
    assert np.abs(given - turned).max() > 0.1
    # What demo.py clips, the others that read Python's slices do as well: no black is added.
    assert cut(picture, np.array([-40.0, -40.0, 30.0, 30.0]), swapped).min() > 0


def test_linear_scaling_is_opencvs():
    cv2 = pytest.importorskip("cv2", reason="compares with OpenCV, which is not installed")
    image = np.random.default_rng(1).integers(0, 256, (90, 61, 3), np.uint8)
    found = cut(
        Image.fromarray(image),
        np.array([0, 0, 61, 90]),
        Preprocessing(size=224, resize="squash", filter="linear"),
    )
    expected = cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.2  # OpenCV computes in fixed point


@pytest.mark.parametrize(
    "values", [{"of": "area"}, {"rounding": "up"}, {"square": -1.0}, {"square": float("nan")}]
)
def test_impossible_margins_are_refused(values):
    with pytest.raises(InputError):
        Margins(**values)


@pytest.mark.parametrize(
    "values", [{"filter": "sharp"}, {"colours": "YUV"}, {"resize": "bend"}, {"standardize": 1}]
)
def test_impossible_preprocessing_is_refused(values):
    with pytest.raises(InputError):
        Preprocessing(**values)


def test_unknown_names_are_refused():
    for find in (find_protocol, find_demo):
        with pytest.raises(InputError, match="choose one of"):
            find("7drepnet")
    assert Crop("visible").around("300W_LP", ["landmarks"], train=False).kind == "landmarks"


@pytest.fixture(scope="module")
def converted(shared, tmp_path_factory):
    """A small trained network as a file."""
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    convert_file(shared / "weights" / "squeezenet_1_1.pkl", path)
    return path


def test_the_command_counts_by_a_protocol_beside_the_honest_errors(shared, converted, tmp_path):
    names = (shared / "data" / "AFLW2000" / "aflw2000_list.txt").read_text().split()[:12]
    (tmp_path / "list.txt").write_text("\n".join(names))
    arguments = [
        *("--snapshot", converted, "--data_dir", shared / "data" / "AFLW2000"),
        *("--filename_list", "list.txt", "--json", "out.json"),
    ]
    done = run("test.py", *arguments, "--protocol", "semiuhpe", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "as SemiUHPE's AFLW2000 test counts (plain differences): Yaw" in done.stdout
    assert "geodesic" in done.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["counted_as"] == "semiuhpe"
    assert set(report["published_count"]) == {"yaw", "pitch", "roll", "mae"}
    assert {"mae", "geodesic"} <= set(report)
    done = run("test.py", *arguments, "--protocol", "opal", "--ad", "0.3", folder=tmp_path)
    assert_refused(done, "--ad", "--protocol")


@pytest.mark.parametrize("demo", [None, *DEMOS])
def test_the_estimator_reads_faces_as_a_demo_does(converted, demo):
    rng = np.random.default_rng(2)
    image = rng.integers(1, 256, (300, 400, 3), np.uint8)
    boxes = np.array([[100.5, 60.2, 180.9, 170.4], [-9.0, 200.0, 60.0, 290.0]])
    estimator = HeadPoseEstimator(from_pretrained(converted), crop_of=demo)
    heads = estimator(image, boxes)
    preprocessing = estimator.model.config.preprocessing
    for head, box in zip(heads, boxes.astype(np.float32), strict=True):
        inside = preprocessing.crop.face.apply(box)
        pixels = cut(Image.fromarray(image), inside, preprocessing)
        model = estimator.model
        expected = model.decode(model(mx.array(pixels[None])))
        np.testing.assert_allclose(head.pose, np.array(expected)[0], atol=1e-3)
    if demo is not None:
        swaps = DEMOS[demo].swaps
        assert preprocessing.colours == ("BGR" if swaps else "RGB")


def test_training_pads_to_a_square_too():
    class Boxed(Dataset):
        def cut(self, index, box, size, turn, extend):
            self.box = box
            return np.zeros((size, size, 3), np.uint8)

    boxes = np.array([[10.0, 10.0, 30.0, 50.0]])
    crop = PROTOCOLS["semiuhpe"].cut.crop
    dataset = Boxed("boxed", ["a"], np.zeros((1, 3)), boxes, crop.train)
    preprocessing = PROTOCOLS["semiuhpe"].cut.apply(Preprocessing())
    ImageInput(preprocessing).training_sample(dataset, 0, np.random.default_rng(0), None)
    # Longer side 40: 8, 16, 8 and 8 more, then 28 black columns.
    np.testing.assert_allclose(dataset.box, [-12.0, -6.0, 52.0, 58.0])


def test_a_standardized_crop_shows_no_exposure():
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(size=16, standardize=True)
    image = rng.integers(40, 90, (1, 16, 16, 3)).astype(np.uint8)
    plain = np.array(preprocessing.normalize(mx.array(image)))
    assert plain.mean() == pytest.approx(0, abs=1e-5)
    assert plain.std() == pytest.approx(1, abs=1e-3)
    assert plain == pytest.approx((image - image.mean()) / image.std(), abs=2e-3)
    brighter = np.array(preprocessing.normalize(mx.array(2 * image + 50)))
    assert brighter == pytest.approx(plain, abs=2e-3)
    flat = np.array(preprocessing.normalize(mx.full((1, 16, 16, 3), 7, mx.uint8)))
    assert not flat.any()
