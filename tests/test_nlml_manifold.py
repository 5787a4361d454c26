"""Decomposition, cosine fits and search, against TensorLy, scipy and the published answers."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from test_nlml import read_npz

from mlx_headpose.errors import InputError
from mlx_headpose.methods.nlml_manifold import (
    ANGLES,
    Manifold,
    evaluate_cosines,
    fit_cosines,
    fit_manifold,
    search_batch,
    search_powell,
    tucker,
)
from mlx_headpose.methods.nlml_manifold.fitted import Config, build
from mlx_headpose.pose import pose_to_matrix

GRID = {
    "yaw": np.arange(-50.0, 51, 10),
    "pitch": np.arange(-40.0, 41, 10),
    "roll": np.arange(-30.0, 31, 10),
}


def turned(shapes: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(I, L, 3) shapes, (..., 3) poses in degrees → (I, ..., 3·L)."""
    points = np.einsum("...ab,ilb->i...la", pose_to_matrix(poses), shapes)
    return points.reshape(*points.shape[:-2], -1)


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    """Twelve faces that differ in four ways."""
    rng = np.random.default_rng(0)
    mean, modes = rng.normal(size=(20, 3)), 0.1 * rng.normal(size=(4, 20, 3))
    return mean + np.einsum("nk,klc->nlc", rng.normal(size=(12, 4)), modes)


@pytest.fixture(scope="module")
def tensor(shapes) -> np.ndarray:
    poses = np.stack(np.meshgrid(*GRID.values(), indexing="ij"), axis=-1)
    return turned(shapes, poses)


@pytest.fixture(scope="module")
def manifold(tensor) -> Manifold:
    return fit_manifold(tensor, GRID)


def test_decomposition_is_as_good_as_tensorly(tensor):
    decomposition = pytest.importorskip("tensorly.decomposition", reason="needs tensorly")
    noisy = tensor + 0.05 * np.random.default_rng(1).normal(size=tensor.shape)
    ranks = (4, 2, 3, 2)
    core, factors = tucker(noisy, ranks)
    (their_core, their_factors), _ = decomposition.partial_tucker(
        noisy, rank=list(ranks), modes=[0, 1, 2, 3], n_iter_max=100, tol=1e-10
    )
    for mine, theirs in zip(factors, their_factors, strict=True):
        np.testing.assert_allclose(mine.T @ mine, np.eye(mine.shape[1]), atol=1e-10)
        # The same space, whatever signs and order its columns have.
        np.testing.assert_allclose(mine @ mine.T, theirs @ theirs.T, atol=1e-4)
    assert np.linalg.norm(core) == pytest.approx(np.linalg.norm(their_core), rel=1e-8)


def test_two_decompositions_agree_in_sign_and_order(tensor):
    ranks = (5, 3, 3, 3)
    core, factors = tucker(tensor, ranks)
    again, rows = tucker(tensor[:, ::-1].copy(), ranks)  # the yaws in the opposite order
    np.testing.assert_allclose(np.abs(factors[1]), np.abs(rows[1][::-1]), atol=1e-8)
    for factor in factors[1:]:
        assert (factor[-1] > 0).all()
    norms = [np.linalg.norm(core[:, k]) for k in range(3)]
    assert norms == sorted(norms, reverse=True)
    np.testing.assert_allclose(np.abs(core), np.abs(again), atol=1e-6 * np.abs(core).max())


def test_turning_heads_make_exact_cosines(manifold):
    """Rotated points are linear in 1, cos and sin of each angle, so every factor has b = 1."""
    for k, name in enumerate(ANGLES):
        fitted = evaluate_cosines(manifold.cosines[k], np.radians(GRID[name]))
        np.testing.assert_allclose(fitted, manifold.factors[name], atol=1e-6)
    np.testing.assert_allclose(manifold.cosines[..., 1], 1, atol=1e-3)


def test_fit_finds_noisy_cosines_and_fixes_their_form():
    angles = np.radians(GRID["yaw"])
    truth = np.array([[0.4, 1.3, 0.5, -0.1], [0.3, 0.7, -1.2, 0.2], [0.5, 2.0, 3.0, 0.0]])
    flipped = truth * [-1, 1, 1, 1] + [0, 0, np.pi, 0]  # the same curves, written differently
    noise = 1e-4 * np.random.default_rng(0).normal(size=(len(angles), 3))
    fits = [fit_cosines(evaluate_cosines(p, angles) + noise, angles) for p in (truth, flipped)]
    np.testing.assert_allclose(fits[0], fits[1], atol=1e-8)
    np.testing.assert_allclose(fits[0], truth, atol=0.02)


