"""The bundled head detector on what this project renders and shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.cli import main
from mlx_headpose.detection.exposure import brightened
from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR
from mlx_headpose.evaluation.detection import overlaps
from mlx_headpose.inference import detectors
from mlx_headpose.inference.detectors import BUNDLED_NAME, Detector, load_detector

ROOT = Path(__file__).resolve().parent.parent
ASTRONAUT = ROOT / "docs" / "images" / "astronaut.jpg"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(BUNDLED_NAME)


def test_the_file_is_small():
    assert BUNDLED_DETECTOR.stat().st_size < 2_000_000


def test_it_finds_the_astronaut(detector):
    image = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    (found,) = detector([image])
    assert 1 <= len(found) <= 2  # she, and perhaps the helmet on her lap
    # By eye: hairline to chin and ear to ear; the head with its hair.
    face, head = np.array([[180.0, 60, 270, 185]]), np.array([[155.0, 10, 300, 180]])
    assert overlaps(found.boxes[:1], face)[0][0, 0] > 0.5
    assert overlaps(found.heads[:1], head)[0][0, 0] > 0.7


@pytest.mark.parametrize("gain", [1 / 4, 1 / 16])
def test_it_finds_her_in_the_dark(detector, gain):
    image = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    (light,) = detector([image], 0.9)
    (dark,) = detector([np.rint(image * gain).astype(np.uint8)], 0.9)
    assert len(dark) == len(light) == 1
    assert overlaps(dark.boxes[:1], light.boxes[:1])[0][0, 0] > 0.8


def test_only_dark_images_are_brightened():
    image = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    assert brightened(image) is image
    black = np.zeros((20, 30, 3), np.uint8)
    assert brightened(black) is black
    dark = np.rint(image / 16).astype(np.uint8)
    assert np.percentile(brightened(dark), 99) == pytest.approx(200, abs=10)
    assert np.abs(brightened(dark).astype(int) - image).mean() < 40


def test_it_finds_rendered_heads_from_every_side(shared, detector):
    from mlx_headpose.synthetic.scenes.people import PeopleSprites

    people = PeopleSprites(shared / "meshes" / "makehuman_head.npz", None, (77, 1), 24)
    rng = np.random.default_rng(0)
    found, shown = 0, 0
    for number in range(24):
        sprite = people.draw(number)
        if np.isnan(sprite.pose[0]):
            continue
        picture = Image.new("RGB", (400, 300), tuple(rng.integers(40, 220, 3).tolist()))
        cut = Image.fromarray(sprite.pixels, "RGBA").resize((224, 224))
        picture.paste(cut, (90, 70), cut)
        (heads,) = detector([np.asarray(picture)])
        outline = sprite.outline * (224 / len(sprite.pixels)) + (90, 70)
        true = np.concatenate((outline.min(0), outline.max(0)))[None]
        shown += 1
        found += len(heads) and overlaps(heads.heads, true)[0].max() > 0.5
    assert shown >= 20
    assert found >= 0.85 * shown


def test_it_finds_nothing_where_nothing_is(detector):
    y, x = np.mgrid[:320, :480]
    waves = 120 + 60 * np.sin(x / 17) * np.cos(y / 23)
    noise = np.random.default_rng(0).normal(0, 20, (320, 480, 3))
    image = np.clip(waves[..., None] + noise, 0, 255).astype(np.uint8)
    assert [len(found) for found in detector([image, np.full_like(image, 90)])] == [0, 0]


def test_predict_finds_the_astronaut_without_any_other_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detectors, "at_hand", lambda: False)
    main("predict", [str(ASTRONAUT)])
    lines = capsys.readouterr().out
    assert "detector: head detector\n" in lines
    assert (tmp_path / "output" / "astronaut.jpg").is_file()
