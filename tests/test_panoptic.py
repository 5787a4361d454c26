"""CMU Panoptic: labels made of a rig of cameras whose answer is known, and the ready list."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation
from support.commands import assert_refused, installed

from mlx_headpose.core.crop import AROUND_LANDMARKS, AROUND_POINTS, NONE
from mlx_headpose.data import open_dataset
from mlx_headpose.data.base import Dataset
from mlx_headpose.data.panoptic import COLUMNS
from mlx_headpose.data.panoptic_labels import (
    FACE_POINTS,
    KEYPOINTS,
    REFERENCE_POINTS,
    Camera,
    Recording,
    align_head,
    head_box,
    head_pose,
)
from mlx_headpose.data.yaw_balanced import YawBalanced, balance
from mlx_headpose.errors import InputError

DISTANCE = 250.0


def camera_at(azimuth, elevation=0.0, name="00_00", distortion=(0, 0, 0, 0, 0), distance=DISTANCE):
    """A camera that looks at the origin, from `azimuth` degrees to the left of a head that looks
    along +z with y up."""
    a, e = np.radians([azimuth, elevation])
    place = distance * np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    forward = -place / distance
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])  # x right, y down, z away
    k = np.array([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]])
    return Camera(name, (1920, 1080), k, np.array(distortion, float), rotation, -rotation @ place)


def face(rotation=None, scale=1.0, place=(0, 0, 0), hidden=()):
    """(70, 3) keypoints of a head that looks along +z, y up, and their confidence."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(FACE_POINTS, 3)) * 50
    rotation = np.eye(3) if rotation is None else rotation
    points[KEYPOINTS] = scale * REFERENCE_POINTS @ rotation.T + np.array(place)
    confidence = np.zeros(FACE_POINTS)
    confidence[KEYPOINTS] = 0.9
    confidence[list(hidden)] = 0.05
    return points, confidence


