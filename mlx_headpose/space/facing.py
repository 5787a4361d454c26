"""Which zone a head faces: cones around a direction or a point, or rectangles such as a screen.

Facing is not gaze: it is where the nose points, and eyes look up to 30° elsewhere.

Rectangles and cones around a point are in the camera's axes and take poses relative to the camera.
Cones around a direction take poses relative to the zero, if there is one: (0, 0, -1) is ahead.

A zone is entered when the face's axis points into it, and left when the axis is some degrees
outside of it; both only after it has been so for a while. So a head near a border does not flicker.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import read_json, read_text_as
from ..pose import pose_to_matrix
from .perspective import IMAGE_TO_CAMERA

MAX_ZONES = 100
MAX_BYTES = 1 << 20
# What a zone's file leaves out, in degrees outside of the zone and in seconds.
ENTER, LEAVE, DWELL = -1.0, 2.0, 0.1
# Of a rectangle's border this many points a side say how far a direction is from it.
BORDER_POINTS = 33


def face_axis(pose: np.ndarray) -> np.ndarray:
    """(..., 3) poses relative to the camera → (..., 3) unit vectors, in camera axes."""
    return pose_to_matrix(np.asarray(pose, np.float64))[..., 2] * IMAGE_TO_CAMERA


@dataclass(frozen=True)
class Cone:
    """Directions within `radius` degrees of one.

    Attributes:
        name: name of the zone.
        radius: degrees.
        direction: (3,) in camera axes; None where the cone is around a point.
        point: (3,) metres in camera axes.
        enter, leave: degrees outside of the zone at which it is entered and left; negative inside.
        dwell: seconds.
    """

    name: str
    radius: float
    direction: tuple[float, float, float] | None = None
    point: tuple[float, float, float] | None = None
    enter: float = ENTER
    leave: float = LEAVE
    dwell: float = DWELL

    def outside(self, position: np.ndarray, axis: np.ndarray) -> float:
        """Degrees that a face points past the zone; negative for a face that points into it.

        Args:
            position: (3,) of the head in metres, in camera axes.
            axis: (3,) unit vector out of the face.
        """
        middle = self.direction if self.point is None else np.subtract(self.point, position)
        return _angle(np.asarray(middle, np.float64), axis) - self.radius


@dataclass(frozen=True)
class Rectangle:
    """A flat rectangle, such as a screen.

    Attributes:
        name: name of the zone.
        corner: (3,) of the top left corner in metres, in camera axes.
        right, down: (3,) from there to the next corners.
        enter, leave, dwell: see `Cone`.
    """

    name: str
    corner: tuple[float, float, float]
    right: tuple[float, float, float]
    down: tuple[float, float, float]
    enter: float = ENTER
    leave: float = LEAVE
    dwell: float = DWELL

    def outside(self, position: np.ndarray, axis: np.ndarray) -> float:
        """See `Cone.outside`."""
        corner, right, down = (np.asarray(v, np.float64) for v in _corners(self))
        share = np.linspace(0, 1, BORDER_POINTS)[:, None]
        across, along = corner + share * right, corner + share * down
        border = np.concatenate([across, across + down, along, along + right]) - position
        nearest = float(np.min(_angle(border, axis)))
        normal = np.cross(right, down)
        towards = axis @ normal
        if abs(towards) < 1e-9:
            return nearest
        distance = (corner - position) @ normal / towards
        met = position + distance * axis - corner
        u, v = met @ right / (right @ right), met @ down / (down @ down)
        inside = distance > 0 and 0 <= u <= 1 and 0 <= v <= 1
        return -nearest if inside else nearest


Zone = Cone | Rectangle


def _by_direction(zone: Zone) -> bool:
    return isinstance(zone, Cone) and zone.point is None


def _corners(zone: Rectangle) -> tuple[Any, Any, Any]:
    return zone.corner, zone.right, zone.down


def _angle(vectors: np.ndarray, axis: np.ndarray) -> Any:
    """Degrees between (..., 3) vectors and a (3,) unit vector."""
    along = vectors @ axis
    across = np.linalg.norm(np.cross(vectors, axis), axis=-1)
    return np.degrees(np.arctan2(across, along))


@dataclass
class Attention:
    """What one person faces, from frame to frame.

    Attributes:
        zone: name of the zone, or None.
        seconds: zone's name → time that the person faced it; "" for none.
        changes: how often the zone has become another one, or none.
    """

    zone: str | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    changes: int = 0
    _next: str | None = None
    _for: float = 0.0

    def update(
        self,
        zones: Sequence[Zone],
        position: np.ndarray,
        pose: np.ndarray,
        dt: float,
        relative: np.ndarray | None = None,
    ) -> str | None:
        """Take in the next frame.

        Args:
            zones: all there are; of those that overlap, the one that the face points deepest into.
            position: (3,) of the head in metres, in camera axes.
            pose: (3,) yaw, pitch, roll in degrees, relative to the camera.
            dt: seconds since the frame before.
            relative: (3,) the pose relative to the zero; None where there is no zero.

        Returns:
            The name of the zone, or None.
        """
        self.seconds[self.zone or ""] += dt
        axis = face_axis(pose)
        ahead = axis if relative is None else face_axis(relative)
        outside = {
            zone.name: zone.outside(position, ahead if _by_direction(zone) else axis)
            for zone in zones
        }
        by_name = {zone.name: zone for zone in zones}
        current = by_name.get(self.zone or "")
        stays = current is not None and outside[current.name] <= current.leave
        entered = [zone for zone in zones if outside[zone.name] <= zone.enter]
        aim = self.zone if stays else None
        if entered:
            best = min(entered, key=lambda zone: outside[zone.name])
            # In an overlap the zone that is faced stays until the face leaves it.
            aim = aim or best.name
        if aim == self.zone:
            self._next, self._for = aim, 0.0
            return self.zone
        self._for = self._for + dt if aim == self._next else 0.0
        self._next = aim
        changing = by_name[aim] if aim is not None else current
        if changing is None or self._for >= changing.dwell:
            self.zone, self._for = aim, 0.0
            self.changes += 1
        return self.zone


def read_zones(path: str | Path) -> list[Zone]:
    """Zones of a file.

    Args:
        path: .json or .toml with a list `zone`; of each `name` and either `radius` with `direction`
            or `point`, or `corner`, `right` and `down`; perhaps `enter`, `leave` and `dwell`.

    Raises:
        InputError: the file is missing or damaged, or a zone cannot be.
    """
    path = Path(path)
    values = _read_toml(path) if path.suffix.lower() == ".toml" else read_json(path)
    zones = values.get("zone") if isinstance(values, dict) else None
    if not isinstance(zones, list) or not zones:
        raise InputError(f"{path}: holds no list `zone`; docs/live.md shows one")
    if len(zones) > MAX_ZONES:
        raise InputError(f"{path}: holds {len(zones)} zones; at most {MAX_ZONES} are taken")
    found = [_zone(path, number, zone) for number, zone in enumerate(zones, 1)]
    names = [zone.name for zone in found]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two zones have the same name; give each its own")
    return found


def _read_toml(path: Path) -> Any:
    if sys.version_info < (3, 11):
        raise InputError(f"{path}: reading TOML needs Python 3.11; write the zones as JSON")
    import tomllib

    too_large = "over 1 MB is no file of zones"
    return read_text_as("TOML", tomllib.loads, path, MAX_BYTES, too_large)


KEYS = {"cone": {"radius", "direction", "point"}, "rectangle": {"corner", "right", "down"}}
COMMON = {"name", "enter", "leave", "dwell"}


def _zone(path: Path, number: int, values: Any) -> Zone:
    where = f"{path}: zone {number}"
    if not isinstance(values, dict):
        raise InputError(f"{where} is no table of keys and values")
    name = values.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 80 or not name.isprintable():
        raise InputError(f"{where} has no name of 1 to 80 characters")
    where = f"{path}: zone {name!r}"
    kind = "cone" if "radius" in values else "rectangle"
    unknown = set(values) - KEYS[kind] - COMMON
    if unknown:
        raise InputError(f"{where}: {min(unknown)!r} is no key of a {kind}")
    numbers = {key: values.get(key, default) for key, default in _DEFAULTS.items()}
    enter, leave, dwell = (_scalar(where, key, value) for key, value in numbers.items())
    if enter > leave or not 0 <= dwell <= 60:
        raise InputError(f"{where}: needs enter ≤ leave and a dwell of 0 to 60 seconds")
    if kind == "rectangle":
        corner, right, down = (_vector(where, values, key) for key in ("corner", "right", "down"))
        area = float(np.linalg.norm(np.cross(right, down)))
        if area < 1e-6 or abs(np.dot(right, down)) > 0.01 * area:
            raise InputError(f"{where}: right and down are not the sides of a rectangle")
        return Rectangle(name, corner, right, down, enter, leave, dwell)
    radius = _scalar(where, "radius", values["radius"])
    if not 0 < radius <= 180:
        raise InputError(f"{where}: a radius of {radius:g} is not between 0° and 180°")
    if ("direction" in values) == ("point" in values):
        raise InputError(f"{where}: a cone needs either a direction or a point")
    key = "direction" if "direction" in values else "point"
    vector = _vector(where, values, key)
    if key == "direction" and np.linalg.norm(vector) < 1e-6:
        raise InputError(f"{where}: its direction has no length")
    return Cone(name, radius, **{key: vector}, enter=enter, leave=leave, dwell=dwell)


_DEFAULTS = {"enter": ENTER, "leave": LEAVE, "dwell": DWELL}


def _scalar(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise InputError(f"{where}: {key} is no number")
    return float(value)


def _vector(where: str, values: dict[str, Any], key: str) -> tuple[float, float, float]:
    vector = values.get(key)
    if not isinstance(vector, list) or len(vector) != 3:
        raise InputError(f"{where}: {key} is not a list of three numbers")
    x, y, z = (_scalar(where, key, value) for value in vector)
    return x, y, z
