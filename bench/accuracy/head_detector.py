"""The head detector: recall by view and size over false boxes, AFLW2000, and time.

    python -m bench.accuracy.head_detector --scenes datasets/scenes
    python -m bench.accuracy.head_detector --aflw2000 datasets/AFLW2000 --list aflw2000_list.txt
    python -m bench.accuracy.head_detector --time

From a training's snapshot to the bundled file, whose scores are shifted so that 0.5 is the
threshold at which validation scenes have 0.25 false boxes each (or as given):

    python -m bench.accuracy.head_detector --detector SNAPSHOT --scenes datasets/scenes \\
        --output mlx_headpose/bundled/headdetector.safetensors

Large scenes, and scenes of many small heads, of ten times ten scenes of 400 pixels; `--detect_size`
turns the detector's further searches of large images off:

    python -m bench.accuracy.head_detector --scenes datasets/scenes --size 4000 --count 20
    python -m bench.accuracy.head_detector --scenes datasets/scenes --size 4000 --mosaic 10 \\
        --count 4

A program that scores callables of an image can load `ours` from this file.

In AFLW2000 a face counts as found if a face box overlaps the box around `pt3d_68` by at least 0.4
(intersection over union); every further box of the image counts as another one, real face or not.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import mlx.core as mx
import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.core.scene import HEAD
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.detection.heads.boxes import overlap
from mlx_headpose.detection.heads.detector import (
    BUNDLED_DETECTOR,
    DEFAULT_MIN_SCORE,
    DEFAULT_SIZE,
)
from mlx_headpose.evaluation.detection import (
    FALSE_PER_SCENE,
    MIN_SCORE,
    VIEWS,
    Detection,
    evaluate_finder,
    table,
)
from mlx_headpose.figures import new_figure, write_figure
from mlx_headpose.inference.detectors import BUNDLED_NAME, Detector, load_detector
from mlx_headpose.weights import load_network, save_pretrained

OVERLAP = 0.4
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def ours() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The detector in the file that HEAD_DETECTOR names, or the bundled one: boxes and scores."""
    detector = load_detector(os.environ.get("HEAD_DETECTOR", BUNDLED_NAME))
    if size := os.environ.get("HEAD_DETECTOR_SIZE"):
        detector.detect_size = int(size)

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heads = detector([image], min_score=0.05)[0]
        return heads.heads, heads.scores

    return detect


