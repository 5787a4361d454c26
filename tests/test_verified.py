"""Heads that a detector finds and a pose network confirms."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_headpose import HeadPoseEstimator
from mlx_headpose.detection.finder import Detections
from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR, SurroundHeadDetector
from mlx_headpose.errors import InputError
from mlx_headpose.inference import detectors
from mlx_headpose.inference.detectors import BUNDLED_NAME, load_detector
from mlx_headpose.inference.pictures import open_picture
from mlx_headpose.inference.verified import LEAST, VerifiedHeadDetector, joint
from mlx_headpose.methods import build
from mlx_headpose.pose import sigmoid
from mlx_headpose.weights import BUNDLED, from_pretrained, load_network, save_pretrained

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = (1.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0)


class Finds:
    """A stand-in for a detector: the same boxes in every image."""

    finds = "landmarks"
    name = "stand-in"
    detect_size = 640

    def __init__(self, boxes, scores):
        self.boxes, self.scores = np.array(boxes, np.float32), np.array(scores, np.float32)

    def __call__(self, images, min_score):
        return self.search(images, self.detect_size, min_score)

    def search(self, images, size, min_score):
        assert (size, min_score) == (640, LEAST)
        return [Detections(self.boxes, self.scores, self.boxes) for _ in images]


FACE = (178, 83, 274, 181)
WALL = (20, 20, 116, 118)  # the flag and the wall behind her


@pytest.fixture(scope="module")
def astronaut():
    return open_picture(ROOT / "docs" / "images" / "astronaut.jpg")


def test_the_joint_score():
    sizes = np.array([(2.0, 1.0, 0.0, 0, 0), (2.0, 1.0, 2.0, 0, 0), (2.0, 1.0, -4.0, 0, 0)])
    numbers = (1.5, 0.5, 0.25, -1.0, 3.0, 0.5, 0.1)
    np.testing.assert_allclose(joint(sizes, numbers), [2.5, 3.0, 2.0])
    looks = np.array([(2.0, 1.0, 0.0, 1, -2.0), (2.0, 1.0, 2.0, 1, -2.0)])
    np.testing.assert_allclose(joint(looks, numbers), [2.5 + 3 - 1, 3.0 + 3 - 1.4])


def test_confidence_separates_a_face_from_a_wall(astronaut):
    detector = VerifiedHeadDetector(
        Finds([WALL, FACE], [0.7, 0.6]), from_pretrained(BUNDLED), NUMBERS
    )
    (found,) = detector([astronaut], 0.0)
    np.testing.assert_array_equal(found.boxes, [FACE, WALL])  # best first
    assert found.scores[0] > 0.6 > 0.5 > found.scores[1]
    np.testing.assert_array_equal(found.heads, found.boxes)
    (kept,) = detector([astronaut])
    np.testing.assert_array_equal(kept.boxes, [FACE])


def test_many_images_at_once_are_each_their_own(astronaut):
    model = from_pretrained(BUNDLED)
    detector = VerifiedHeadDetector(Finds([WALL, FACE], [0.7, 0.6]), model, NUMBERS)
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    both = detector([astronaut, mirrored], 0.0)
    for image, found in zip((astronaut, mirrored), both, strict=True):
        (alone,) = detector([image], 0.0)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
    assert detector([], 0.0) == []
    nothing = VerifiedHeadDetector(Finds(np.zeros((0, 4)), []), model, NUMBERS)
    assert [len(found) for found in nothing([astronaut, mirrored])] == [0, 0]


def test_its_score_is_that_of_its_evidence(astronaut):
    detector = VerifiedHeadDetector(Finds([FACE], [0.6]), from_pretrained(BUNDLED), NUMBERS)
    (evidence,) = detector.evidence([astronaut], detector.plain([astronaut], LEAST))
    assert evidence[0, 0] == pytest.approx(np.log(0.6 / 0.4), abs=1e-5)
    assert evidence[0, 2] == pytest.approx(np.log(98 / 48))
    (found,) = detector([astronaut], 0.0)
    np.testing.assert_allclose(found.scores, sigmoid(joint(evidence, NUMBERS)), rtol=1e-6)


def test_the_bundled_detector_is_verified(astronaut):
    detector = load_detector(BUNDLED_NAME)
    assert isinstance(detector, VerifiedHeadDetector)
    assert detector.numbers == detector.plain.config.verification
    detector.detect_size = 320
    assert detector.plain.detect_size == 320
    assert len(detector([astronaut])[0]) >= 1


@pytest.mark.parametrize("named", [True, False])
def test_the_bundled_network_is_loaded_once(astronaut, monkeypatch, named):
    (wanted,) = load_detector(BUNDLED_NAME)([astronaut])
    monkeypatch.setattr(detectors, "at_hand", lambda: False)
    monkeypatch.setattr(detectors, "from_pretrained", None)
    if named:
        estimator = HeadPoseEstimator.from_pretrained(detector=BUNDLED_NAME)
    else:
        estimator = HeadPoseEstimator()
    # What becomes of the estimator's network is nothing to the detector.
    estimator.model.update(tree_map(lambda value: 0 * value, estimator.model.parameters()))
    (found,) = estimator.detector([astronaut])
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_a_detector_without_numbers_decides_alone(tmp_path):
    model = load_network(BUNDLED_DETECTOR)
    alone = build(dataclasses.replace(model.config, verification=()))
    alone.update(model.parameters())
    save_pretrained(alone, tmp_path / "alone.safetensors")
    assert isinstance(load_detector(tmp_path / "alone.safetensors"), SurroundHeadDetector)
    for numbers in ((1.0, 2.0), (*[1.0] * 6, float("nan"))):
        with pytest.raises(InputError, match="verification"):
            dataclasses.replace(model.config, verification=numbers)


def test_the_least_sure_look_counts(astronaut):
    class Looks(Finds):
        looks = np.array([(0.9, 0.3), (0.8, np.nan), (0.6, 0.0)], np.float32)

        def search(self, images, size, min_score):
            found = super().search(images, size, min_score)
            return [dataclasses.replace(each, looks=self.looks) for each in found]

    finds = Looks([FACE, FACE, WALL], [0.9, 0.8, 0.6])
    detector = VerifiedHeadDetector(finds, from_pretrained(BUNDLED), NUMBERS)
    (evidence,) = detector.evidence([astronaut], detector.plain([astronaut], LEAST))
    assert evidence[:, 3].tolist() == [1, 0, 1]
    np.testing.assert_allclose(evidence[:, 4], [np.log(3 / 7), 0, np.log(0.02 / 0.98)], rtol=1e-5)
