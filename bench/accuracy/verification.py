"""Fit what the bundled pose network's confidence adds to a head detector's score, and store it.

    python -m bench.accuracy.verification --scenes datasets/scenes \\
        --output mlx_headpose/bundled/headdetector.safetensors

Logistic regression of "the box finds a head" on the scores of a detector in all of its looks, the
confidences of the bundled pose network and the sizes of the boxes (`inference.verified.joint`), on
scenes of the training split that no training showed. Then d is set so that 0.5 is the threshold
at which validation scenes of 960 pixels have the largest F1, the harmonic mean of recall and
precision. Recall there is printed, with all that and without.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import numpy as np  # isort: skip
from scipy.optimize import minimize
from tqdm import tqdm

from mlx_headpose.core.scene import HEAD, IGNORE
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR, SurroundHeadDetector
from mlx_headpose.evaluation.detection import MIN_SCORE, Detection, evaluate_finder, match, table
from mlx_headpose.inference.verified import LEAST, VerifiedHeadDetector, joint
from mlx_headpose.methods import build
from mlx_headpose.weights import BUNDLED, from_pretrained, load_network, save_pretrained

SEED = 99  # of the scenes that fit, which is no training's
WEIGHT_DECAY = 1e-3
SIZE = 960  # of the scenes that set the threshold
OFFSET = 3  # place of d


def candidates(detector: VerifiedHeadDetector, scenes: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5) evidence of the boxes of scenes, and (N,) whether each finds a head."""
    evidence, right = [], []
    for index in tqdm(range(len(scenes)), unit="scene", disable=None):
        image, targets = scenes.scene(index)
        (found,) = detector.plain([image], LEAST)
        true, ignored = (targets[targets[:, 10] == kind, :4] for kind in (HEAD, IGNORE))
        assert found.heads is not None
        counted, which = match(found.heads, found.scores, true, ignored)
        evidence.append(detector.evidence([image], [found])[0][counted])
        right.append(which >= 0)
    return np.concatenate(evidence), np.concatenate(right)


def fit(evidence: np.ndarray, right: np.ndarray) -> tuple[float, ...]:
    """The numbers of the most likely score."""

    def loss(numbers: np.ndarray) -> float:
        logit = joint(evidence, numbers)
        penalty = WEIGHT_DECAY * float((np.delete(numbers, OFFSET) ** 2).sum()) / 2
        return float(np.logaddexp(0, np.where(right, -logit, logit)).mean()) + penalty

    found = minimize(loss, np.array((1.0, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0)), method="Powell")
    return tuple(float(v) for v in found.x)


def best_score(found: Detection) -> float:
    """The lowest score at which F1 is the largest."""
    order = np.argsort(-found.scores, kind="stable")
    hits = np.cumsum(found.found[order] >= 0)
    # Twice the hits over all boxes and all heads.
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + len(found.yaw))
    return float(found.scores[order][f1.argmax()])


def measure(detector: VerifiedHeadDetector, scenes: Dataset) -> float:
    """Print recall over false boxes; returns the score of the largest F1."""

    def find(images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(found.heads, found.scores) for found in detector(images, MIN_SCORE)]

    found = evaluate_finder(find, scenes)
    threshold = best_score(found)
    recall = found.recall(threshold)["all"]
    print("\n".join(table(found)))
    print(
        f"{len(scenes)} scenes: the largest F1 is at {threshold:.3f}, where recall is {recall:.3f}"
        f" and there are {found.false(threshold):.3f} false boxes a scene"
    )
    return threshold


def store(detector: Path, output: Path, **fields: tuple[float, ...]) -> None:
    """Write a detector in 16 bits with other fields of its config."""
    model = load_network(detector)
    same = build(dataclasses.replace(model.config, **fields))
    same.update(model.parameters())
    save_pretrained(same, output, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, default=BUNDLED_DETECTOR)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of scenes")
    parser.add_argument("--count", type=int, default=500, help="scenes that fit")
    parser.add_argument("--validate", type=int, default=400, help="scenes that set the threshold")
    parser.add_argument("--output", type=Path, help="file to write (.safetensors)")
    options = parser.parse_args()
    plain = SurroundHeadDetector.from_pretrained(options.detector)
    detector = VerifiedHeadDetector(plain, from_pretrained(BUNDLED), (1.0, *[0.0] * 6))
    scenes = open_dataset(
        "scenes", options.scenes, train=True, seed=SEED, samples=options.count, input_size=640
    )
    numbers = fit(*candidates(detector, scenes))
    validation = open_dataset("scenes", options.scenes, samples=options.validate, input_size=SIZE)
    print("the detector alone")
    measure(detector, validation)
    detector.numbers = numbers
    print("verified")
    threshold = measure(detector, validation)
    shifted = np.array(numbers)
    shifted[OFFSET] -= np.log(threshold / (1 - threshold))
    numbers = tuple(round(float(value), 4) for value in shifted)
    print(f"verification {numbers}")
    if options.output:
        store(options.detector, options.output, verification=numbers)


if __name__ == "__main__":
    main()
