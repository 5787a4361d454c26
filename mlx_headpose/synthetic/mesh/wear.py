"""What people wear that no asset holds, and what becomes of hair on each of them."""

from __future__ import annotations

import numpy as np

from ..builtin.parts import both_sides, glasses
from ..builtin.shape import PIVOT
from ..material import Material
from ..scene import Part
from .looks import BEANIE, Looks
from .model import Surface

_BRIM = 7.95  # dm, of hats with a brim
# MediaPipe's numbers of the landmarks by which glasses are placed, and 300W's.
_GLASSES = {33: 36, 133: 39, 168: 27, 6: 28, 105: 19}


def above_brim(looks: Looks, rest: np.ndarray) -> np.ndarray:
    """(...,) how far places (..., 3) lie above the lower edge of the person's hat, dm."""
    if looks.hat == BEANIE:
        return rest[..., 1] - (7.2 + looks.brim + 0.32 * rest[..., 2])
    return rest[..., 1] - _BRIM


def styled(surface: Surface, own: np.ndarray, looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    """Hair's vertices (V, 3) and triangles (3, T): fuller, mirrored, cut, under a hat."""
    own = own + looks.fullness * surface.normals_of(own)
    if looks.mirrored:
        own = own * np.array((-1, 1, 1), np.float32)
    x, y, z = (surface.rest[:, axis][surface.triangles].mean(axis=0) for axis in range(3))
    keep = y > looks.length
    # Locks that hang into the face, and sideburns that reach the cheek (their texture hid them).
    keep &= (y > looks.fringe) | (z < 0.95) | (not looks.over_eye)
    keep &= (y > 7.4) | (z < 0.42) | (np.abs(x) < 0.6) | (not looks.short_hair)
    if looks.hat is not None:
        keep &= (above_brim(looks, surface.rest) < 0.05)[surface.triangles].all(axis=0)
    return own, surface.triangles[:, keep]


def beanie(skin: Surface, own: np.ndarray, columns: np.ndarray, looks: Looks) -> Part:
    """A knitted hat over the skull.

    Args:
        skin: the body's surface.
        own: (V, 3) its vertices in the picture's axes.
        columns: (V, 10) its attributes.
        looks: looks of the person.
    """
    height = above_brim(looks, skin.rest)
    triangles = skin.triangles[:, (height > 0)[skin.triangles].all(axis=0)]
    # It stands off more towards the top, where hair is under it.
    off = looks.hat_thickness * (0.55 + np.clip(height, 0, 0.45))
    columns = columns.copy()
    columns[:, 3] = 0.9
    azimuth = np.arctan2(skin.rest[:, 0], skin.rest[:, 2] - 0.5)
    columns[:, 8], columns[:, 9] = azimuth / 4, 0.2 * skin.rest[:, 1]
    return Part(Material.HAT, own + columns[:, :3] * off[:, None], columns, triangles)


def spectacles(looks: Looks, landmarks: np.ndarray, turn: np.ndarray) -> list[Part]:
    """Glasses on a face.

    Args:
        looks: looks of the person.
        landmarks: (68, 3) at pose 0, mm from the pivot.
        turn: (3, 3) the head's rotation.
    """
    points = np.zeros((468, 3), np.float32)
    points[list(_GLASSES)] = landmarks[list(_GLASSES.values())] + PIVOT
    parts: list[Part] = []
    for part in glasses(looks.person, points):
        vertices = (part.vertices - PIVOT.astype(np.float32)) @ turn.T
        for side in both_sides(part):
            columns = np.zeros((len(vertices), 10), np.float32)
            columns[:, :3] = side.attributes[:, :3] @ turn.T
            columns[:, 3] = 0.9
            parts.append(Part(part.material, vertices, columns, side.triangles))
    return parts