def head(**kwargs):
    return align_head(*face(**kwargs))


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.floats(0.5, 2),
    st.tuples(*[st.floats(-100, 100)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_alignment_finds_any_head(angles, scale, place):
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    found = head(rotation=rotation, scale=scale, place=place)
    assert np.allclose(found.rotation, rotation, atol=1e-6)
    assert np.allclose(found.translation, place, atol=1e-6)
    assert np.isclose(found.scale, scale)


def test_alignment_uses_sure_keypoints_only():
    points, confidence = face(hidden=KEYPOINTS[:7])
    points[KEYPOINTS[:7]] += 100
    assert np.allclose(align_head(points, confidence).rotation, np.eye(3), atol=1e-6)
    points, confidence = face(hidden=KEYPOINTS[:8])
    assert align_head(points, confidence) is None  # six are not enough


@pytest.mark.parametrize("azimuth", range(-175, 180, 10))
def test_yaw_is_the_cameras_place_on_a_ring_around_the_head(azimuth):
    camera = camera_at(azimuth)
    assert np.allclose(head_pose(head(), camera), [azimuth, 0, 0], atol=1e-6)
    # From a camera at the head's left, the nose points to the picture's left: yaw is positive.
    nose, centre = camera.project(np.array([[0, 0, 10.0], [0, 0, 0]]))[:, 0]
    assert np.sign(azimuth) == np.sign(centre - nose)


@pytest.mark.parametrize("azimuth", [0, 60, 150, -150])
@pytest.mark.parametrize("elevation", [-50, 30, 60])
def test_pitch_from_cameras_above_and_below(azimuth, elevation):
    _yaw, pitch, roll = head_pose(head(), camera_at(azimuth, elevation))
    assert abs(pitch) < 90
    assert abs(roll) < 90
    if azimuth == 0:
        # Seen from below, the face looks up in the picture: the nose's tip is above its centre.
        camera = camera_at(azimuth, elevation)
        nose, centre = camera.project(np.array([[0, 0, 10.0], [0, 0, 0]]))[:, 1]
        assert np.sign(pitch) == np.sign(centre - nose)
        assert np.isclose(abs(pitch), abs(elevation), atol=1e-6)


def test_equals_the_published_conversion(shared):
    """WHENet's own `rotate_zyx`: the transpose of camera · head · diag(1, −1, −1), signs turned."""
    golden = np.load(shared / "golden" / "geometry.npz")
    camera = camera_at(37, 12)
    for (pitch, yaw, roll), matrix in zip(
        golden["pitch_yaw_roll_deg"], golden["whenet_rotate_zyx"], strict=True
    ):
        rotation = camera.rotation.T @ matrix @ np.diag([1, -1, -1])
        found = head_pose(head(rotation=rotation), camera)
        # The label negates rotate_zyx's yaw and roll.
        if found is None:
            continue
        assert np.allclose(
            Rotation.from_euler("ZYX", [roll, yaw, pitch], degrees=True).as_matrix().T, matrix
        )
        expected = np.array([-yaw, pitch, -roll])
        other = np.array([180 - expected[0], expected[1] + 180, expected[2] + 180])
        distance = [np.abs((found - e + 180) % 360 - 180).max() for e in (expected, other)]
        assert min(distance) < 1e-5


def test_upside_down_has_no_label():
    upside_down = Rotation.from_euler("z", 180, degrees=True).as_matrix()
    assert head_pose(head(rotation=upside_down), camera_at(0)) is None


def test_projection_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    camera = camera_at(20, 10, distortion=(-0.3, 0.2, 0.001, -0.002, -0.05))
    points = np.random.default_rng(0).normal(size=(20, 3)) * 30
    expected, _ = cv2.projectPoints(
        points,
        cv2.Rodrigues(camera.rotation)[0],
        camera.translation,
        camera.k,
        np.array([-0.3, 0.2, 0.001, -0.002, -0.05]),
    )
    assert np.allclose(camera.project(points)[:, :2], expected[:, 0], atol=1e-6)


def test_box_holds_the_head():
    left, top, right, bottom = head_box(head(), camera_at(120))
    points = camera_at(120).project(REFERENCE_POINTS)
    assert (points[:, 0] > left).all()
    assert (points[:, 0] < right).all()
    assert (points[:, 1] > top).all()
    assert (points[:, 1] < bottom).all()
    # A sphere of 22 cm radius, 2.5 m away, through a lens of 1400 pixels.
    assert 240 < right - left < 270
    assert 240 < bottom - top < 270


@pytest.mark.parametrize("place", [(0, 0, 300), (400, 0, 0), (0, 0, 245)])
def test_no_box_for_a_head_behind_beside_or_around_the_camera(place):
    assert head_box(head(place=place), camera_at(0)) is None


@pytest.fixture
def recording(tmp_path):
    write_recording(tmp_path / "ring")
    return tmp_path / "ring"


def write_recording(folder):
    """A sequence on disk: four cameras, one person who turns, one whom nobody sees well."""
    cameras = [camera_at(a, name=f"00_{i:02d}") for i, a in enumerate((0, 90.5, 180, -60))]
    entries = [
        {
            "name": camera.name,
            "type": "hd",
            "resolution": list(camera.size),
            "panel": 0,
            "node": i,
            "K": camera.k.tolist(),
            "distCoef": camera.distortion.tolist(),
            "R": camera.rotation.tolist(),
            "t": camera.translation[:, None].tolist(),
        }
        for i, camera in enumerate(cameras)
    ]
    entries.append({"name": "vga", "type": "vga"})
    (folder / "hdFace3d").mkdir(parents=True)
    (folder / "calibration_ring.json").write_text(json.dumps({"cameras": entries}))
    for frame, turned in enumerate((0, 2, 20)):
        rotation = Rotation.from_euler("y", turned, degrees=True).as_matrix()
        people = []
        for number, hidden in ((5, ()), (6, KEYPOINTS)):
            points, confidence = face(rotation=rotation, hidden=hidden)
            face70 = {"landmarks": points.ravel().tolist(), "averageScore": confidence.tolist()}
            people.append({"id": number, "face70": face70})
        people.append({"id": 7})
        path = folder / "hdFace3d" / f"faceRecon3D_hd{frame + 100:08d}.json"
        path.write_text(json.dumps({"version": 0.5, "people": people}))
        for camera in cameras:
            where = folder / "hdImgs" / camera.name / f"{camera.name}_{frame + 100:08d}.jpg"
            where.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(frame).integers(0, 255, (108, 192, 3), np.uint8)
            blank = camera.name == "00_03" and frame == 2
            picture = Image.fromarray(noise * (not blank)).resize(camera.size)
            picture.save(where)


def test_labels_of_a_recording(recording):
    (recording / "hdFace3d" / "._faceRecon3D_hd00000100.json").write_bytes(b"of a Mac")
    sequence = Recording(recording)
    assert list(sequence.cameras) == ["00_00", "00_01", "00_02", "00_03"]
    labels = dict(sequence.labels(sequence.cameras["00_00"], interval=1))
    assert list(labels) == [100, 102]  # frame 101 has turned by 2° only
    assert [label.person for label in labels[100]] == [5]
    back = dict(sequence.labels(sequence.cameras["00_02"], interval=1))
    assert abs(back[100][0].pose[0]) == pytest.approx(180, abs=1e-6)
    assert abs(back[102][0].pose[0]) == pytest.approx(160, abs=1e-6)


def test_command_makes_a_list_that_the_dataset_reads(recording, tmp_path):
    output = tmp_path / "ready"
    done = installed("panoptic", recording, "--output", output, "--interval", 1)
    assert done.returncode == 0, done.stderr
    assert "7 heads" in done.stdout  # four cameras, two frames, less the recorder's blank one
    dataset = open_dataset("panoptic", output)
    # The camera at 90.5° sees the first frame near gimbal lock.
    assert len(dataset) == 6
    assert sum(dataset.dropped.values()) == 1
    for index in range(len(dataset)):
        picture = dataset.image(index)
        x_min, y_min, x_max, y_max = dataset.crop_box(index)
        assert 0 <= x_min < x_max <= picture.width
        assert 0 <= y_min < y_max <= picture.height
    first = dataset.poses[dataset.ids.index("ring/00_00_5_00000100.jpg")]
    assert np.allclose(first, 0, atol=1e-3)


def test_reads_videos(recording, tmp_path):
    cv2 = pytest.importorskip("cv2")
    sequence = Recording(recording)
    (recording / "hdVideos").mkdir()
    camera = dataclasses.replace(sequence.cameras["00_00"], size=(64, 48))
    path = recording / "hdVideos" / "hd_00_00.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (64, 48))
    for frame in range(6):
        pixels = np.full((48, 64, 3), 40 * frame, np.uint8)
        pixels[:, :8] = 255
        writer.write(pixels)
    writer.release()
    (recording / "hdImgs" / "00_00").rename(recording / "away")
    found = dict(sequence.pictures(camera, [1, 4, 99]))
    assert list(found) == [1, 4]
    assert found[1].getpixel((40, 20))[0] == pytest.approx(40, abs=8)
    assert found[4].getpixel((40, 20))[0] == pytest.approx(160, abs=8)
    with pytest.raises(InputError, match=r"hd_00_00\.mp4: frame 1 has 64×48 pixels, and the calib"):
        list(sequence.pictures(sequence.cameras["00_00"], [1]))


def test_frames_of_another_size_than_the_calibrations_are_named(recording):
    path = recording / "hdImgs" / "00_00" / "00_00_00000100.jpg"
    for size in ((1280, 720), (96, 54)):
        with Image.open(path) as picture:
            smaller = picture.resize(size)
        smaller.save(path)
        done = installed("panoptic", recording, "--output", recording / "ready", "--interval", 1)
        words = "00_00: frame ", f"has {size[0]}×{size[1]} pixels", "is for 1920×1080; get"
        assert_refused(done, *words)
        assert not (recording / "ready" / "annotations.csv").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "calibration_ring.json").write_text("{}"),
        lambda folder: (folder / "calibration_ring.json").write_text('{"cameras": [{"K": 1}]}'),
        lambda folder: (folder / "calibration_ring.json").write_text("[" * 100_000),
        lambda folder: (folder / "calibration_ring.json").unlink(),
        lambda folder: [path.unlink() for path in folder.glob("hdFace3d/*")],
        lambda folder: [path.write_text('{"people": 3}') for path in folder.glob("hdFace3d/*")],
        lambda folder: [
            path.write_text('{"people": [{"face70": {"landmarks": [1]}}]}')
            for path in folder.glob("hdFace3d/*")
        ],
    ],
)
def test_damaged_recordings_are_named(recording, damage):
    def labels():
        sequence = Recording(recording)
        return list(sequence.labels(sequence.cameras["00_00"]))

    damage(recording)
    with pytest.raises(InputError, match="ring"):
        labels()


