"""Where heads are, from their boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mlx_headpose import HeadPoseEstimator
from mlx_headpose.detection.finder import Detections
from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR, SurroundHeadDetector
from mlx_headpose.errors import InputError
from mlx_headpose.inference.detectors import BUNDLED_NAME, bounded, load_detector
from mlx_headpose.methods import build
from mlx_headpose.pose import pose_to_matrix
from mlx_headpose.space.intrinsics import Camera
from mlx_headpose.space.perspective import CAMERA_AXES, as_placed, ray_rotation, straightened
from mlx_headpose.space.position import (
    HEAD_SIZE,
    SHAPES,
    Ellipsoid,
    head_position,
    outline,
)
from mlx_headpose.synthetic.film import Actor, Film, facing_camera
from mlx_headpose.weights import load_network, save_pretrained

IMAGE_TO_CAMERA = (1, 1, -1)


def surface(shape, turn, place):
    """(4000, 3) points of an ellipsoid in camera axes, in mm."""
    direction = np.random.default_rng(0).normal(size=(4000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = direction * shape.axes + np.array([0, *shape.centre])
    return points @ turn.T * IMAGE_TO_CAMERA + place


@pytest.mark.parametrize("kind", SHAPES)
def test_the_outline_is_that_of_the_surface(kind):
    for pose, place in (((0, 0, 0), (0, 0, 600)), ((70, -20, 30), (300, -250, 900))):
        turn, place = pose_to_matrix(np.array(pose, float)), np.array(place, float)
        points = surface(SHAPES[kind], turn, place)
        flat = points[:, :2] / points[:, 2:]
        expected = np.concatenate([flat.min(0), flat.max(0)])
        size = expected[2:] - expected[:2]
        found = outline(SHAPES[kind], turn, place)
        assert np.abs((found - expected) / np.tile(size, 2)).max() < 0.01


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("distortion", [(0.0,), (-0.2, 0.05)])
def test_the_position_of_an_ellipsoid_is_found(kind, distortion):
    camera = Camera(600, 610, 330, 235, 640, 480, distortion)
    for place in ((0, 0, 0.3), (0.3, -0.1, 1.0), (-1.2, 0.5, 4.0)):
        seen = np.array([40.0, 20, -10])
        turn = pose_to_matrix(as_placed(seen, np.array(place)))
        left, top, right, bottom = outline(SHAPES[kind], turn, 1000 * np.array(place))
        x, y = (left + right) / 2, (top + bottom) / 2
        sides = camera.project(np.array([[left, y, 1], [x, top, 1], [right, y, 1], [x, bottom, 1]]))
        box = np.array([sides[0, 0], sides[1, 1], sides[2, 0], sides[3, 1]])
        found = head_position(box, seen, camera, kind)
        assert np.linalg.norm(found - place) < 0.01 * place[2]
        twice = head_position(box, seen, camera, kind, 2 * HEAD_SIZE)
        assert np.allclose(twice, 2 * found)


def test_boxes_that_no_head_has_give_finite_positions():
    camera = Camera.from_fov(60, 640, 480)
    boxes = np.array([[0, 0, 640, 480], [-9e3, -9e3, 9e3, 9e3], [5, 5, 5, 5], [0, 0, 1, 480.0]])
    for kind in SHAPES:
        assert np.isfinite(head_position(boxes, np.zeros((4, 3)), camera, kind)).all()


def test_rendered_people_of_one_size_are_where_they_are():
    camera = Camera.from_fov(65, 640, 480)
    rng = np.random.default_rng(3)
    errors = []
    for number in range(60):
        actor = Actor(number)
        pose = rng.uniform((-75, -35, -30), (75, 35, 30))
        spot = rng.uniform((0.2, 0.3), (0.8, 0.6)) * (640, 480)
        placed = facing_camera(pose, camera.rays(spot) * rng.uniform(0.4, 2))
        box = Film(camera, [actor]).box(placed, actor)
        found = head_position(box, placed.seen, camera, "heads", actor.head_size)
        errors.append(np.linalg.norm(found - placed.position) / np.linalg.norm(placed.position))
    assert np.median(errors) < 0.05
    assert np.percentile(errors, 95) < 0.12


def scene_of(rays):
    """(..., 3) directions → (..., 3) uint8: waves over the sphere of what a camera can see."""
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    waves = np.sin(40 * unit @ np.array([[1.0, 0.3, -0.6], [0.2, 1.0, 0.7], [0.4, -0.5, 1.0]]))
    return np.rint(127.5 + 100 * waves).astype(np.uint8)


def pixel_rays(camera, width, height):
    """(height, width, 3) directions of the middles of pixels."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return camera.rays(np.stack([x, y], -1))


