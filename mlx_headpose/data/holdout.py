"""Which samples of a training set validate, where no other set does."""

from __future__ import annotations

import numpy as np

from .base import Dataset

SHARE = 20  # one in so many samples
MIRRORED = "_Flip/"  # ends the names of 300W-LP's folders of mirror images


def divided(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Divide a training set: the last twentieth of each set that it joins validates.

    Neighbours in a list are often versions of one photo, so the end is cut off whole. What is a
    mirror image of a sample that validates, or its original, does neither.

    Args:
        dataset: the samples.

    Returns:
        (N,) whether a sample trains, (N,) whether it validates.
    """
    validates = np.zeros(len(dataset), bool)
    sources = dataset.sources()
    for source in np.unique(sources):
        places = np.flatnonzero(sources == source)
        validates[places[-max(len(places) // SHARE, 1) :]] = True
    photos = [name.replace(MIRRORED, "/") for name in dataset.ids]
    seen = {photo for photo, held in zip(photos, validates, strict=True) if held}
    trains = np.array([photo not in seen for photo in photos], bool)
    return trains, validates
