"""The face detector on AFLW2000: recall and other boxes over the score threshold, and speed.

    python -m bench.speed.face_detector --data_dir datasets/AFLW2000 \\
        --filename_list datasets/AFLW2000/files.txt

A face counts as found if a box overlaps the box around `pt3d_68` by at least 0.4 (intersection
over union); every further box of the picture counts as another one, real face or not.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from tqdm import tqdm

from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.data import open_dataset
from mlx_headpose.detection import DEFAULT_MIN_SCORE
from mlx_headpose.detection.heads.boxes import overlap
from mlx_headpose.detection.yunet import FaceDetector

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OVERLAP = 0.4
STEEP_YAW = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--filename_list")
    parser.add_argument("--detector", help="file of the detector; by default it is looked for")
    options = parser.parse_args()
    # A face is the box around pt3d_68.
    dataset = open_dataset(
        "AFLW2000", options.data_dir, options.filename_list, crop=AROUND_LANDMARKS
    )
    detector = FaceDetector.from_pretrained(options.detector)
    found, seconds = [], 0.0
    for index in tqdm(range(len(dataset)), unit="image", disable=None):
        image = np.asarray(dataset.image(index))
        start = time.perf_counter()
        found.extend(detector([image], min_score=min(THRESHOLDS)))
        seconds += time.perf_counter() - start
    steep = np.abs(dataset.poses[:, 0]) > STEEP_YAW
    print(f"{len(dataset)} images, {steep.sum()} beyond {STEEP_YAW:.0f}° of yaw")
    print(f"{len(dataset) / seconds:.1f} images/s; default threshold {DEFAULT_MIN_SCORE}")
    print("threshold  recall  recall beyond 60°  other boxes per image")
    for threshold in THRESHOLDS:
        hits = np.zeros(len(dataset), bool)
        others = 0
        for index, faces in enumerate(found):
            boxes = faces.boxes[faces.scores >= threshold]
            hits[index] = (overlap(boxes, dataset.boxes[index][None]) >= OVERLAP).any()
            others += len(boxes) - hits[index]
        print(
            f"{threshold:9.1f}  {hits.mean():6.4f}  {hits[steep].mean():17.4f}"
            f"  {others / len(dataset):21.4f}"
        )


if __name__ == "__main__":
    main()
