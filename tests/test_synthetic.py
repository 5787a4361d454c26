"""Synthetic heads: repeatable, exactly posed, boxed as the published sets are."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_headpose.core.crop import AROUND_HEAD
from mlx_headpose.data import open_dataset
from mlx_headpose.pose import matrix_to_pose, pose_to_matrix
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.builtin.landmarks import mirrored
from mlx_headpose.synthetic.builtin.people import points_68, points_468
from mlx_headpose.synthetic.builtin.shape import EXPRESSIONS, SHAPES
from mlx_headpose.synthetic.dataset import HEAD
from mlx_headpose.synthetic.material import Material
from mlx_headpose.synthetic.rasterize import Camera, rasterize


@pytest.fixture(scope="module")
def heads() -> SyntheticHeads:
    return SyntheticHeads(40, "val", size=64)


def pixels(heads: SyntheticHeads, index: int) -> np.ndarray:
    return np.asarray(heads.image(index))


def test_a_sample_is_the_same_in_any_order_and_in_a_set_of_any_length(heads):
    first = [pixels(heads, i) for i in (3, 0, 7)]
    longer = SyntheticHeads(60, "val", size=64)
    again = [pixels(longer, i) for i in (7, 0, 3)][::-1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(heads.poses, longer.poses[:40])
    np.testing.assert_allclose(heads.boxes, longer.boxes[:40], atol=1e-3)


def test_selected_samples_keep_what_they_show(heads):
    chosen = SyntheticHeads(40, "val", size=64)
    chosen.select(np.arange(40) % 7 == 3)
    np.testing.assert_array_equal(pixels(chosen, 1), pixels(heads, 10))
    np.testing.assert_array_equal(chosen.landmarks(1), heads.landmarks(10))


def test_splits_and_seeds_share_no_person(heads):
    train = SyntheticHeads(40, "train", size=64)
    other = SyntheticHeads(40, "val", seed=1, size=64)
    shapes = np.concatenate([set_.people.shapes for set_ in (heads, train, other)])
    assert len(np.unique(shapes, axis=0)) == 120
    assert not np.array_equal(heads.people.person(0).skin, train.people.person(0).skin)
    assert not np.array_equal(heads.poses, train.poses)


def test_landmarks_are_the_frontal_head_turned_by_its_pose(heads):
    frontal = heads.frontal_landmarks(5)
    pose = np.array([[0, 0, 0], [30, -20, 10], [-170, 15, -25]], np.float32)
    turned = heads.landmarks_of(5, pose)
    assert turned.shape == (3, 468, 3)
    np.testing.assert_allclose(turned[0], frontal, atol=1e-4)
    for p, points in zip(pose, turned, strict=True):
        np.testing.assert_allclose(points, frontal @ pose_to_matrix(p).T, atol=1e-3)


def test_signs():
    tip = points_468().rest[1]
    for pose, axis, sign in (((30, 0, 0), 0, -1), ((0, 30, 0), 1, -1)):
        moved = pose_to_matrix(np.array(pose, float)) @ tip
        assert np.sign(moved[axis] - tip[axis]) == sign, "left and up are positive yaw and pitch"
    right_eye = points_468().rest[263]
    rolled = pose_to_matrix(np.array((0.0, 0, 30))) @ right_eye
    assert rolled[1] > right_eye[1], "positive roll turns the head clockwise"


def test_landmarks_mirror_in_pairs_and_are_distinct():
    points = points_468().rest
    np.testing.assert_allclose(points[mirrored()] * (-1, 1, 1), points, atol=1e-3)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(468)
    assert apart.min() > 0.5
    assert points[1, 2] > points[:, 2].max() - 2.5, "the nose tip is foremost"
    assert points[152, 1] == points[:, 1].max()
    assert points[33, 0] < points[133, 0] < 0 < points[362, 0] < points[263, 0]
    assert points[10, 1] < points[9, 1] < points[1, 1] < points[13, 1] < points[17, 1]


@pytest.mark.parametrize("pose", [(0, 0, 0), (35, 0, 0), (-35, 20, 0), (0, -25, 30), (60, 10, -20)])
def test_the_surface_is_drawn_where_the_landmarks_are(heads, pose):
    """What the picture shows of the nose lies at landmark 1, projected by hand."""
    side = 512
    for index in (0, 5):
        pose, rng = np.array(pose, np.float32), np.random.default_rng(0)
        mesh = heads.people.scene(index, pose, rng).mesh(rng)
        camera = heads.people.cameras[index].sized(side)
        found = rasterize(camera.project(mesh.vertices), mesh.triangles, side, side)
        x, y = found.interpolate(mesh.attributes[:, 7:9]).T
        nose = (mesh.material[found.corners[0]] == Material.SKIN) & (np.hypot(x, y - 39) < 3)
        seen = np.stack((found.pixel[nose] % side + 0.5, found.pixel[nose] // side + 0.5), -1)
        assert len(seen) > 2
        people = heads.people
        tip = points_468().of(people.shapes[index], people.expressions[index])[1]
        tip = pose_to_matrix(pose.astype(float)) @ tip
        near = camera.distance / (camera.distance - tip[2])
        at = tip[:2] * near * camera.scale + camera.centre
        np.testing.assert_allclose(seen.mean(axis=0), at, atol=5)


def test_the_head_alone_turns_with_the_pose(heads):
    """Hair, light and shoulders are drawn without the pose: the chest stays, the head turns."""
    meshes = []
    for yaw in (-60, 60):
        rng = np.random.default_rng(1)
        meshes.append(heads.people.scene(4, np.array((yaw, 0, 0), np.float32), rng).mesh(rng))
    joint = [np.array(m.vertices[m.material == Material.NECK]) for m in meshes]
    chest = [points - points[-41:].mean(axis=0) for points in joint]
    np.testing.assert_allclose(chest[0][-160:], chest[1][-160:], atol=0.1)
    heads_ = [m.vertices[m.material == Material.SKIN] for m in meshes]
    assert np.abs(heads_[0] - heads_[1]).max() > 80


def test_boxes_are_those_of_the_68_landmarks_and_of_the_whole_head(heads):
    exact = SyntheticHeads(40, "val", size=64, jitter=0)
    index = 11
    people, camera = exact.people, exact.people.cameras[index]
    points = points_68().of(people.shapes[index], people.expressions[index])
    points = points @ pose_to_matrix(people.poses[index].astype(float)).T
    near = camera.distance / (camera.distance - points[:, 2])
    flat = points[:, :2] * near[:, None] * camera.scale + camera.centre
    expected = np.concatenate((flat.min(axis=0), flat.max(axis=0))) * 64
    np.testing.assert_allclose(exact.boxes[index], expected, atol=0.01)
    whole = SyntheticHeads(40, "val", size=64, jitter=0, around=HEAD)
    assert (whole.boxes[:, :2] < exact.boxes[:, :2] + 1).all()
    assert (whole.boxes[:, 2:] > exact.boxes[:, 2:] - 1).all()


def test_poses_fill_the_validation_ranges_and_the_full_circle():
    poses = open_dataset("synthetic", train=False).poses
    assert len(poses) == 1000
    np.testing.assert_allclose(np.abs(poses).max(axis=0), (75, 40, 40), atol=1.5)
    np.testing.assert_allclose(poses.std(axis=0), np.array((75, 40, 40)) / 3**0.5, rtol=0.06)
    circle = open_dataset("synthetic", train=True, crop=AROUND_HEAD, samples=2000).poses[:, 0]
    assert np.histogram(circle, 12, (-180, 180))[0].min() > 100


def test_looks_and_box_tell_nothing_of_the_pose():
    heads = SyntheticHeads(4000, "val", jitter=0.05)
    exact = SyntheticHeads(4000, "val", jitter=0)
    jitter = heads.boxes - exact.boxes
    cameras = heads.people.cameras
    around = np.concatenate((jitter, cameras.shifts, cameras.scales[:, None]), axis=1)
    together = np.corrcoef(np.concatenate((heads.poses, around), axis=1).T)[:3, 3:]
    assert np.abs(together).max() < 0.06


def test_a_kept_image_is_the_rendered_one():
    heads = SyntheticHeads(2, "val", size=32)
    first, kept = heads.image(1), heads.image(1)
    assert np.array_equal(first, kept)
    assert np.array_equal(kept, SyntheticHeads(2, "val", size=32).image(1))


def test_pictures_are_varied_and_not_flat(heads):
    pictures = np.stack([pixels(heads, i) for i in range(8)]).astype(float)
    assert pictures.shape == (8, 64, 64, 3)
    assert (pictures.std(axis=(1, 2)).mean(axis=-1) > 8).all()
    assert pictures.mean(axis=(1, 2)).std() > 8


def test_shapes_and_expressions_move_the_landmarks_they_name():
    def moved(kind: str, names: tuple[str, ...], name: str) -> np.ndarray:
        weights = np.zeros(len(names), np.float32)
        weights[names.index(name)] = 1
        points = points_468()
        zero = np.zeros(len(SHAPES), np.float32)
        if kind == "shape":
            return points.of(weights) - points.rest
        return points.of(zero, weights) - points.rest

    assert moved("shape", SHAPES, "nose_projection")[1, 2] > 2
    assert moved("shape", SHAPES, "mouth_width")[291, 0] > 1
    opened = moved("expression", EXPRESSIONS, "mouth_open")
    assert opened[17, 1] > 10
    assert abs(opened[0, 1]) < 1


def test_rasterizer_keeps_the_nearest_front_and_interpolates():
    camera = Camera(distance=10.0, scale=4.0, centre=(8.0, 8.0))
    square = np.array([[-1, -1, 0], [-1, 1, 0], [1, -1, 0], [1, 1, 0]], np.float32)
    near = square * (0.5, 0.5, 1) + (0, 0, 1)
    vertices = np.concatenate((square, near)).astype(np.float32)
    faces = np.array([[0, 2], [1, 1], [2, 3]])
    triangles = np.concatenate((faces, faces + 4), axis=1)
    found = rasterize(camera.project(vertices), triangles, 16, 16)
    assert len(found.pixel) == 64, "8 × 8 pixels, each once"
    depth = found.interpolate(vertices)[:, 2].reshape(8, 8)
    assert (depth[2:6, 2:6] > 0.99).all()
    assert (depth[0] < 0.01).all()
    column = (found.pixel % 16 + 0.5 - 8) / 4
    at = found.interpolate(vertices)
    seen = at[:, 0] * 10 / (10 - at[:, 2])
    np.testing.assert_allclose(seen, column, atol=1e-4)
    away = rasterize(camera.project(vertices), triangles[::-1], 16, 16)
    assert len(away.pixel) == 0, "backs are not drawn"


def test_heads_at_pose_zero_look_where_those_of_aflw2000_do(shared):
    """Real landmarks, turned back by their poses, are our face at pose 0 but for a few degrees."""
    folder = shared / "data" / "AFLW2000"
    names = folder / "aflw2000_list.txt"
    real = open_dataset("AFLW2000", folder, names)
    turns = pose_to_matrix(real.poses.astype(float))
    features = slice(17, 68)
    shapes = []
    for index in range(0, len(real), 40):
        points = real.landmarks(index)[features].astype(float) @ turns[index]
        points -= points.mean(axis=0)
        shapes.append(points / np.linalg.norm(points))
    ours = points_68().rest[features].astype(float)
    ours -= ours.mean(axis=0)
    ours /= np.linalg.norm(ours)
    left, scale, right = np.linalg.svd(np.mean(shapes, axis=0).T @ ours)
    assert np.linalg.det(left @ right) > 0
    yaw, pitch, roll = matrix_to_pose(left @ right)
    assert abs(yaw) < 1
    assert abs(pitch) < 4
    assert abs(roll) < 1
    assert scale.sum() > 0.97, "and has its proportions"
