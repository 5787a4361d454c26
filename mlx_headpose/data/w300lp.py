"""300W-LP: 61,225 profiled photos and their mirror images, the field's training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.crop import AROUND_POINTS, Crop
from .annotated import AnnotatedPictures


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    crop: Crop = AROUND_POINTS,
    train: bool = False,
    skip_bad: bool = False,
    **_: Any,
) -> AnnotatedPictures:
    """List 300W-LP's samples.

    Its `pt2d` are the 68 landmarks. Every published loader takes their box and the same margins, k
    uniform in 0.2 to 0.4 in training; they differ only in how the crop is scaled.

    Args:
        folder: the folder of `AFW`, `HELEN`, `IBUG`, `LFPW` and their `_Flip` twins.
        filename_list: names to take; None walks the folder.
        crop: crop of the network.
        train: whether margins are sampled.
        skip_bad: count broken files instead of stopping.
    """
    return AnnotatedPictures(
        "300W_LP", folder, filename_list, {"landmarks": "pt2d"}, crop, train, skip_bad=skip_bad
    )
