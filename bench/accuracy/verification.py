"""Fit what the bundled pose network's confidence adds to a head detector's score, and store it.

    python -m bench.accuracy.verification --scenes datasets/scenes \\
        --output mlx_headpose/bundled/headdetector.safetensors

Logistic regression of "the box finds a head" on the scores of a detector in all of its looks, the
confidences of the bundled pose network and the sizes of the boxes (`inference.verified.joint`), on
scenes of the training split that no training showed. Then d is set so that 0.5 is the lowest
threshold at which validation scenes of 960 pixels have at most 0.25 false boxes each where there
are heads, and 0.2 where there are none. Recall there is printed, with all that and without.
"""

from __future__ import annotations

import argparse
import dataclasses
from copy import copy
from pathlib import Path

import mlx_headpose  # noqa: F401  first: it loads the fast BLAS before MLX

import numpy as np  # isort: skip
from scipy.optimize import minimize
from tqdm import tqdm

from mlx_headpose.core.scene import HEAD, IGNORE
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR, SurroundHeadDetector
from mlx_headpose.evaluation.detection import MIN_SCORE, evaluate_finder, match, table
from mlx_headpose.inference.verified import LEAST, VerifiedHeadDetector, joint
from mlx_headpose.methods import build
from mlx_headpose.weights import BUNDLED, from_pretrained, load_network, save_pretrained

SEED = 99  # of the scenes that fit, which is no training's
WEIGHT_DECAY = 1e-3
SIZE = 960  # of the scenes that set the threshold
# False boxes a scene; the goals for photos without heads are 0.3 with animals and 0.1 of others.
FALSE = {"with heads": 0.25, "without": 0.2}
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


def by_heads(folder: Path, count: int) -> dict[str, Dataset]:
    """Validation scenes with heads and without, composed once."""
    scenes = open_dataset("scenes", folder, samples=count, input_size=SIZE)
    heads = np.array([(scenes.scene(i)[1][:, 10] == HEAD).any() for i in range(count)])
    sets = {name: copy(scenes) for name in FALSE}
    for name, those in sets.items():
        those.select(heads == (name == "with heads"))
    return sets


def lowest_score(detector: VerifiedHeadDetector, sets: dict[str, Dataset]) -> float:
    """The lowest score that keeps to `FALSE`; prints recall and false boxes."""

    def find(images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(found.heads, found.scores) for found in detector(images, MIN_SCORE)]

    lowest = 0.0
    for name, scenes in sets.items():
        found = evaluate_finder(find, scenes)
        threshold = found.threshold(FALSE[name])
        print(f"{len(scenes)} scenes {name}: {FALSE[name]} false boxes each at {threshold:.3f}")
        if name == "with heads":
            print("\n".join(table(found)))
        lowest = max(lowest, threshold)
    return lowest


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
    validation = by_heads(options.scenes, options.validate)
    print("the detector alone")
    lowest_score(detector, validation)
    detector.numbers = numbers
    print("verified")
    threshold = lowest_score(detector, validation)
    shifted = np.array(numbers)
    shifted[OFFSET] -= np.log(threshold / (1 - threshold))
    numbers = tuple(round(float(value), 4) for value in shifted)
    print(f"verification {numbers}")
    if options.output:
        store(options.detector, options.output, verification=numbers)


if __name__ == "__main__":
    main()
