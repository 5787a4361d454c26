"""Finer searches of large images, in tiles."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mlx_headpose.detection import batches
from mlx_headpose.detection.finder import Detections, Finder, Tiling, joined, tiles
from mlx_headpose.detection.heads.boxes import distinct
from mlx_headpose.detection.heads.detector import (
    DEFAULT_SIZE,
    TILING,
    SurroundHeadDetector,
    prepare,
)
from mlx_headpose.evaluation.detection import overlaps
from mlx_headpose.inference.detectors import BUNDLED_NAME, Detector, load_detector
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.video import Frame
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.weights import BUNDLED

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("tiling", [TILING, Tiling(640, 1, 1280, 256, 200, 64)])
@pytest.mark.parametrize("length", [1, 700, 1120, 1121, 1280, 1281, 1920, 3000, 4000, 7681])
def test_tiles_cover_a_length_and_overlap(length, tiling):
    starts, side = tiles(length, tiling)
    assert side <= min(tiling.tile, length)
    assert starts[0] == 0
    assert starts[-1] + side == length
    steps = np.diff(starts)
    assert (side - steps >= tiling.overlap - 1).all()
    assert side == length or length > tiling.tile


def test_tiles_are_looked_at_as_often_as_the_whole_image():
    for length in range(1281, 8000, 37):  # the least that is searched again, and up
        for size in (length, 1920, 3840):
            _, side = tiles(min(size, length), TILING)
            tile, whole = (np.zeros((1, n, 3), np.uint8) for n in (side, length))
            looks = len(prepare(whole, TILING.first)), len(prepare(tile, TILING.tile))
            assert looks == (2, 2), "whose scores `joined` puts side by side"


class Squares(Finder):
    """Finds white squares of 12 pixels or more at the scale that it looks at."""

    tiling = Tiling(first=100, worth=1.3, tile=120, overlap=40, largest=36, small=20, doubt=0.5)

    def __init__(self):
        self.searches = []

    def search(self, images, size, min_score):
        return [self._find(image, size) for image in images]

    def _find(self, image, size):
        self.searches.append((size, image.shape))
        scale = min(1.0, size / max(image.shape[:2]))
        boxes = []
        seen = (image[:, :, 0] > 127).astype(np.uint8)
        while seen.any():
            y, x = np.argwhere(seen)[0]
            right = x + int(np.argmin(np.append(seen[y, x:], 0)))
            bottom = y + int(np.argmin(np.append(seen[y:, x], 0)))
            seen[y:bottom, x:right] = 0
            if min(right - x, bottom - y) * scale >= 12:
                boxes.append((x, y, right, bottom))
        heads = np.array(boxes, np.float32).reshape(-1, 4)
        return Detections(heads + 1, np.full(len(heads), 0.8, np.float32), heads)

    def distinct(self, boxes, scores):
        return distinct(boxes, scores)


def squares(*places: tuple[int, int, int], size: tuple[int, int] = (400, 400)) -> np.ndarray:
    image = np.zeros((*size[::-1], 3), np.uint8)
    for x, y, side in places:
        image[y : y + side, x : x + side] = 255
    return image


def found_in(image: np.ndarray, min_score: float = 0.1) -> tuple[Detections, Squares]:
    finder = Squares()
    return finder.finer(image, finder.search([image], 100, min_score)[0], min_score), finder


def test_small_ones_come_up_in_finer_searches():
    found, finder = found_in(squares((50, 60, 90), (300, 200, 30), (20, 300, 14)))
    expected = [(50, 60, 140, 150), (300, 200, 330, 230), (20, 300, 34, 314)]
    np.testing.assert_allclose(found.heads, expected, atol=2)
    np.testing.assert_allclose(found.boxes, found.heads + 1, atol=1)
    # Of odds of 4, less by half a logit for each doubling: sizes 200 and 400 are searched.
    odds = 4 * np.exp([0, -0.5, -1.0])
    np.testing.assert_allclose(found.scores, odds / (1 + odds), rtol=1e-6)
    assert len(found_in(squares((20, 300, 14)), 0.7)[0]) == 0
    assert {size for size, _ in finder.searches} == {100, 120}


def test_the_last_search_is_one_that_finds_nothing_small():
    image = squares((50, 60, 90), (300, 200, 60), (20, 300, 14))
    found, finder = found_in(image)
    assert len(found) == 2
    assert max(max(shape) for _, shape in finder.searches[1:]) <= 120
    assert len(finder.searches) == 1 + 4  # 200 pixels in four tiles; 30 of these are not small


@pytest.mark.parametrize("place", range(60, 340, 7))
def test_what_lies_on_a_seam_appears_once(place):
    for x, y in ((place, 100), (100, place), (place, place)):
        found, _ = found_in(squares((x, y, 30)))
        np.testing.assert_allclose(found.heads, [(x, y, x + 30, y + 30)], atol=2)


def test_images_hardly_larger_than_the_first_search_are_not_searched_again():
    for side, searches in ((80, 1), (130, 1), (131, 2)):
        _, finder = found_in(squares(size=(side, side)))
        assert len(finder.searches) >= searches
        assert (len(finder.searches) > 1) == (searches > 1)


def test_searches_are_joined_with_all_that_they_say():
    one = Detections(np.ones((1, 4)), np.ones(1), np.zeros((1, 4)), np.ones((1, 2)))
    both = joined([one, one.chosen(np.array([True])), one.chosen(np.array([], int))])
    assert both.boxes.shape == (2, 4)
    assert both.heads is not None
    assert both.heads.shape == (2, 4)
    assert both.looks is not None
    assert both.looks.shape == (2, 2)
    faces = joined([Detections(np.ones((1, 4)), np.ones(1))] * 2)
    assert faces.heads is None
    assert len(faces) == 2


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(BUNDLED_NAME)


def small_heads(shared: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image of rendered heads of 30 to 40 pixels, and their boxes."""
    from mlx_headpose.synthetic.scenes.people import PeopleSprites

    people = PeopleSprites(shared / "meshes" / "makehuman_head.npz", None, (77, 1), 6)
    picture, boxes = Image.new("RGB", size, (96, 120, 140)), []
    for number in range(6):
        sprite = people.draw(number)
        if np.isnan(sprite.pose[0]):
            continue
        side = 80
        corner = 100 + 480 * number, 50 + 60 * (number % 3)
        cut = Image.fromarray(sprite.pixels, "RGBA").resize((side, side), Image.Resampling.BOX)
        picture.paste(cut, corner, cut)
        outline = sprite.outline * (side / len(sprite.pixels)) + corner
        boxes.append(np.concatenate((outline.min(0), outline.max(0))))
    return np.asarray(picture), np.array(boxes)


