"""Rotation9D: nine numbers become the nearest rotation, and learn the full circle quickly."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bench.accuracy import calibrate, grow
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.methods.rotation9d.network import Config
from mlx_headpose.pose import nearest_rotation, pose_to_matrix
from mlx_headpose.weights import from_pretrained, preprocessor_config, save_pretrained, tensors_of


def by_svd(matrices):
    u, _, v = np.linalg.svd(matrices)
    return u @ v


def test_nearest_rotation_equals_the_svd():
    rng = np.random.default_rng(0)
    rotations = Rotation.random(200, random_state=rng).as_matrix()
    matrices = rng.uniform(0.2, 3, (200, 1, 1)) * rotations + 0.15 * rng.normal(size=(200, 3, 3))
    singular = np.linalg.svd(matrices, compute_uv=False)
    matrices = matrices[(np.linalg.det(matrices) > 0) & (singular[:, 2] > 0.03 * singular[:, 0])]
    assert len(matrices) > 150
    nearest = np.array(nearest_rotation(mx.array(matrices.astype(np.float32))))
    assert np.abs(nearest - by_svd(matrices)).max() < 1e-4


def test_nearest_rotation_never_mirrors():
    mirrored = mx.array(np.diag([1.0, 1, -1]).astype(np.float32))
    assert np.allclose(nearest_rotation(mirrored), np.eye(3), atol=1e-5)
    assert np.isfinite(np.array(nearest_rotation(mx.zeros((2, 3, 3))))).all()


def test_decodes_the_full_circle_and_knows_how_sure_it_is():
    model = build(Config())
    pose = np.array([[0, 0, 0], [179, 10, -5], [-120, -30, 20], [89, 5, 60]], np.float32)
    matrices = mx.array(np.asarray(pose_to_matrix(pose)))
    assert np.allclose(model.decode((0.7 * matrices,)), pose, atol=1e-3)
    assert np.allclose(model.head.confidence((0.7 * matrices,)), 0.7, atol=1e-5)
    assert model.loss((matrices,), mx.array(pose))[0].item() == pytest.approx(0.01, abs=1e-4)
    # The mean of a head and its back is no direction at all.
    opposite = mx.array(np.asarray(pose_to_matrix(pose + np.array([180, 0, 0], np.float32))))
    assert (model.head.confidence(((matrices + opposite) / 2,)) < 0.6).all()


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_learns_a_batch(arch):
    mx.random.seed(0)
    model = build(Config(preprocessing=Preprocessing(size=32), arch=arch, stages=2, width=32))
    images = mx.random.randint(0, 256, (8, 32, 32, 3)).astype(mx.uint8)
    poses = mx.random.uniform(-1, 1, (8, 3)) * mx.array([180.0, 40, 40])
    optimizer = optim.Adam(1e-3)
    step = nn.value_and_grad(model, lambda: model.loss(model(images), poses)[0])
    for _ in range(30):
        _, gradients = step()
        optimizer.update(model, gradients)
    assert model.loss(model(images), poses)[0].item() < 0.4  # √3 for one who answers 0


@pytest.mark.parametrize(
    "options",
    [{"stages": 5}, {"width": 0}, {"arch": "vgg"}, {"preprocessing": Preprocessing(size=60)}],
)
def test_refuses_impossible_measures(options):
    with pytest.raises(InputError):
        Config(**options)


def test_older_files_keep_their_fixed_mean_and_deviation():
    assert Config().preprocessing.standardize
    assert config_from_dict(Config().to_dict()).preprocessing.standardize
    older = Config().to_dict()
    del older["preprocessing"]["standardize"]
    assert not config_from_dict(older).preprocessing.standardize


def test_a_calibrated_confidence_is_a_chance_that_grows_with_the_length():
    plain = build(Config())
    config = Config(calibration=(-4.9, 1.6))
    assert config_from_dict(config.to_dict()) == config
    calibrated = build(config)
    turn = Rotation.from_euler("y", 30, degrees=True).as_matrix()
    outputs = (mx.array(np.linspace(0, 1.2, 25)[:, None, None] * turn),)
    length, chance = (np.array(m.confidence(outputs)) for m in (plain, calibrated))
    assert length == pytest.approx(np.minimum(np.linspace(0, 1.2, 25), 1), abs=1e-6)
    assert (np.diff(chance) >= 0).all()
    # sigmoid(-4.9 - 1.6 log(1.01 - length)) at lengths of 0 and 0.9.
    assert chance[0] == pytest.approx(1 / (1 + np.exp(4.9)), rel=0.03)
    wanted = 1 / (1 + np.exp(4.9 + 1.6 * np.log(0.11)))
    assert chance[18] == pytest.approx(wanted, rel=1e-4)
    of_numpy = calibrated.confidence((np.array(outputs[0], np.float64),))
    assert of_numpy == pytest.approx(chance, abs=1e-6)
    assert calibrated.head.min_confidence == pytest.approx(chance[6], abs=0.002)


def test_crops_without_a_head_pull_towards_the_zero_matrix():
    head = build(Config()).head
    poses = mx.array([[20.0, -10.0, 5.0], [float("nan")] * 3])
    outputs = mx.random.normal((2, 3, 3), key=mx.random.key(0))
    one, none = (float(head.loss((outputs[i : i + 1],), poses[i : i + 1])[0]) for i in range(2))
    assert none == pytest.approx(float(mx.linalg.norm(outputs[1])), rel=1e-4)
    assert float(head.loss((outputs,), poses)[0]) == pytest.approx((one + none) / 2, rel=1e-5)
    slopes = mx.grad(lambda o: head.loss((o,), poses)[0])(mx.zeros_like(outputs))
    assert np.isfinite(np.array(slopes)).all()
    assert not np.array(slopes[1]).any()
    alone = head.error((outputs[:1],), poses[:1])
    np.testing.assert_allclose(np.array(head.error((outputs,), poses)), np.array(alone), rtol=1e-5)
    assert not np.array(head.error((outputs[1:],), poses[1:])).any()


@pytest.mark.parametrize("calibration", [(1.0,), (1.0, float("nan")), (1.0, 2.0, 3.0)])
def test_impossible_calibrations_are_refused(calibration):
    with pytest.raises(InputError, match="calibration"):
        Config(calibration=calibration)


def test_other_programs_are_told_that_crops_are_standardized():
    fed = preprocessor_config(Config())
    assert (fed["do_normalize"], fed["standardize"]) == (False, True)
    fixed = Config(preprocessing=Preprocessing(size=64))
    assert preprocessor_config(fixed)["do_normalize"]
    assert not preprocessor_config(fixed)["standardize"]


def test_the_published_crop_is_the_middle_of_those_that_train():
    crop = Config().preprocessing.crop
    assert crop.test.k == crop.face.k == (0.2, 0.2)
    assert np.mean(crop.train.k) == pytest.approx(0.2)
    assert crop.train.factors == crop.test.factors


def test_averages_a_crop_with_its_mirror_image():
    plain = build(Config(preprocessing=Preprocessing(size=32), stages=2, width=32)).eval()
    both = build(dataclasses.replace(plain.config, mirrored=True)).eval()
    both.update(plain.parameters())
    images = mx.random.randint(0, 256, (3, 32, 32, 3), key=mx.random.key(1)).astype(mx.uint8)
    flipped = images[:, :, ::-1]
    mirror = np.diag([-1.0, 1, 1])
    (one,), (other,), (mean,) = plain(images), plain(flipped), both(images)
    assert np.allclose(mean, (np.array(one) + mirror @ np.array(other) @ mirror) / 2, atol=1e-6)
    yaw, pitch, roll = np.array(both.decode(both(images))).T
    assert np.allclose(both.decode(both(flipped)), np.stack([-yaw, pitch, -roll], 1), atol=1e-3)
    both.train()
    plain.train()
    assert np.allclose(both(images)[0], plain(images)[0], atol=1e-6)


SMALL = Config(preprocessing=Preprocessing(size=32), arch="mobilenetv2", stages=2, width=32)
SMALL_RESNET = dataclasses.replace(SMALL, arch="resnet18")


def test_an_average_takes_its_share_of_both_networks(tmp_path):
    model, earlier = build(SMALL), build(SMALL)
    save_pretrained(earlier, tmp_path / "earlier.safetensors")
    own, theirs = tensors_of(model), tensors_of(earlier)
    calibrate.average(model, tmp_path / "earlier.safetensors", 0.7)
    for name, value in tensors_of(model).items():
        assert mx.allclose(value, 0.7 * own[name] + 0.3 * theirs[name], atol=1e-6), name


@pytest.mark.parametrize(
    "other", [{"width": 64}, {"preprocessing": Preprocessing(size=64)}, {"arch": "resnet18"}]
)
def test_an_average_with_another_network_ends_in_one_sentence(tmp_path, capsys, monkeypatch, other):
    for name, config in (("new", SMALL), ("other", dataclasses.replace(SMALL, **other))):
        save_pretrained(build(config), tmp_path / f"{name}.safetensors")
    words = ["--snapshot", tmp_path / "new.safetensors", "--data_dir", tmp_path]
    words += ["--average", tmp_path / "other.safetensors"]
    monkeypatch.setattr("sys.argv", ["calibrate", *map(str, words)])
    with pytest.raises(SystemExit, match="2"):
        calibrate.main()
    *_, sentence = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'other.safetensors'}: does not fit the network: " in sentence


def test_a_larger_input_sees_what_the_smaller_one_saw(tmp_path):
    save_pretrained(build(SMALL_RESNET), tmp_path / "small.safetensors")
    small = from_pretrained(tmp_path / "small.safetensors")
    large, kept = grow.grown(tmp_path / "small.safetensors", 64, None)
    assert kept == len(tensors_of(large)) == len(tensors_of(small))
    features = mx.random.normal((2, 1, 1, 128), key=mx.random.key(3))
    (wanted,), (found,) = (
        model.head(mx.broadcast_to(features, (2, side, side, 128)))
        for model, side in ((small, 4), (large.eval(), 8))
    )
    assert mx.allclose(found, wanted, atol=1e-5)
    deeper, kept = grow.grown(tmp_path / "small.safetensors", None, 3)
    assert 0 < kept < len(tensors_of(deeper))
    with pytest.raises(InputError, match="no multiple of 8"):
        grow.grown(tmp_path / "small.safetensors", 60, None)
    save_pretrained(build(SMALL), tmp_path / "mobile.safetensors")
    with pytest.raises(InputError, match=r"mobile\.safetensors: only rotation9d networks"):
        grow.grown(tmp_path / "mobile.safetensors", None, 3)
