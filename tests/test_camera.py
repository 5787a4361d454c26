"""Cameras: their files, rays and lens distortion, and what they do to a head's angles."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix
from mlx_headpose.readers.camera_file import read_camera
from mlx_headpose.space.intrinsics import Camera
from mlx_headpose.space.perspective import ray_rotation, relative_to_camera, relative_to_ray

LENSES = [
    (0.0,) * 8,
    (-0.28, 0.09, 0.001, -0.0007, -0.01),
    (0.12, -0.23, 0.0005, 0.002, 0.08),
    (0.9, -0.3, 0.0003, 0.0001, 0.05, 1.2, -0.2, 0.02),
]


def lens(distortion: tuple[float, ...]) -> Camera:
    return Camera(612.5, 608.25, 318.5, 243.75, 640, 480, distortion)


@pytest.mark.parametrize("distortion", LENSES)
def test_distortion_is_opencvs(distortion):
    cv2 = pytest.importorskip("cv2", reason="compares with OpenCV, which is not installed")
    camera = lens(distortion)
    points = np.random.default_rng(0).uniform((0, 0), (640, 480), (50, 2))
    rays = camera.rays(points)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    theirs, _ = cv2.projectPoints(
        rays * 1.7, np.zeros(3), np.zeros(3), matrix, np.array(camera.distortion)
    )
    assert np.allclose(theirs[:, 0], points, atol=1e-3)
    assert np.allclose(camera.project(rays * 1.7), points, atol=1e-6)


def test_beyond_the_image_rays_go_on_as_at_its_edge():
    """Boxes of heads that the edge cuts reach beyond, where the lens's polynomial folds back."""
    camera = Camera(1060.0, 1060.0, 640.0, 360.0, 1280, 720, (-0.3, 0, 0, 0, 0, 0, 0, 0))
    across = np.stack((np.linspace(-200, 1480, 200), np.full(200, -80.0)), 1)
    rays = camera.rays(across)
    assert (np.diff(rays[:, 0]) > 0).all()
    assert np.abs(rays[:, :2]).max() < 2
    edge, beyond, further = camera.rays(np.array([[0.0, 300], [-50, 300], [-100, 300]]))
    assert np.allclose(edge - beyond, beyond - further, rtol=0.2)


def test_the_longer_side_spans_the_field_of_view():
    for width, height in ((640, 480), (480, 640)):
        camera = Camera.from_fov(70, width, height)
        ends = np.array([[0, height / 2], [width, height / 2]])
        if height > width:
            ends = ends[:, ::-1] * (height / width) ** np.array([-1, 1])
            ends = np.array([[width / 2, 0], [width / 2, height]])
        left, right = camera.rays(ends)
        cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(70)
    with pytest.raises(InputError, match="field of view of 200°"):
        Camera.from_fov(200, 640, 480)


@pytest.mark.parametrize("suffix", ["yml", "yaml", "json"])
def test_opencvs_own_files(tmp_path, suffix):
    cv2 = pytest.importorskip("cv2", reason="OpenCV writes the files, and is not installed")
    path = tmp_path / f"camera.{suffix}"
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    file.write("calibration_time", "Tue 3 Mar 2026 10:11:12")
    file.write("image_width", 640)
    file.write("image_height", 480)
    file.write("camera_matrix", np.array([[612.5, 0, 318.5], [0, 608.25, 243.75], [0, 0, 1]]))
    file.write("distortion_coefficients", np.array([LENSES[1]]).T)
    file.write("avg_reprojection_error", 0.31)
    file.release()
    assert read_camera(path) == lens(LENSES[1])


def test_a_ros_file(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 640\nimage_height: 480\ncamera_name: narrow  # a comment\n"
        "camera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [612.5, 0, 318.5,\n         0, 608.25, 243.75,\n         0, 0, 1]\n"
        "distortion_model: plumb_bob\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n"
        "  data:\n  - -0.28\n  - 0.09\n  - 0.001\n  - -0.0007\n  - -0.01\n"
    )
    assert read_camera(path) == lens(LENSES[1])
    path.write_text(path.read_text().replace("plumb_bob", "'rational_polynomial'"))
    assert read_camera(path) == lens(LENSES[1])
    for fisheye in ("equidistant", '"kannala_brandt4"'):
        path.write_text(re.sub("distortion_model: .*", f"distortion_model: {fisheye}",
                               path.read_text()))  # fmt: skip
        with pytest.raises(InputError, match=r"distortion_model .* is not supported; calibrate"):
            read_camera(path)


