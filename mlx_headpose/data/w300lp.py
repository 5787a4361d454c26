"""300W-LP: 61,225 profiled photos and their mirror images, the field's training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.crop import HOPENET_TRAIN
from .annotated import AnnotatedPictures


def open_dataset(
    folder: Path | None, filename_list: Path | None, skip_bad: bool = False, **_: Any
) -> AnnotatedPictures:
    """List 300W-LP's samples.

    Every published loader draws the same box around `pt2d` and the same margins, k uniform in
    0.2 to 0.4 in training; they differ only in how the crop is scaled.

    Args:
        folder: the folder of `AFW`, `HELEN`, `IBUG`, `LFPW` and their `_Flip` twins.
        filename_list: names to take; None walks the folder.
        skip_bad: count broken files instead of stopping.
    """
    dataset = AnnotatedPictures(
        "300W_LP", folder, filename_list, HOPENET_TRAIN, ("pt2d",), skip_bad=skip_bad
    )
    dataset.protocol = "300W-LP, box of pt2d, k in 0.2-0.4"
    return dataset
