"""What one frame of a video tells of the one before: cuts, and where a region went."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Frames are compared as grey pictures of so many pixels a side, after the best common shift. The
# limits were chosen on photographs: 0.5 % of pairs of different ones reach them, and of pairs of
# views that overlap by 80 % none falls below.
SIDE = 48
ALIKE = 0.6  # correlation below which two frames are of different scenes
ALIKE_IF_DIFFERENT = 0.8  # the same where brightnesses differ as well
DIFFERENT = 30.0  # mean difference of grey values, of 255, that says so
SAME = 6.0  # noise: whatever two plain frames' correlation says, they are the same
JUMP = 0.17  # share of the frame's side; a camera that turns slower can be followed
# A region is looked for as a square of so many pixels, within twice its side.
PATCH = 24
FLAT = 3.0  # standard deviation of grey values below which a region shows nothing


class SceneChange:
    """Tells cuts, and jumps of the whole picture, from motion."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._window = np.outer(np.hanning(SIDE), np.hanning(SIDE))

    def __call__(self, image: np.ndarray) -> bool:
        """Whether the next frame shows another place than the last one.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        grey = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        after = np.asarray(grey, np.float64)
        before, self._before = self._before, after
        if before is None or np.abs(after - before).mean() < SAME:
            return False
        still = correlation(before, after)
        dx, dy = self._shift(before, after)
        moved = correlation(_part(before, dx, dy), _part(after, -dx, -dy))
        if moved > still and max(abs(dx), abs(dy)) > JUMP * SIDE:
            return True
        best = max(still, moved)
        different = float(np.abs(after - before).mean()) > DIFFERENT
        return best < (ALIKE_IF_DIFFERENT if different and moved <= still else ALIKE)

    def _shift(self, before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
        """Columns and rows that the picture moved by, from the peak of the phase correlation."""
        a, b = (np.fft.rfft2((g - g.mean()) * self._window) for g in (before, after))
        cross = a * np.conj(b)
        peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(SIDE, SIDE)).argmax()
        row, column = divmod(int(peak), SIDE)
        half = SIDE // 2
        return (column + half) % SIDE - half, (row + half) % SIDE - half


def _part(grey: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """A picture without its first `dx` columns and `dy` rows, or its last ones if negative."""
    height, width = grey.shape
    rows = slice(max(dy, 0), height + min(dy, 0))
    return grey[rows, max(dx, 0) : width + min(dx, 0)]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised correlation of two arrays of one shape, -1..1; 0 if one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 1e-9 else 0.0


def follow(
    before: np.ndarray, box: np.ndarray, after: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, float]:
    """Where a region of one frame is in the next, by normalised correlation of its grey values.

    Args:
        before: (H, W, 3) uint8 RGB.
        box: (4,) x_min, y_min, x_max, y_max in it.
        after: (H, W, 3) uint8 RGB.
        expected: (4,) where the region should be in `after`.

    Returns:
        (4,) where it is, of the size of `expected`; and the correlation, -1..1.
    """
    side = float(max(box[2] - box[0], box[3] - box[1], 2.0))
    patch = _square(before, box, side, PATCH)
    area = _square(after, expected, 2 * side, 2 * PATCH)
    if patch.std() < FLAT:
        return expected, 0.0
    places = np.lib.stride_tricks.sliding_window_view(area, (PATCH, PATCH))
    pattern = patch - patch.mean()
    means = places.mean((-2, -1))
    product = np.einsum("ijkl,kl->ij", places, pattern)
    spread = np.maximum((places * places).mean((-2, -1)) - means * means, 0) ** 0.5
    likeness = product / (pattern.std() * np.maximum(spread, FLAT) * PATCH * PATCH)
    row, column = np.unravel_index(likeness.argmax(), likeness.shape)
    step = (np.array([column, row]) - PATCH / 2) * side / PATCH
    return expected + np.tile(step, 2), float(likeness[row, column])


def _square(image: np.ndarray, box: np.ndarray, side: float, pixels: int) -> np.ndarray:
    """(pixels, pixels) grey values of a square around a box's centre; black beside the picture."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    height, width = image.shape[:2]
    corners = [x - side / 2, y - side / 2, x + side / 2, y + side / 2]
    left, top, right, bottom = (round(v) for v in np.clip(corners, -1e6, 1e6))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    # Only what lies in the picture is copied into a PIL image.
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x1, y1 = max(min(right, width), x0 + 1), max(min(bottom, height), y0 + 1)
    part = Image.fromarray(image[y0:y1, x0:x1]).convert("L")
    part = part.crop((left - x0, top - y0, right - x0, bottom - y0))
    return np.asarray(part.resize((pixels, pixels), Image.Resampling.BILINEAR), np.float64)
