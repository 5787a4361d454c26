"""The datasets that commands read, opened as a network reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.crop import Crop
from ..data import Dataset, open_dataset
from ..methods import ModelConfig

BOXES = "face boxes of frames that have none: a CSV file, or detect (default: <folder>/boxes.csv)"


def open_for(
    config: ModelConfig,
    name: str,
    folder: str | Path | None,
    filename_list: str | Path | None,
    crop: Crop | None = None,
    **options: Any,
) -> Dataset:
    """Open a dataset as a network reads it: in crops of its kind, or with its landmarks.

    Args:
        config: the network's.
        name, folder, filename_list: see `data.open_dataset`.
        crop: None takes the network's own.
        **options: of the dataset, those that are None left out; `boxes` as `--boxes` has it.

    Raises:
        InputError: see `data.open_dataset` and `box_source`.
    """
    given = {option: value for option, value in options.items() if value is not None}
    if "boxes" in given:
        given["boxes"] = box_source(given["boxes"])
    size = config.preprocessing.size
    crop = crop or config.preprocessing.crop
    dataset = open_dataset(name, folder, filename_list, crop=crop, input_size=size, **given)
    if not config.learns_absence:
        dataset.drop_absent()
    return config.inputs.open(dataset, given.get("train", False), given.get("skip_bad", False))


def samples_used(dataset: Dataset) -> str:
    """How many of a dataset's samples are used, and why the others are not."""
    total = len(dataset) + sum(dataset.dropped.values())
    reasons = "".join(f"; {count} have {why}" for why, count in dataset.dropped.items())
    return f"{len(dataset)} of {total} images{reasons}"


def box_source(given: str) -> Path | Callable[[Image.Image], np.ndarray | None]:
    """What a dataset's `boxes` takes: a file, or a function that finds the largest face.

    Raises:
        InputError: a detector is asked for and its weights are nowhere.
    """
    if given != "detect":
        return Path(given)
    from ..detection.yunet import FaceDetector
    from ..inference.estimator import largest

    detector = FaceDetector.from_pretrained()

    def find(picture: Image.Image) -> np.ndarray | None:
        boxes = largest(detector([np.asarray(picture)])[0], 1).boxes
        return boxes[0] if len(boxes) else None

    return find
