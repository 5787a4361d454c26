"""Small faces in large images: recall of detectors on AFLW2000's images side by side.

    python -m bench.accuracy.small_faces --data_dir datasets/AFLW2000 \\
        --filename_list datasets/AFLW2000/files.txt [--detector FILE|bundled] [--opencv ONNX]

Each image of AFLW2000 is scaled to a square tile, and a large image is made of as many as fit. A
face counts as found if a box overlaps the box around its 68 landmarks by at least 0.4
(intersection over union). `--opencv` searches the whole images at their size with OpenCV's YuNet.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.detection import DEFAULT_MIN_SCORE
from mlx_headpose.detection.heads.boxes import overlap
from mlx_headpose.detection.yunet import MAX_OVERLAP
from mlx_headpose.inference.detectors import default_detector, load_detector

# Width and height of an image, and the side of a tile.
TILINGS = ((1920, 1080, 90), (6000, 1000, 200), (4000, 3000, 120), (4000, 3000, 75))
OVERLAP = 0.4

Find = Callable[[np.ndarray], np.ndarray]


def tilings(
    dataset: Dataset, width: int, height: int, side: int, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Large images of as many faces as fit.

    Args:
        dataset: its boxes are those of the 68 landmarks.
        width, height: of an image.
        side: of a tile.
        count: faces in all, evenly from the dataset.

    Yields:
        (height, width, 3) uint8 RGB, and (N, 4) boxes.
    """
    columns = width // side
    fit = columns * (height // side)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int)).tolist()
    for start in range(0, len(chosen), fit):
        image, boxes = Image.new("RGB", (width, height)), []
        for place, index in enumerate(chosen[start : start + fit]):
            corner = place % columns * side, place // columns * side
            photo = dataset.image(index)
            image.paste(photo.resize((side, side)), corner)
            scale = np.tile([side / photo.width, side / photo.height], 2)
            boxes.append(dataset.boxes[index] * scale + np.tile(corner, 2))
        yield np.asarray(image), np.array(boxes)


def opencv(file: Path) -> Find:
    """OpenCV's YuNet on whole images, at the defaults of ours."""
    theirs = cv2.FaceDetectorYN.create(
        str(file), "", (32, 32), DEFAULT_MIN_SCORE, MAX_OVERLAP, 10_000
    )

    def find(image: np.ndarray) -> np.ndarray:
        theirs.setInputSize(image.shape[1::-1])
        rows = theirs.detect(np.ascontiguousarray(image[:, :, ::-1]))[1]
        rows = np.zeros((0, 15)) if rows is None else rows
        return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--filename_list", type=Path)
    parser.add_argument("--detector", help="file, or bundled; by default YuNet where it is here")
    parser.add_argument("--detect_size", type=int, help="longer side of the detector's input")
    parser.add_argument("--opencv", type=Path, help="YuNet's ONNX file, for a column of OpenCV's")
    parser.add_argument("--count", type=int, default=2000, help="faces of each size")
    options = parser.parse_args()
    dataset = open_dataset(
        "AFLW2000", options.data_dir, options.filename_list, crop=AROUND_LANDMARKS
    )
    detector = load_detector(options.detector) if options.detector else default_detector()
    if options.detect_size:
        detector.detect_size = options.detect_size
    finders: dict[str, Find] = {detector.name: lambda image: detector([image])[0].boxes}
    if options.opencv:
        finders["OpenCV"] = opencv(options.opencv)
    print("image        tile  median face  faces" + "".join(f"  {name:>13}" for name in finders))
    for width, height, side in TILINGS:
        hits: dict[str, list[bool]] = {name: [] for name in finders}
        sides: list[float] = []
        for image, boxes in tqdm(
            tilings(dataset, width, height, side, options.count), unit="image", disable=None
        ):
            sides += (boxes[:, 2:] - boxes[:, :2]).max(1).tolist()
            for name, find in finders.items():
                shares = overlap(boxes, find(image).astype(np.float64).reshape(-1, 4))
                hits[name] += (shares.max(1, initial=0) >= OVERLAP).tolist()
        print(
            f"{width:4} × {height:4}  {side:4}  {np.median(sides):11.0f}  {len(sides):5}"
            + "".join(f"  {np.mean(found):13.3f}" for found in hits.values()),
            flush=True,
        )


if __name__ == "__main__":
    main()
