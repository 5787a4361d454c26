"""AFLW2000-3D: 2000 photos, the field's test set (Zhu et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.crop import AROUND_POINTS, Crop
from .annotated import VISIBLE, AnnotatedPictures, read_annotation


class AFLW2000(AnnotatedPictures):
    """The set, with its 68 landmarks."""

    def landmarks(self, index: int) -> np.ndarray:
        """(68, 3) float32 `pt3d_68` in image axes and pixels."""
        content = read_annotation(self._annotation(self.ids[index]), "pt3d_68")
        return content["pt3d_68"].T.astype(np.float32)


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    crop: Crop = AROUND_POINTS,
    ad: float | None = None,
    skip_bad: bool = False,
    **_: Any,
) -> AFLW2000:
    """List AFLW2000's samples.

    Args:
        folder: the folder of `image*.jpg` and `image*.mat`.
        filename_list: names to take; None takes all 2000.
        crop: crop of the network. The box of all points is that of the `pt2d` values, −1 of
            invisible points included; that of the landmarks is that of `pt3d_68`.
        ad: margin k, if the crop has margins; None means the published 0.2.
        skip_bad: count broken files instead of stopping.
    """
    fields = {"points": "pt2d", "visible": VISIBLE, "landmarks": "pt3d_68"}
    return AFLW2000("AFLW2000", folder, filename_list, fields, crop, k=ad, skip_bad=skip_bad)