def turned_towards(camera, box, inside):
    """The rotation, and the camera so turned, that see a box where a straightened image has it."""
    middle = (box[:2] + box[2:]) / 2
    turn = CAMERA_AXES @ ray_rotation(camera.rays(middle)) @ CAMERA_AXES
    left, right = (camera.rays(np.array([x, middle[1]])) @ turn for x in (box[0], box[2]))
    focal = (inside[2] - inside[0]) / (right[0] / right[2] - left[0] / left[2])
    top = camera.rays(np.array([middle[0], box[1]])) @ turn
    start = (inside[0] - focal * left[0] / left[2], inside[1] - focal * top[1] / top[2])
    return turn, Camera(focal, focal, *start)


@pytest.mark.parametrize("spot", [(560, 90), (60, 400), (600, 240)])
@pytest.mark.parametrize("size", [60, 500])
def test_a_straightened_image_is_that_of_a_turned_camera(spot, size):
    width, height = 640 * (size // 60), 480 * (size // 60)  # large heads are scaled down
    camera = Camera.from_fov(85, width, height)
    image = scene_of(pixel_rays(camera, width, height))
    middle = np.array(spot) * (size // 60)
    box = np.concatenate((middle - size / 2, middle + size / 2))
    straight, inside = straightened(image, box, camera)
    side = straight.shape[0]
    assert straight.shape == (side, side, 3)
    assert side <= 3 * 224 + 1
    assert (inside[:2] + inside[2:]) / 2 == pytest.approx([side / 2, side / 2], abs=1)
    turn, turned = turned_towards(camera, box, inside)
    wanted = scene_of(pixel_rays(turned, side, side) @ turn.T)
    seen = straight.any(-1)
    assert seen.mean() > 0.4
    difference = np.abs(straight[seen].astype(float) - wanted[seen])
    assert np.median(difference) < 3
    shifted = scene_of(pixel_rays(turned, side, side)).astype(float)
    assert np.median(np.abs(straight[seen] - shifted[seen])) > 20


@pytest.mark.parametrize("middle", [(544, 144), (595, 58)])
def test_heads_are_straightened_where_they_are_in_spite_of_distortion(middle):
    # Corners of the wider surroundings lie beyond the image, where the lens's polynomial folds.
    camera = Camera(536, 536, 342, 236, 640, 480, (-0.266, -0.039, 0.002, 0.0, 0.239, 0, 0, 0))
    image = scene_of(pixel_rays(camera, 640, 480))
    box = np.array([middle[0] - 90.0, middle[1] - 90, middle[0] + 90, middle[1] + 90])
    straight, inside = straightened(image, box, camera)
    left, top, right, bottom = (round(v) for v in inside)
    turn, turned = turned_towards(camera, box, inside)
    wanted = scene_of(pixel_rays(turned, *straight.shape[:2]) @ turn.T)[top:bottom, left:right]
    head = straight[top:bottom, left:right]
    seen = head.any(-1)
    assert seen.mean() > 0.4
    assert np.median(np.abs(head[seen].astype(float) - wanted[seen])) < 12


def test_near_the_axis_nothing_is_straightened():
    camera = Camera.from_fov(60, 640, 480)
    image, box = np.zeros((480, 640, 3), np.uint8), np.array([300.0, 220, 350, 270])
    straight, inside = straightened(image, box, camera)
    assert straight is image
    assert inside is box


def test_an_estimator_straightens_heads_if_it_knows_the_camera():
    actor = Actor(3)
    camera = Camera.from_fov(85, 640, 480)
    film = Film(camera, [actor], 3, supersampling=1.4)
    placed = facing_camera(np.array([20.0, 5, 0]), 0.7 * np.array([np.sin(0.5), 0, np.cos(0.5)]))
    image, box = film.frame([placed]), film.box(placed, actor, "face")
    read = []

    class Reading(HeadPoseEstimator):
        def _run(self, inputs):
            read.extend(inputs)
            return super()._run(inputs)

    for known in ({}, {"camera": camera}, {"camera": camera, "perspective": False}):
        Reading(**known)(image, boxes=[box])
    plain, straight, off = (value.astype(float) for value in read)
    assert np.abs(plain - straight).mean() > 3
    assert np.array_equal(plain, off)


def test_given_boxes_are_of_the_kind_that_the_detector_finds():
    """Crops and positions take them for the same."""
    image, box = np.full((200, 300, 3), 90, np.uint8), np.array([[100.0, 60, 160, 120]])
    plain = HeadPoseEstimator()
    ours = HeadPoseEstimator(model=plain.model, detector=load_detector(BUNDLED_NAME))
    for estimator, kind in ((plain, "faces"), (ours, "landmarks")):
        (head,) = estimator(image, boxes=box)
        crop = estimator.model.config.preprocessing.crop
        assert estimator.margins == crop.around_detected(kind)
        camera = estimator.camera_of((300, 200))
        shape = "faces" if estimator is plain else bounded(ours.detector)
        (place,) = head_position(box, head.pose[None], camera, shape, HEAD_SIZE)
        np.testing.assert_allclose(head.position, place)


def test_a_detector_may_know_what_its_boxes_bound(tmp_path):
    """Positions take that, also by boxes that a user gives: they are of what it finds."""
    model, box = load_network(BUNDLED_DETECTOR), np.array([100.0, 60, 160, 120])
    larger = (20.0, 35.0, 110.0, 110.0, 90.0, 0.3)
    for name, numbers in (("plain", ()), ("fitted", larger)):
        same = build(dataclasses.replace(model.config, outline=numbers))
        same.update(model.parameters())
        path = tmp_path / f"{name}.safetensors"
        save_pretrained(same, path)
        detector = load_detector(path)
        assert detector.outline == numbers
        detector.search = lambda images, *_: [Detections(box[None], np.ones(1)) for _ in images]
        estimator = HeadPoseEstimator(detector=detector)
        image = np.full((200, 300, 3), 90, np.uint8)
        for given in (True, False):
            (head,) = estimator(image, boxes=box[None]) if given else estimator(image)
            own = Ellipsoid((20.0, 35.0), (110.0, 110.0, 90.0), 0.3)
            kind = own if numbers else "landmarks"
            place = head_position(box, head.pose, estimator.camera_of((300, 200)), kind)
            np.testing.assert_allclose(head.position, place)


@pytest.mark.parametrize(
    "numbers",
    [
        (1.0,),
        (20, 35, 70, 70, -60, 0.5),
        (20, 35, 70, 70, 60, 2),
        (1e9, 35, 70, 70, 60, 0.5),
        (np.nan,) * 6,
    ],
)
def test_outlines_that_no_boxes_have(numbers):
    config = SurroundHeadDetector.from_pretrained().config
    with pytest.raises(InputError, match="outline"):
        dataclasses.replace(config, outline=numbers)


def test_another_camera_holds_for_sizes_that_were_seen_before():
    image, box = np.full((200, 300, 3), 90, np.uint8), np.array([100.0, 60, 160, 120])
    estimator = HeadPoseEstimator(camera=60)
    (near,) = estimator(image, boxes=[box])
    estimator.camera = 30
    (far,) = estimator(image, boxes=[box])
    assert far.position[2] > 1.8 * near.position[2]
    estimator.camera = Camera.from_fov(60, 300, 200)
    assert estimator(image, boxes=[box])[0] == near
    with pytest.raises(InputError, match="field of view"):
        estimator.camera = 200
    assert estimator.camera == Camera.from_fov(60, 300, 200)
