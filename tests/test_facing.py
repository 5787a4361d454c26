"""Zones that heads face."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.facing import follow as follow_looks
from bench.accuracy.facing import looks, noisy, zero_error
from mlx_headpose.errors import InputError
from mlx_headpose.space.facing import Attention, Cone, Rectangle, face_axis, read_zones
from mlx_headpose.space.perspective import relative_to_camera

AHEAD = np.array([0.0, 0, 0.8])
# A laptop's screen of 32 × 20 cm, whose camera sits above its middle.
SCREEN = Rectangle("screen", (0.16, 0.01, 0), (-0.32, 0, 0), (0, 0.2, 0))


def test_signs_of_the_face_axis():
    """Yaw 30° points to the image's left, pitch 20° up; the camera's z axis points away from it."""
    assert np.allclose(face_axis(np.zeros(3)), (0, 0, -1))
    assert np.allclose(face_axis(np.array([30.0, 0, 0])), (-0.5, 0, -np.sqrt(0.75)))
    assert face_axis(np.array([0.0, 20, 0]))[1] < 0


def test_degrees_outside_of_a_rectangle():
    towards_middle = -np.degrees(np.arctan2(0.11, 0.8))
    inside = SCREEN.outside(AHEAD, face_axis(np.array([0.0, towards_middle, 0])))
    assert inside == pytest.approx(-np.degrees(np.arctan2(0.1, np.hypot(0.8, 0.11))), abs=0.2)
    right = np.degrees(np.arctan2(0.16, np.hypot(0.8, 0.11)))
    for yaw in (-30, 30):
        axis = face_axis(np.array([yaw, towards_middle, 0.0]))
        assert SCREEN.outside(AHEAD, axis) == pytest.approx(30 - right, abs=1.0)
    assert SCREEN.outside(AHEAD, face_axis(np.array([180.0, 0, 0]))) > 150
    assert SCREEN.outside(AHEAD, np.array([0.0, 1, 0])) > 60  # along its plane


def test_degrees_outside_of_a_cone():
    cone = Cone("left", 10, direction=(-1, 0, 0))
    assert cone.outside(AHEAD, face_axis(np.array([90.0, 0, 0]))) == pytest.approx(-10)
    assert cone.outside(AHEAD, face_axis(np.array([60.0, 0, 0]))) == pytest.approx(20)
    camera = Cone("camera", 5, point=(0, 0, 0))
    for place in (AHEAD, np.array([0.5, 0.2, 1])):
        pose = relative_to_camera(np.zeros(3), place)
        assert camera.outside(place, face_axis(pose)) == pytest.approx(-5)


def follow(zones, yaws, dt=1 / 30):
    attention = Attention()
    return [attention.update(zones, AHEAD, np.array([y, 0.0, 0.0]), dt) for y in yaws], attention


def test_hysteresis_and_dwell():
    zone = Cone("ahead", 10, point=(0, 0, 0), enter=-1, leave=2, dwell=0.2)
    names, attention = follow([zone], [0] * 10 + [11.5] * 20 + [12.5] * 4 + [0] * 10 + [13] * 20)
    assert names[5] is None
    assert names[7:40] == ["ahead"] * 33  # neither 11.5° nor four frames at 12.5° leave it
    assert names[-1] is None
    assert attention.changes == 2
    assert attention.seconds["ahead"] + attention.seconds[""] == pytest.approx(64 / 30)
    assert follow([zone], [9.5] * 60)[1].changes == 0  # inside, but not by a degree


def test_from_one_zone_into_the_next():
    left = Cone("left", 20, direction=(-0.5, 0, -0.8), dwell=0)
    right = Cone("right", 20, direction=(0.5, 0, -0.8), dwell=0)
    names, attention = follow([left, right], np.linspace(60, -60, 90))
    assert attention.changes == 4
    changes = [a for a, b in pairwise(names) if a != b]
    assert changes[:2] == [None, "left"]
    assert "right" in names


def test_of_overlapping_zones_the_deeper_one():
    wide, narrow = Cone("wide", 40, point=(0, 0, 0)), Cone("narrow", 10, point=(0, 0, 0))
    names, _ = follow([narrow, wide], [0] * 30)
    assert names[-1] == "wide"


def test_files(tmp_path):
    zones = [
        {"name": "screen", "corner": [0.16, 0.01, 0], "right": [-0.32, 0, 0], "down": [0, 0.2, 0]},
        {"name": "door", "radius": 15, "direction": [1, 0, -1], "dwell": 1},
    ]
    (tmp_path / "zones.json").write_text(json.dumps({"zone": zones}))
    found = read_zones(tmp_path / "zones.json")
    assert found == [SCREEN, Cone("door", 15.0, (1, 0, -1), dwell=1.0)]
    if sys.version_info >= (3, 11):
        (tmp_path / "zones.toml").write_text(
            '[[zone]]\nname = "screen"\ncorner = [0.16, 0.01, 0]\nright = [-0.32, 0, 0]\n'
            'down = [0, 0.2, 0]\n[[zone]]\nname = "door"\nradius = 15\ndirection = [1, 0, -1]\n'
            "dwell = 1\n"
        )
        assert read_zones(tmp_path / "zones.toml") == found


@pytest.mark.parametrize(
    ("zone", "problem"),
    [
        ({}, "no list `zone`"),
        ([1], "no table"),
        ([{"radius": 3}], "no name"),
        ([{"name": "a", "radius": 3}], "either a direction or a point"),
        ([{"name": "a", "radius": 300, "point": [0, 0, 0]}], "between 0° and 180°"),
        ([{"name": "a", "radius": 3, "direction": [0, 0, 0]}], "no length"),
        ([{"name": "a", "radius": 3, "point": [0, 0]}], "three numbers"),
        ([{"name": "a", "radius": "x", "point": [0, 0, 0]}], "radius is no number"),
        ([{"name": "a", "radius": 3, "point": [0, 0, 1e99]}], "point is no number"),
        ([{"name": "a", "radius": 3, "point": [0, 0, 0], "enter": 5}], "enter ≤ leave"),
        ([{"name": "a", "corner": [0, 0, 0], "right": [1, 0, 0], "down": [1, 0, 0]}], "sides of"),
        ([{"name": "a", "corner": [0, 0, 0], "right": [1, 0, 0], "up": [0, 1, 0]}], "'up' is no"),
        ([{"name": "a", "radius": 3, "point": [0, 0, 0]}] * 2, "same name"),
        ([{"name": "a"}] * 101, "101 zones"),
    ],
)
def test_untrusted_files_end_in_a_sentence(tmp_path, zone, problem):
    path = tmp_path / "zones.json"
    path.write_text(json.dumps({"zone": zone}))
    with pytest.raises(InputError, match=problem) as caught:
        read_zones(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_damaged_toml(tmp_path):
    path = tmp_path / "zones.toml"
    with pytest.raises(InputError, match="no such file"):
        read_zones(path)
    path.write_text("[[zone")
    with pytest.raises(InputError, match="not readable TOML"):
        read_zones(path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_example_in_the_docs(tmp_path):
    page = Path(__file__).parent.parent / "docs" / "live.md"
    text = page.read_text(encoding="utf-8")
    (tmp_path / "zones.toml").write_text(text.split("```toml\n")[1].split("```")[0])
    screen, camera, door = read_zones(tmp_path / "zones.toml")
    assert isinstance(screen, Rectangle)
    assert camera.point == (0, 0, 0)
    assert door.direction == (0.6, 0, -0.8)


def test_f1_and_flicker_with_noise():
    """Of the truth with errors of 2° about each axis, as bench.accuracy.facing measures it."""
    results = [follow_looks(looks(60, seed), noisy(2.0, seed), None) for seed in range(2)]
    hits, false, missed = (sum(getattr(r, n) for r in results) for n in ("hits", "false", "missed"))
    assert 2 * hits / (2 * hits + false + missed) > 0.95
    assert sum(r.changes for r in results) <= sum(r.true_changes for r in results)


def test_the_zero_of_a_noisy_second():
    """Independent errors of 0.5° about each axis; a mean of 30 frames has a fifth of them."""
    errors = [zero_error(noisy(0.5, seed), None, seed) for seed in range(4)]
    assert max(errors) < 0.5
