"""Images of several sizes through a network, those of equal size together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import mlx.core as mx
import numpy as np

GPU_BATCH = 16


def in_batches(
    images: Sequence[np.ndarray], find: Callable[[mx.array], Iterable[np.ndarray]]
) -> list[np.ndarray]:
    """What a detector's network finds in each of some images, in their order.

    Args:
        images: (H, W, 3) uint8 each.
        find: a batch (N, H, W, 3) → an array of each.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, pixels in enumerate(images):
        by_shape.setdefault(pixels.shape, []).append(index)
    # A CPU is faster one image at a time: their features stay in its cache.
    size = GPU_BATCH if mx.default_device() == mx.gpu else 1
    found: dict[int, np.ndarray] = {}
    for same in by_shape.values():
        for start in range(0, len(same), size):
            batch = same[start : start + size]
            arrays = find(mx.array(np.stack([images[index] for index in batch])))
            found.update(zip(batch, arrays, strict=True))
    return [found[index] for index in range(len(images))]
