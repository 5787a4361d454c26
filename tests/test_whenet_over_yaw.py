"""Errors by band of yaw and as a curve, and the test command that reports them."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from support.commands import run

from mlx_headpose.core.crop import AROUND_HEAD
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.evaluation.over_yaw import draw_error_curve, error_curve, errors_by_band
from mlx_headpose.methods import build
from mlx_headpose.methods.whenet.network import Config
from mlx_headpose.weights import save_pretrained


@pytest.fixture
def ring():
    """Poses on a ring, and predictions that are wrong by 1°, 2° and 4° in the three bands."""
    poses = np.zeros((360, 3))
    poses[:, 0] = np.arange(-180, 180)
    turned = np.abs(poses[:, 0])
    predictions = poses.copy()
    predictions[:, 0] += np.select([turned < 60, turned < 120], [1, 2], 4)
    predictions[predictions > 180] -= 360
    return predictions, poses


def test_bands(ring):
    bands = errors_by_band(*ring)
    assert {name: band["yaw"] for name, band in bands.items()} == {"front": 1, "side": 2, "back": 4}
    assert {name: band["used"] for name, band in bands.items()} == {
        "front": 119,
        "side": 120,
        "back": 121,
    }
    assert bands["back"]["pitch"] == 0


def test_bands_without_samples_are_left_out():
    poses = np.array([[180.0, 0, 0], [-180, 0, 0]])
    assert list(errors_by_band(poses, poses)) == ["back"]


def test_bands_of_sets_up_to_profile_views_are_the_fields():
    poses = np.array([[0.0, 0, 0], [-29, 0, 0], [30, 0, 0], [-60, 0, 0], [99, 0, 0]])
    bands = errors_by_band(poses + 1, poses)
    used = {name: band["used"] for name, band in bands.items()}
    assert used == {"yaw 0-30": 2, "yaw 30-60": 1, "yaw 60-99": 2}


def test_curve(ring):
    centres, errors = error_curve(*ring)
    assert centres[0] == -172.5
    assert errors.shape == (24, 3)
    assert errors[0, 0] == 4
    assert errors[12, 0] == 1
    _, errors = error_curve(ring[0][:5], ring[1][:5])
    assert np.isnan(errors[1:]).all()


def test_picture(ring, tmp_path):
    pytest.importorskip("matplotlib")
    draw_error_curve(*ring, tmp_path / "curve.png", "ring")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 400
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 5


def test_command_reports_bands_and_draws(shared, tmp_path):
    mx.random.seed(0)
    preprocessing = Preprocessing(size=64, resize="squash", crop=AROUND_HEAD)
    save_pretrained(build(Config(preprocessing=preprocessing)), tmp_path / "w.safetensors")
    done = run(
        *("test.py", "--dataset", "panoptic", "--data_dir", shared / "data" / "panoptic"),
        *("--snapshot", "w.safetensors", "--json", "report.json", "--curve", "curve.png"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["used"] == 3
    assert sum(report["dropped"].values()) == 1
    assert {name: band["used"] for name, band in report["bands"].items()} == {"front": 1, "back": 2}
    assert "back      2 images" in done.stdout
    assert (tmp_path / "curve.png").stat().st_size > 1000