def test_the_bundled_detector_finds_small_heads_in_large_images(shared, detector):
    image, true = small_heads(shared, (3000, 300))
    (first,), (found,) = detector.whole([image]), detector([image])

    def recall(some: Detections) -> float:
        assert some.heads is not None
        return float((overlaps(true, some.heads)[0].max(1, initial=0) > 0.4).mean())

    assert recall(first) < 0.5
    assert recall(found) > 0.8
    assert len(found) <= len(true) + 1
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("size", [(512, 512), (1280, 300)])
def test_smaller_images_are_searched_once(shared, detector, size):
    image = np.asarray(Image.open(ROOT / "docs/images/astronaut.jpg").convert("RGB").resize(size))
    (default,), (once,) = detector([image]), detector.search([image], DEFAULT_SIZE, 0.5)
    for name in ("boxes", "scores", "heads"):
        np.testing.assert_array_equal(getattr(default, name), getattr(once, name))


def test_a_given_size_is_that_of_one_search(shared, monkeypatch):
    detector = load_detector(BUNDLED_NAME)
    image, _ = small_heads(shared, (3000, 300))
    monkeypatch.setattr(type(detector.plain), "finer", None)
    detector.detect_size = 640
    (found,), (quick,) = detector([image], 0.3), detector.quick([image], 0.3)
    np.testing.assert_array_equal(found.heads, quick.heads)


def test_frames_of_videos_are_searched_once(monkeypatch):
    estimator = HeadPoseEstimator.from_pretrained(BUNDLED, BUNDLED_NAME)
    monkeypatch.setattr(SurroundHeadDetector, "finer", None)
    sizes: list[int] = []
    search = SurroundHeadDetector.search

    def counted(self, images, size, min_score):
        sizes.append(size)
        return search(self, images, size, min_score)

    monkeypatch.setattr(SurroundHeadDetector, "search", counted)
    video = VideoEstimator(estimator, detect_every=1)
    image = np.zeros((64, 2000, 3), np.uint8)
    for number in range(11):
        video(Frame(number, number / 25, image))
    assert sizes == [960, *[640] * 9, 960]


@pytest.mark.parametrize("device", [mx.cpu, mx.gpu], ids=["cpu", "gpu"])
def test_images_of_equal_size_go_through_a_gpu_together(device, monkeypatch):
    monkeypatch.setattr(batches, "GPU_BATCH", 2)
    monkeypatch.setattr(mx, "default_device", lambda: device)
    images = [np.full((side, 2, 3), n, np.uint8) for n, side in enumerate((4, 6, 4, 4, 6))]
    sizes = []

    def find(batch):
        sizes.append(len(batch))
        return np.array(batch)[:, :1, 0, 0]

    found = batches.in_batches(images, find)
    assert [int(n[0]) for n in found] == [0, 1, 2, 3, 4]
    assert sizes == ([2, 1, 2] if device == mx.gpu else [1] * 5)