def test_ready_list(shared):
    dataset = open_dataset("panoptic", shared / "data" / "panoptic")
    names = [name[:5] for name in dataset.ids]
    assert names == ["00_00", "00_01", "00_03"]  # 00_02 is near gimbal lock
    assert np.allclose(dataset.poses[:, 0], [5.416421, 174.772034, -144.067711])
    assert np.allclose(dataset.boxes[0], [877, 120, 877 + 268, 120 + 266])
    assert dataset.margins == NONE
    assert dataset.image(0).size == (1920, 1080)
    faces = open_dataset("panoptic", shared / "data" / "panoptic", crop=AROUND_LANDMARKS)
    assert "where a face would be" in faces.protocol
    assert np.allclose(faces.margins.apply(np.array([0, 0, 100, 200])), [15, 48, 85, 188])
    assert (
        open_dataset("panoptic", shared / "data" / "panoptic", crop=AROUND_POINTS).margins == NONE
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image,yaw\na,1\n", "first line"),
        (",".join(COLUMNS) + "\na.jpg,1,2,3,4,5,6\n", "row 1"),
        (",".join(COLUMNS) + "\na.jpg,1,2,3,4,5,6,x\n", "row 1"),
        (",".join(COLUMNS) + "\na.jpg,1,2,0,4,5,6,7\n", "row 1"),
        (",".join(COLUMNS) + "\na.jpg,1,2,3,4,5,6,inf\n", "row 1"),
        (",".join(COLUMNS) + "\n../a.jpg,1,2,3,4,5,6,7\n", "inside the folder"),
        (",".join(COLUMNS) + "\n/a.jpg,1,2,3,4,5,6,7\n", "inside the folder"),
        ("", "first line"),
    ],
)
def test_broken_lists_are_named(tmp_path, text, match):
    path = tmp_path / "annotations.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        open_dataset("panoptic", tmp_path)


