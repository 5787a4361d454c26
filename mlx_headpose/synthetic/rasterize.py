"""A z-buffer rasteriser in numpy: triangles in, the visible surface under every pixel out.

It knows nothing of heads. Every step is one operation on whole arrays, so its time goes with the
number of visible triangles and covered pixels, and numpy lets other threads run meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along −z at the origin (axes: x right, y down, z to the viewer).

    Attributes:
        distance: distance from the pinhole to the origin, in the scene's unit.
        scale: pixels per unit in the plane z = 0.
        centre: (x, y) pixel where the optical axis meets the picture.
    """

    distance: float
    scale: float
    centre: tuple[float, float]

    def sized(self, side: float) -> Camera:
        """The same camera for a picture `side` times as large."""
        x, y = self.centre
        return Camera(self.distance, self.scale * side, (x * side, y * side))

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points → (..., 3) float32: x and y in pixels, and distance/depth.

        The last column is linear across the picture of a triangle and larger nearer the viewer:
        1 in the plane z = 0. Pixel centres lie at whole numbers plus one half.
        """
        nearness = self.distance / np.maximum(self.distance - points[..., 2], 1e-3 * self.distance)
        projected = np.empty(points.shape, np.float32)
        projected[..., 0] = points[..., 0] * nearness * self.scale + self.centre[0]
        projected[..., 1] = points[..., 1] * nearness * self.scale + self.centre[1]
        projected[..., 2] = nearness
        return projected


@dataclass(frozen=True)
class Fragments:
    """What is visible: one entry per covered pixel.

    Attributes:
        pixel: (P,) index into the flattened picture, ascending.
        corners: (3, P) vertex numbers of the visible triangle.
        weights: (3, P) float32 perspective-correct barycentric weights.
    """

    pixel: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    def interpolate(self, attributes: np.ndarray) -> np.ndarray:
        """Vertex attributes (V, C) → (P, C) at the visible points."""
        first, second, third = self.corners
        out = attributes[first] * self.weights[0][:, None]
        out += attributes[second] * self.weights[1][:, None]
        out += attributes[third] * self.weights[2][:, None]
        return out


def facing(triangles: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """(3, T) the triangles, those that show their back flipped."""
    x, y = projected[:, 0], projected[:, 1]
    first, second, third = triangles
    area = (x[third] - x[first]) * (y[second] - y[first])
    area -= (x[second] - x[first]) * (y[third] - y[first])
    back = area < 0
    turned = triangles.copy()
    turned[1, back], turned[2, back] = third[back], second[back]
    return turned


def rasterize(projected: np.ndarray, triangles: np.ndarray, width: int, height: int) -> Fragments:
    """Find the nearest triangle that faces the viewer under each pixel's centre.

    Args:
        projected: (V, 3) float32 from `Camera.project`.
        triangles: (3, T) vertex numbers, anticlockwise as the viewer sees their front.
        width, height: size of the image in pixels.
    """
    x, y, near = (np.ascontiguousarray(column) for column in projected.T)
    x0, x1, x2 = (x[corner] for corner in triangles)
    y0, y1, y2 = (y[corner] for corner in triangles)
    area = (x2 - x0) * (y1 - y0) - (x1 - x0) * (y2 - y0)
    left = np.maximum(np.ceil(np.minimum(np.minimum(x0, x1), x2) - 0.5), 0)
    right = np.minimum(np.floor(np.maximum(np.maximum(x0, x1), x2) - 0.5), width - 1)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2) - 0.5), 0)
    bottom = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2) - 0.5), height - 1)
    kept = np.flatnonzero((area > 1e-6) & (right >= left) & (bottom >= top))
    x0, x1, x2, y0, y1, y2 = (values[kept] for values in (x0, x1, x2, y0, y1, y2))
    left, right, top, bottom, area = (v[kept] for v in (left, right, top, bottom, area))
    corners = triangles[:, kept]

    # Barycentric weight k = slope_k · x + rise_k · y + start_k, relative to the first corner.
    slope1, rise1 = (y0 - y2) / area, (x2 - x0) / area
    slope2, rise2 = (y1 - y0) / area, (x0 - x1) / area
    near0 = near[corners[0]]
    rest1, rest2 = near[corners[1]] - near0, near[corners[2]] - near0

    # One entry per triangle and picture row.
    rows = (bottom - top + 1).astype(np.intp)
    owner = np.repeat(np.arange(len(kept)), rows)
    row = (
        np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows, rows) + top.astype(np.intp)[owner]
    )
    down = row.astype(np.float32) + np.float32(0.5) - y0[owner]
    s1, s2, origin = slope1[owner], slope2[owner], x0[owner]
    v1, v2 = rise1[owner] * down, rise2[owner] * down
    first, last = left[owner] + np.float32(0.5) - origin, right[owner] + np.float32(0.5) - origin
    for slope, value in ((s1, v1), (s2, v2), (-s1 - s2, 1 - v1 - v2)):
        # slope · x + value ≥ 0 bounds x from below or above.
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = -value / slope
        first = np.where(slope > 0, np.maximum(first, bound), first)
        last = np.where(slope < 0, np.minimum(last, bound), last)
    first = np.ceil(first + origin - 0.5)
    columns = np.maximum(np.floor(last + origin - 0.5) - first + 1, 0).astype(np.intp)

    # One entry per covered pixel of each triangle.
    span = np.repeat(np.arange(len(owner)), columns)
    column = (
        np.arange(len(span))
        - np.repeat(np.cumsum(columns) - columns, columns)
        + first.astype(np.intp)[span]
    )
    pixel = row[span] * width + column
    r1, r2 = rest1[owner], rest2[owner]
    depth_slope = r1 * s1 + r2 * s2
    depth_start = near0[owner] + r1 * v1 + r2 * v2 - depth_slope * (origin - np.float32(0.5))
    depth = depth_slope[span] * column.astype(np.float32) + depth_start[span]
    nearest = np.zeros(width * height, np.float32)
    np.maximum.at(nearest, pixel, depth)
    visible = np.flatnonzero(depth == nearest[pixel])
    winner = np.full(width * height, -1, np.intp)
    winner[pixel[visible]] = visible
    pixel = np.flatnonzero(winner >= 0)
    winner = winner[pixel]

    span = span[winner]
    across = column[winner].astype(np.float32) + np.float32(0.5) - origin[span]
    w1 = s1[span] * across + v1[span]
    w2 = s2[span] * across + v2[span]
    corners = corners[:, owner[span]]
    weights = np.stack((1 - w1 - w2, w1, w2)).astype(np.float32)
    # Linear in the picture → linear on the surface.
    weights *= near[corners]
    np.clip(weights, 0, None, out=weights)
    weights /= weights.sum(axis=0)
    return Fragments(pixel, corners, weights)