def test_reconstruction_is_the_sum_of_the_paper(manifold, tensor):
    identity = manifold.factors["identity"]
    for i, j, k, m in [(0, 0, 0, 0), (3, 10, 8, 6), (11, 5, 4, 3)]:
        pose = np.radians([GRID["yaw"][j], GRID["pitch"][k], GRID["roll"][m]])
        face = manifold.reconstruct(pose, identity[i])
        np.testing.assert_allclose(face, tensor[i, j, k, m], atol=1e-5)
    both = manifold.reconstruct(np.zeros((2, 3)), identity[:2])
    np.testing.assert_allclose(both[1], manifold.reconstruct(np.zeros(3), identity[1]))


@pytest.mark.parametrize("search", [search_powell, search_batch])
def test_search_finds_poses_between_the_angles_of_the_grid(manifold, shapes, search):
    rng = np.random.default_rng(2)
    poses = rng.uniform([-48, -38, -28], [48, 38, 28], size=(6, 3))
    faces = np.stack([turned(shapes[i : i + 1], poses[i])[0] for i in range(6)])
    found, identity = search(manifold, faces)
    np.testing.assert_allclose(found, poses, atol=0.02)
    np.testing.assert_allclose(manifold.reconstruct(np.radians(found), identity), faces, atol=0.01)


def test_search_of_one_face_returns_one_pose(manifold, shapes):
    pose, identity = search_powell(manifold, turned(shapes[:1], np.array([20.0, 10, -5]))[0])
    assert pose.shape == (3,)
    assert identity.shape == (5,)


@pytest.mark.parametrize("search", [search_powell, search_batch])
def test_landmarks_that_are_no_numbers_have_no_pose(manifold, shapes, search):
    faces = np.repeat(turned(shapes[:1], np.array([20.0, 10, -5])), 3, axis=0)
    faces[1, 7], faces[2] = np.nan, np.inf
    found, _ = search(manifold, faces)
    np.testing.assert_allclose(found[0], [20, 10, -5], atol=0.02)
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda core: core * 0, "look alike from the front"),
        (lambda core: core[[0, 0, 1, 2, 3]], "look alike from the front"),
        (lambda core: np.where(core == core.max(), np.nan, core), "holds what is no number"),
    ],
    ids=["zero", "twice", "nan"],
)
@pytest.mark.parametrize("search", [search_powell, search_batch])
def test_a_manifold_that_cannot_be_searched_is_refused(manifold, search, changed, message):
    broken = Manifold(changed(manifold.core), manifold.cosines)
    with pytest.raises(InputError, match=message):
        search(broken, np.ones((2, 60)))


@pytest.mark.parametrize(
    "values",
    [
        {"ranks": (0, 3, 3, 3)},
        {"ranks": (5, 3, 2, 3)},
        {"ranks": (5, 3, 3), "rows": (0, 0, 0, 0, 0)},
        {"ranks": (True, 3, 3, 3)},
        {"limits": ("a", "b", "c")},
        {"limits": (50.0, float("nan"), 30.0)},
        {"limits": (50.0, 40.0)},
    ],
)
def test_impossible_manifolds_are_refused(values):
    with pytest.raises(InputError, match="a manifold"):
        Config(**values)


@pytest.mark.parametrize("form", ["mlxfn", "onnx", "coreml"])
def test_a_manifold_is_not_exported(tmp_path, form):
    pytest.importorskip({"coreml": "coremltools", "onnx": "onnx"}.get(form, "mlx"))
    export = getattr(import_module(f"mlx_headpose.export.{form}"), f"export_{form}")
    model = build(Config(landmarks=68))
    with pytest.raises(InputError, match=r"net: nlml_manifold searches for the pose"):
        export(model, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_powell_gives_the_published_answers(shared):
    data = read_npz(shared / "weights" / "nlml" / "Trained_data.npz")
    cosines = np.stack([data[f"optimized_{name}"] for name in ANGLES])
    manifold = Manifold(data["W"], cosines, {}, {})
    golden = read_npz(shared / "golden" / "nlml.npz")
    answers = golden["manifold_powell_yaw_pitch_roll_deg"]
    found, identity = search_powell(manifold, golden["manifold_landmarks"])
    np.testing.assert_allclose(found, answers, atol=0.01)
    together, together_identity = search_batch(manifold, golden["manifold_landmarks"])
    np.testing.assert_allclose(together, answers, atol=0.01)
    np.testing.assert_allclose(together_identity, identity, atol=1e-4)