def test_angles_beyond_half_a_turn_are_wrapped(tmp_path):
    rows = ["a.jpg,1,2,3,4,350,5,-6", "a.jpg,1,2,3,4,-200,5,-6", "a.jpg,1,2,3,4,270,5,-6"]
    (tmp_path / "annotations.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    dataset = open_dataset("panoptic", tmp_path)
    np.testing.assert_allclose(dataset.poses, [[-10, 5, -6], [160, 5, -6]])
    assert list(dataset.dropped.values()) == [1]  # 270° is -90°, near gimbal lock


def test_lists_from_spreadsheets_are_read(tmp_path):
    lines = ["\ufeffimage, x,y ,width,height,yaw,pitch,roll", "", "a.jpg, 1,2,3,4,5,6,7", ",,,,,,,"]
    (tmp_path / "annotations.csv").write_text("\r\n".join(lines), encoding="utf-8")
    dataset = open_dataset("panoptic", tmp_path)
    assert dataset.ids == ["a.jpg"]
    np.testing.assert_array_equal(dataset.poses, [[5, 6, 7]])


def test_missing_list(tmp_path):
    with pytest.raises(InputError, match="no such list"):
        open_dataset("panoptic", tmp_path)
    with pytest.raises(InputError, match="data_dir"):
        open_dataset("panoptic")


class Plain(Dataset):
    def image(self, index):
        return f"{self.name} {self.ids[index]}"


def plain(name, yaws):
    poses = np.zeros((len(yaws), 3), np.float32)
    poses[:, 0] = yaws
    ids = [str(i) for i in range(len(yaws))]
    return Plain(name, ids, poses, np.zeros((len(yaws), 4), np.float32))


def test_balancing_fills_every_bin_to_the_fullest():
    rng = np.random.default_rng(0)
    front = np.concatenate([rng.uniform(-90, 90, 300), rng.uniform(40, 50, 50)])
    circle = rng.uniform(-180, 180, 5000)
    keep = balance(front, circle, rng)
    counts, _ = np.histogram(np.concatenate([front, circle[keep]]), np.arange(-180, 181, 10))
    assert counts.min() == counts.max()


def test_yaw_balanced_dataset_hands_out_both_parts():
    mixed = YawBalanced(plain("front", [0, 0, 45]), plain("circle", [0, 45, 45, 175, -175]))
    assert len(mixed) == 3 + 3  # two bins hold at most two heads, and 45° has one already
    for index, yaw in enumerate(mixed.poses[:, 0]):
        name, number = mixed.image(index).split()
        part = {"front": mixed.parts[0], "circle": mixed.parts[1]}[name]
        assert part.poses[part.ids.index(number), 0] == yaw
    mixed.select(mixed.poses[:, 0] > 100)
    assert mixed.image(0).startswith("circle")
    assert len(mixed) == 1


def test_yaw_balanced_from_the_two_folders(shared):
    dataset = open_dataset("panoptic+300W_LP", shared / "data")
    assert len(dataset.parts[0]) == 3
    assert dataset.image(0).size[0] > 100
    assert dataset.image(len(dataset) - 1).size == (1920, 1080)
    assert dataset.path(0).suffix == ".jpg"
    assert dataset.path(len(dataset) - 1).parent.name == "panoptic"
    # Each part keeps its own crop: 300W-LP's box grows by its rule, Panoptic's does not.
    first, last = dataset.crop_box(0), dataset.crop_box(len(dataset) - 1)
    assert (first[2:] - first[:2] > dataset.boxes[0, 2:] - dataset.boxes[0, :2]).all()
    assert np.array_equal(last, dataset.boxes[-1])
