"""AFLW2000-3D: 2000 photos, the field's test set (Zhu et al. 2016)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..core.crop import HOPENET_TEST, PYRAMID_TEST, choose_rule
from .annotated import AnnotatedPictures, read_annotation


class AFLW2000(AnnotatedPictures):
    """The set, with its 68 landmarks."""

    def landmarks(self, index: int) -> np.ndarray:
        """(68, 3) float32 `pt3d_68` in image axes and pixels."""
        content = read_annotation(self._annotation(self.ids[index]), "pt3d_68")
        return content["pt3d_68"].T.astype(np.float32)


def open_dataset(
    folder: Path | None,
    filename_list: Path | None,
    crop: str = "hopenet",
    ad: float | None = None,
    skip_bad: bool = False,
    **_: Any,
) -> AFLW2000:
    """List AFLW2000's samples.

    Args:
        folder: the folder of `image*.jpg` and `image*.mat`.
        filename_list: names to take; None takes all 2000.
        crop: "hopenet" (box of all `pt2d` values, −1 of invisible points included, k = 0.2),
            "tokenhpe" (the same box), or "pyramid" (box of `pt3d_68`, k = `ad`).
        ad: margin k of the crop rule; None means the published 0.2.
        skip_bad: count broken files instead of stopping.
    """
    rule = choose_rule(crop, {"hopenet": HOPENET_TEST, "pyramid": PYRAMID_TEST})
    if ad is not None:
        rule = dataclasses.replace(rule, k=(ad, ad))
    dataset = AFLW2000(
        "AFLW2000", folder, filename_list, rule, ("pt2d", "pt3d_68"), skip_bad=skip_bad
    )
    dataset.protocol = f"AFLW2000, crop rule {rule.name} (box of {rule.points}, k = {rule.k[0]:g})"
    return dataset
