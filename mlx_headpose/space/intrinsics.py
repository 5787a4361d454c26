"""A pinhole camera with OpenCV's lens distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError

# Taken where nothing is known of the camera: between a laptop's (about 65°) and a phone's main
# camera in portrait format (about 55°).
DEFAULT_FOV = 60.0
MIN_FOV, MAX_FOV = 5.0, 150.0
# Coefficients of OpenCV's polynomial and rational models: k1, k2, p1, p2, k3, k4, k5, k6.
COEFFICIENTS = 8
# Undistorting goes by Newton's method; a lens for which this does not suffice is refused.
STEPS = 30
# Pixels by which distorting an undistorted point of the image may miss it.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Camera:
    """Intrinsics for images of one size.

    Attributes:
        fx, fy: focal lengths in pixels.
        cx, cy: principal point in pixels; the first pixel reaches from 0 to 1.
        width, height: width and height of the image in pixels; 0 where they are not known.
        distortion: (8,) OpenCV's k1, k2, p1, p2, k3, k4, k5, k6.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int = 0
    height: int = 0
    distortion: tuple[float, ...] = (0.0,) * COEFFICIENTS

    def __post_init__(self) -> None:
        numbers = np.array([self.fx, self.fy, self.cx, self.cy, *self.distortion], np.float64)
        if not np.isfinite(numbers).all():
            raise InputError("a camera needs finite fx, fy, cx, cy and distortion coefficients")
        if not (1 <= self.fx <= 1e6 and 1 <= self.fy <= 1e6):
            raise InputError("a camera's fx and fy must be between 1 and 1,000,000 pixels")
        if len(self.distortion) > COEFFICIENTS:
            raise InputError(
                f"lens models of over {COEFFICIENTS} distortion coefficients are not supported"
            )
        missing = COEFFICIENTS - len(self.distortion)
        object.__setattr__(self, "distortion", (*self.distortion, *(0.0,) * missing))
        if self.width and self.height:
            inside = -self.width <= self.cx <= 2 * self.width
            if not (inside and -self.height <= self.cy <= 2 * self.height):
                raise InputError(
                    f"the camera's principal point ({self.cx:g}, {self.cy:g}) lies far outside of"
                    f" its image of {self.width}×{self.height} pixels"
                )
            self._require_invertible()

    @classmethod
    def from_fov(cls, fov: float, width: int, height: int) -> Camera:
        """A camera without distortion.

        Args:
            fov: degrees that the image's longer side spans.
            width, height: width and height of the image in pixels.

        Raises:
            InputError: `fov` is not between 5° and 150°.
        """
        if not MIN_FOV <= fov <= MAX_FOV:
            raise InputError(
                f"a field of view of {fov:g}° is not between {MIN_FOV:g}° and {MAX_FOV:g}°"
            )
        focal = max(width, height) / 2 / np.tan(np.radians(fov) / 2)
        return cls(float(focal), float(focal), width / 2, height / 2, width, height)

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for images of another resolution.

        Raises:
            InputError: the image has other proportions, so that it was cropped somehow.
        """
        if not self.width or not self.height:
            return replace(self, width=width, height=height)
        x, y = width / self.width, height / self.height
        if abs(x / y - 1) > 0.02:
            raise InputError(
                f"the camera file is for {self.width}×{self.height} pixels and the image has"
                f" {width}×{height}; calibrate at the image's proportions"
            )
        return Camera(
            self.fx * x, self.fy * y, self.cx * x, self.cy * y, width, height, self.distortion
        )

    def rays(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) pixels → (..., 3) directions with z = 1 in camera axes, undistorted."""
        points = np.asarray(points, np.float64)
        flat = (points - (self.cx, self.cy)) / (self.fx, self.fy)
        if any(self.distortion):
            # The model holds within the image. Beyond it, where boxes may reach, it goes on
            # linearly: its polynomial would fold back there.
            inside = points
            if self.width and self.height:
                inside = np.clip(points, 0, (self.width, self.height))
            target = (inside - (self.cx, self.cy)) / (self.fx, self.fy)
            beyond = flat - target
            flat = target
            for _ in range(STEPS):
                value, slope = self._distort(flat)
                step = np.linalg.solve(slope, (target - value)[..., None])[..., 0]
                flat = flat + step
            _, slope = self._distort(flat)
            flat = flat + np.linalg.solve(slope, beyond[..., None])[..., 0]
        return np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], -1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) points before the camera, in camera axes → (..., 2) pixels."""
        points = np.asarray(points, np.float64)
        flat = points[..., :2] / points[..., 2:]
        if any(self.distortion):
            flat, _ = self._distort(flat)
        return flat * (self.fx, self.fy) + (self.cx, self.cy)

    def _distort(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (..., 2) in the plane z = 1, distorted, and the (..., 2, 2) derivative.

        The polynomial and rational models of OpenCV's calib3d module ("Camera Calibration and 3D
        Reconstruction", detailed description).
        """
        k1, k2, p1, p2, k3, k4, k5, k6 = self.distortion
        x, y = flat[..., 0], flat[..., 1]
        r = x * x + y * y
        over, under = 1 + r * (k1 + r * (k2 + r * k3)), 1 + r * (k4 + r * (k5 + r * k6))
        radial = over / under
        rise = (k1 + r * (2 * k2 + 3 * r * k3)) / under  # of `radial` by r
        rise -= radial * (k4 + r * (2 * k5 + 3 * r * k6)) / under
        distorted = np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x),
                y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )
        cross = 2 * x * y * rise + 2 * p1 * x + 2 * p2 * y
        slope = np.stack(
            [
                np.stack([radial + 2 * x * x * rise + 2 * p1 * y + 6 * p2 * x, cross], -1),
                np.stack([cross, radial + 2 * y * y * rise + 6 * p1 * y + 2 * p2 * x], -1),
            ],
            -2,
        )
        return distorted, slope

    def _require_invertible(self) -> None:
        if not any(self.distortion):
            return
        across, down = np.linspace(0, self.width, 9), np.linspace(0, self.height, 9)
        points = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        problem = "the camera's distortion coefficients fold its image; calibrate it again"
        try:
            with np.errstate(all="ignore"):
                rays = self.rays(points)
                missed = np.abs(self.project(rays) - points).max()
                _, slope = self._distort(rays[..., :2])
                unfolded = (np.linalg.det(slope) > 0).all()
        except np.linalg.LinAlgError:
            raise InputError(problem) from None
        if not (missed <= TOLERANCE and unfolded):
            raise InputError(problem)