def test_plain_numbers(tmp_path):
    path = tmp_path / "camera.json"
    values = {"fx": 612.5, "fy": 608.25, "cx": 318.5, "cy": 243.75, "width": 640, "height": 480}
    path.write_text(json.dumps({"lens": values, "k1": -0.28, "k2": 0.09, "p1": 0.001}))
    assert read_camera(path) == lens((-0.28, 0.09, 0.001))
    path.write_text(json.dumps({"K": [[612.5, 0, 318.5], [0, 608.25, 243.75], [0, 0, 1]]}))
    assert read_camera(path).resized(640, 480) == lens(())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not readable JSON"),
        ("{}", "neither a camera_matrix nor fx"),
        ('{"fx": "wide", "fy": 1, "cx": 1, "cy": 1}', "fx is no number"),
        ('{"fx": NaN, "fy": 1, "cx": 1, "cy": 1}', "fx is no finite number"),
        ('{"fx": -600, "fy": 600, "cx": 320, "cy": 240}', "between 1 and"),
        ('{"fx": 600, "fy": 600, "cx": 320, "cy": 1e9, "width": 640, "height": 480}', "outside"),
        ('{"fx": 600, "fy": 600, "cx": 1, "cy": 1, "width": 1e99}', "image_width"),
        ('{"K": [1, 2]}', "2 numbers, not 9"),
        ('{"K": [600, 0, 320, 0, 600, 240, 0, 1, 1]}', "not \\[fx 0 cx"),
        ('{"K": [[600, 0, 320], [0, 600, 240], {}]}', "something else than numbers"),
        ("K: [600, 0, 320, 0, 600, .nan, 0, 0, 1]", "finite"),
        ("K: [600, 0, 320, 0, x, 240, 0, 0, 1]", "finite"),
        ("camera_matrix: [" + "1, " * 100, "100 numbers is none"),
        ("\0\0[[[", "neither"),
    ],
)
def test_untrusted_files_end_in_a_sentence(tmp_path, text, problem):
    path = tmp_path / "camera.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_camera(path)
    assert str(path) in str(caught.value)


def test_no_camera_file(tmp_path):
    with pytest.raises(InputError, match="no such camera file"):
        read_camera(tmp_path / "camera.yml")
    with pytest.raises(InputError, match="not readable"):
        read_camera(tmp_path)
    (tmp_path / "big.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(InputError, match="over 1 MB"):
        read_camera(tmp_path / "big.json")


def test_a_lens_that_folds_the_image_is_refused():
    with pytest.raises(InputError, match="fold its image"):
        lens((-3.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(InputError, match="over 8 distortion"):
        lens((0.1,) * 12)


def test_images_of_other_sizes():
    camera = lens(LENSES[1])
    half = camera.resized(320, 240)
    points = np.array([[30.0, 40.0], [600.0, 400.0]])
    assert np.allclose(half.rays(points / 2), camera.rays(points))
    with pytest.raises(InputError, match="640×480 pixels and the image has 1280×720"):
        camera.resized(1280, 720)


def test_a_head_that_looks_into_the_camera_faces_along_the_ray():
    rays = np.random.default_rng(1).normal(size=(40, 3)) * (1, 1, 0.2) + (0, 0, 1)
    turn = ray_rotation(rays)
    assert np.allclose(turn @ np.swapaxes(turn, -1, -2), np.eye(3))
    assert np.allclose(np.linalg.det(turn), 1)
    # The face's axis is the third column, in image axes; z points to the viewer there.
    face = turn[..., 2] * (1, 1, -1)
    assert np.allclose(face, -rays / np.linalg.norm(rays, axis=-1, keepdims=True))
    assert np.allclose(ray_rotation(np.array([0, 0, 2.0])), np.eye(3))


def test_signs_of_the_correction():
    """A head at the image's right that looks into the camera has turned its nose to the left."""
    right, below = np.array([1.0, 0, 1.0]), np.array([0, 1.0, 1.0])
    assert np.allclose(relative_to_camera(np.zeros(3), right), (45, 0, 0))
    assert np.allclose(relative_to_camera(np.zeros(3), below), (0, 45, 0))


def test_there_and_back():
    rng = np.random.default_rng(2)
    poses = rng.uniform((-170, -60, -60), (170, 60, 60), (100, 3))
    rays = np.concatenate([rng.uniform(-0.6, 0.6, (100, 2)), np.ones((100, 1))], 1)
    back = relative_to_ray(relative_to_camera(poses, rays), rays)
    assert geodesic_degrees(pose_to_matrix(back), pose_to_matrix(poses)).max() < 1e-6
