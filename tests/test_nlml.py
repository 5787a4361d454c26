"""NLML-HPE's networks against the published ones, and what the estimator promises."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_headpose.errors import InputError
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.methods.nlml.network import REFERENCE_POINTS, Config, normalize_landmarks
from mlx_headpose.methods.nlml_manifold import evaluate_cosines
from mlx_headpose.readers.torch_file import read_torch


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def published(shared: Path, seeded: ModuleType):
    """The published angle networks behind the seeded encoder."""
    tensors = {}
    for name, value in seeded.seeded_state_dict("nlml_encoder").items():
        _, index, leaf = name.split(".")
        tensors[f"backbone.layers.{int(index) // 2}.{leaf}"] = mx.array(value)
    for angle in ("yaw", "pitch", "roll"):
        path = shared / "weights" / "nlml" / f"{angle}_network.pth"
        for name, value in read_torch(path).items():
            _, index, leaf = name.split(".")
            tensors[f"head.{angle}.layers.{int(index) // 2}.{leaf}"] = mx.array(value)
    tensors["head.cosines"] = mx.zeros((3, 3, 4))
    model = build(Config())
    model.load_weights(list(tensors.items()))
    return model


def test_networks_compute_what_the_published_ones_do(shared, seeded):
    golden = read_npz(shared / "golden" / "nlml.npz")
    model = published(shared, seeded)
    for angle in ("yaw", "pitch", "roll"):
        output = np.array(getattr(model.head, angle)(mx.array(golden[f"{angle}_features"])))
        np.testing.assert_allclose(output, golden[f"{angle}_network_output_rad"], atol=1e-5)
    angles, factors = model(mx.array(golden["encoder_input"]))
    np.testing.assert_allclose(np.array(factors), golden["encoder_output"], atol=1e-4)
    np.testing.assert_allclose(np.array(angles), golden["combined_output_rad"], atol=1e-4)
    decoded = np.array(model.decode((angles, factors)))
    np.testing.assert_allclose(decoded, np.degrees(golden["combined_output_rad"]), atol=1e-2)


@pytest.mark.parametrize("count", sorted(REFERENCE_POINTS))
@pytest.mark.parametrize("normalization", ["nose", "centroid"])
def test_place_and_size_of_a_face_do_not_matter(count, normalization):
    points = np.random.default_rng(0).normal(size=(2, count, 3)).astype(np.float32)
    here = normalize_landmarks(mx.array(points), normalization)
    there = normalize_landmarks(mx.array(points * 37.5 + np.float32([400, -20, 7])), normalization)
    assert here.shape == (2, 3 * count)
    np.testing.assert_allclose(np.array(here), np.array(there), atol=1e-3)


def test_nose_is_the_origin_eye_corners_are_one_apart_and_depth_points_away():
    points = np.random.default_rng(1).normal(size=(1, 468, 3)).astype(np.float32)
    got = np.array(normalize_landmarks(mx.array(points), "nose")).reshape(468, 3)
    np.testing.assert_allclose(got[1], 0, atol=1e-6)
    assert np.linalg.norm(got[33] - got[263]) == pytest.approx(1, abs=1e-5)
    step = points[0, 10] - points[0, 1]
    size = np.linalg.norm(points[0, 33] - points[0, 263])
    np.testing.assert_allclose(got[10], step * [1, 1, -1] / size, atol=1e-5)


def test_a_face_of_one_point_gives_no_nan():
    assert np.isfinite(np.array(normalize_landmarks(mx.ones((1, 68, 3)), "nose"))).all()


def test_loss_is_zero_only_where_factors_and_angles_are_right():
    head = build(Config(landmarks=68)).head
    head.cosines = mx.random.normal((3, 3, 4))
    pose = mx.array([[10.0, -20.0, 5.0], [40.0, 0.0, -30.0]])
    radians = np.radians(np.array(pose))
    factors = np.concatenate(
        [evaluate_cosines(np.array(head.cosines)[k], radians[:, k]) for k in range(3)], axis=1
    )
    right = (mx.array(radians), mx.array(factors.astype(np.float32)))
    assert head.loss(right, pose)[0].item() < 1e-10
    for wrong in ((right[0] + 0.1, right[1]), (right[0], right[1] + 0.1)):
        loss, parts = head.loss(wrong, pose)
        assert loss.item() == pytest.approx(0.01, rel=1e-3)
        assert set(parts) == {"factors", "angles"}


def test_cosines_are_saved_but_not_trained():
    model = build(Config(landmarks=68))
    assert "head.cosines" in dict(tree_flatten(model.parameters()))
    assert "head.cosines" not in dict(tree_flatten(model.trainable_parameters()))


def test_config_survives_json_and_refuses_nonsense():
    config = Config(landmarks=68, normalization="centroid")
    assert config_from_dict(config.to_dict()) == config
    with pytest.raises(InputError):
        Config(landmarks=5)
    with pytest.raises(InputError):
        Config(normalization="minmax")