class Mosaics(Dataset):
    """Images of several scenes each, side by side.

    Args:
        scenes: a multiple of `side`² of them.
        side: scenes in a row and in a column.
    """

    def __init__(self, scenes: Dataset, side: int):
        count = len(scenes) // side**2
        super().__init__(
            name="mosaics",
            ids=[f"mosaic-{i:06d}" for i in range(count)],
            poses=np.zeros((count, 3), np.float32),
            boxes=np.zeros((count, 4)),
            protocol=f"{count} images of {side} × {side} {scenes.protocol}",
        )
        self.scenes, self.side = scenes, side

    def scene(
        self, index: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image (size, size, 3) uint8, and the targets (M, 11) of its scenes."""
        rows, targets = [], []
        for row in range(self.side):
            images = []
            for column in range(self.side):
                number = (index * self.side + row) * self.side + column
                image, those = self.scenes.scene(number, rng)
                there = those[those[:, 10] != 0]
                corner = np.array([column, row]) * image.shape[0]
                there[:, :8] += np.tile(corner, 4)
                images.append(image)
                targets.append(there)
            rows.append(np.concatenate(images, 1))
        return np.concatenate(rows), np.concatenate(targets)


def on_scenes(detector: Detector, scenes: Dataset, rate: float, figure: Path | None) -> float:
    """Print the table, and draw it; returns the threshold at a rate of false boxes a scene."""
    print(scenes.protocol)

    def find(images: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(found.heads, found.scores) for found in detector(images, MIN_SCORE)]

    detection = evaluate_finder(find, scenes)
    recall = "  ".join(f"{k} {v:.3f}" for k, v in detection.recall(DEFAULT_MIN_SCORE).items())
    print(f"at {DEFAULT_MIN_SCORE}: {detection.false(DEFAULT_MIN_SCORE):.2f} false/scene, {recall}")
    print("\n".join(table(detection)))
    if figure is not None:
        draw_curves(detection, figure)
    return detection.threshold(rate)


def draw_curves(detection: Detection, path: Path) -> None:
    """Draw recall over false boxes a scene, by view, as a PNG."""
    rates = np.geomspace(0.02, 2, 40)
    thresholds = [detection.threshold(rate) for rate in rates]
    recalls = [detection.recall(threshold) for threshold in thresholds]
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for name in ("all", *VIEWS):
        values = [recall[name] for recall in recalls]
        axes.plot(rates, values, label=name, lw=2.5 if name == "all" else 1.5)
    axes.axvline(FALSE_PER_SCENE, color="grey", lw=0.8, ls=":")
    axes.set(xlabel="false boxes a scene", ylabel="recall", xscale="log", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    write_figure(figure, path)


def sheet(detector: Detector, folder: Path, path: Path) -> None:
    """Draw what is found in twelve validation scenes: true heads green, boxes that fit none red."""
    side, columns, rows = 320, 4, 3
    scenes = open_dataset("scenes", folder, samples=columns * rows, input_size=2 * side)
    image = Image.new("RGB", (columns * side, rows * side))
    for index in range(columns * rows):
        pixels, targets = scenes.scene(index)
        (found,) = detector([pixels])
        true = targets[targets[:, 10] != 0]
        shares = overlap(found.heads.astype(np.float64), true[:, :4].astype(np.float64))
        scene = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(scene)
        for box in true[true[:, 10] == HEAD][:, :4]:
            draw.rectangle((box / 2).tolist(), outline=(80, 220, 80))
        for box, face, share in zip(found.heads, found.boxes, shares, strict=True):
            fits = share.max(initial=0) >= OVERLAP
            draw.rectangle(
                (box / 2).tolist(), outline=(60, 140, 255) if fits else (255, 40, 40), width=2
            )
            if fits:
                draw.rectangle((face / 2).tolist(), outline=(250, 220, 60))
        image.paste(scene, (index % columns * side, index // columns * side))
    image.save(path, quality=85)


def shifted(detector: Path, threshold: float, output: Path) -> None:
    """Write a detector in 16 bits, its scores shifted so that `threshold` becomes 0.5."""
    model = load_network(detector)
    shift = math.log(threshold / (1 - threshold))
    for conv in model.head.output:
        conv.bias = conv.bias - shift * (mx.arange(conv.bias.size) == 0)
    save_pretrained(model, output, half=True)
    print(f"threshold {threshold:.3f} is {DEFAULT_MIN_SCORE} in {output}")


def on_aflw2000(detector: Detector, folder: str, listed: str | None) -> None:
    dataset = open_dataset("AFLW2000", folder, listed, crop=AROUND_LANDMARKS)
    found = []
    for index in tqdm(range(len(dataset)), unit="image", disable=None):
        found += detector([np.asarray(dataset.image(index))], min_score=min(THRESHOLDS))
    print(f"{len(dataset)} images; default threshold {DEFAULT_MIN_SCORE}")
    print("threshold  recall  beyond 60°  other boxes per image  medians: left, top, right, bottom")
    steep = np.abs(dataset.poses[:, 0]) > 60
    for threshold in THRESHOLDS:
        hits, others, sides = np.zeros(len(dataset), bool), 0, []
        for index, (faces, true) in enumerate(zip(found, dataset.boxes, strict=True)):
            boxes = faces.boxes[faces.scores >= threshold]
            shares = overlap(boxes, true[None])[:, 0]
            hits[index] = (shares >= OVERLAP).any()
            others += len(boxes) - hits[index]
            if hits[index]:
                size = np.tile(true[2:] - true[:2], 2)
                sides.append((boxes[shares.argmax()] - true) / size)
        medians = " ".join(f"{v:+.3f}" for v in np.median(sides, 0)) if sides else ""
        print(
            f"{threshold:9.1f}  {hits.mean():6.4f}  {hits[steep].mean():10.4f}  "
            f"{others / len(dataset):21.4f}  {medians}"
        )


def timed(detector: Detector, size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        detector([image])
        seconds.append(time.perf_counter() - start)
    print(f"{size}×{size}: {1e3 * np.median(seconds):.1f} ms an image (median of 30)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, default=BUNDLED_DETECTOR)
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="side of the images")
    parser.add_argument("--detect_size", type=int, help="search once, at this size")
    parser.add_argument("--mosaic", type=int, default=1, help="scenes in a row of an image")
    parser.add_argument("--scenes", type=Path, help="folder of scenes")
    parser.add_argument("--count", type=int, default=400, help="scenes")
    parser.add_argument("--aflw2000", help="folder")
    parser.add_argument("--list", help="file of AFLW2000's names")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rate", type=float, default=FALSE_PER_SCENE, help="false boxes a scene")
    parser.add_argument("--threshold", type=float, help="instead of that by --rate")
    parser.add_argument("--figure", type=Path, help="PNG of recall over false boxes, by view")
    parser.add_argument("--sheet", type=Path, help="image of what is found in twelve scenes")
    parser.add_argument("--output", type=Path, help="file to write (.safetensors)")
    options = parser.parse_args()
    detector = load_detector(options.detector)
    if options.detect_size:
        detector.detect_size = options.detect_size
    threshold = options.threshold
    if options.scenes:
        side = options.mosaic
        scenes: Dataset = open_dataset(
            "scenes",
            options.scenes,
            samples=options.count * side**2,
            input_size=options.size // side,
        )
        scenes = Mosaics(scenes, side) if side > 1 else scenes
        chosen = on_scenes(detector, scenes, options.rate, options.figure)
        threshold = threshold or chosen
    if options.scenes and options.sheet:
        sheet(detector, options.scenes, options.sheet)
    if options.output:
        shifted(options.detector, threshold, options.output)
    if options.aflw2000:
        on_aflw2000(detector, options.aflw2000, options.list)
    if options.time:
        timed(detector, options.size)


if __name__ == "__main__":
    main()
