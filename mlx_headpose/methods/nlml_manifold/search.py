"""Pose by searching on the manifold: the angles and the identity that best explain the landmarks.

`search_powell` is the published slow inference, one face at a time, without derivatives.
`search_batch` minimises the same error for many faces at once, with exact derivatives.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from .cosines import evaluate_cosines
from .model import Manifold


def search_powell(manifold: Manifold, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Powell's method over three angles and the identity, from zeros, as published.

    Args:
        manifold: a fitted manifold.
        landmarks: (features,) or (N, features), normalised as the manifold's were.

    Returns:
        (..., 3) yaw, pitch, roll in degrees, and (..., R) identity factors; NaN where landmarks
        are no numbers.
    """
    basis, core = manifold.compressed
    with np.errstate(invalid="ignore"):  # NaN says it
        reach = np.atleast_2d(landmarks).astype(np.float64) @ basis
    found = np.stack([_powell(core, manifold.cosines, x) for x in reach])
    found = found.reshape(*np.shape(landmarks)[:-1], -1)
    return np.degrees(found[..., :3]), found[..., 3:]


def _powell(core: np.ndarray, cosines: np.ndarray, x: np.ndarray) -> np.ndarray:
    flat = core.reshape(len(core), -1, core.shape[-1])

    def error(parameters: np.ndarray) -> float:
        yaw, pitch, roll = (evaluate_cosines(cosines[k], parameters[k]) for k in range(3))
        pose = np.multiply.outer(np.multiply.outer(yaw, pitch), roll).ravel()
        return 0.5 * float(np.sum((x - parameters[3:] @ (pose @ flat)) ** 2))

    from scipy.optimize import minimize  # half a second, for searches alone

    start = np.zeros(3 + len(core))
    if not np.isfinite(error(start)):
        return np.full_like(start, np.nan)
    return minimize(error, start, method="Powell").x


def search_batch(
    manifold: Manifold, landmarks: np.ndarray, iterations: int = 50, tolerance: float = 1e-6
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the same error for many faces at once by Levenberg-Marquardt in MLX.

    The search starts at the front with the identity that fits best there. All of it is computed on
    the CPU, where MLX factorises matrices: a step on a GPU would wait for both devices in turn.

    Args:
        manifold: a fitted manifold.
        landmarks: (N, features), normalised as the manifold's were.
        iterations: most steps to take.
        tolerance: stop when no face's angles move by more than this many radians.

    Returns:
        (N, 3) yaw, pitch, roll in degrees, and (N, R) identity factors; NaN where landmarks are no
        numbers.
    """
    with mx.stream(mx.cpu):
        return _search_batch(manifold, landmarks, iterations, tolerance)


def _search_batch(
    manifold: Manifold, landmarks: np.ndarray, iterations: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    basis, core = manifold.compressed
    with np.errstate(invalid="ignore"):  # NaN says it
        problem = _Problem(core, manifold.cosines, np.asarray(landmarks) @ basis)
    angles = mx.zeros((len(landmarks), 3))
    identity = _solve(*problem.identity_system(angles))
    damping = mx.full((len(landmarks), 1), 1e-3)
    error, normal, gradient = problem.linearise(angles, identity)
    for _ in range(iterations):
        diagonal = mx.diagonal(normal, axis1=1, axis2=2) * damping + 1e-12
        step = _solve(normal + diagonal[..., None] * mx.eye(diagonal.shape[1]), gradient)
        trial = angles + step[:, :3], identity + step[:, 3:]
        candidate = problem.linearise(*trial)
        better = candidate[0] <= error
        angles = mx.where(better[:, None], trial[0], angles)
        identity = mx.where(better[:, None], trial[1], identity)
        error = mx.where(better, candidate[0], error)
        normal = mx.where(better[:, None, None], candidate[1], normal)
        gradient = mx.where(better[:, None], candidate[2], gradient)
        damping = mx.clip(damping * mx.where(better, 0.1, 10.0)[:, None], 1e-7, 1e7)
        mx.eval(angles, identity, error, normal, gradient, damping)
        if mx.all(mx.abs(step[:, :3]) < tolerance).item():
            break
    angles = mx.where(mx.isfinite(error)[:, None], angles, mx.nan)
    return np.degrees(np.array(angles)), np.array(identity)


def _solve(matrix: mx.array, vector: mx.array) -> mx.array:
    """(N, n, n), (N, n) → (N, n)."""
    return mx.linalg.solve(matrix, vector[..., None]).squeeze(-1)


class _Problem:
    """Squared error of N faces against the manifold, and its exact derivatives."""

    def __init__(self, core: np.ndarray, cosines: np.ndarray, faces: np.ndarray):
        self.core = mx.array(core.reshape(len(core), 27, -1).astype(np.float32))  # (R, 27, K)
        self.cosines = mx.array(cosines.astype(np.float32))
        self.faces = mx.array(faces.astype(np.float32))  # (N, K)

    def identity_basis(self, pose: mx.array) -> mx.array:
        """(N, 27) products of factors → (N, R, K): the face of each identity factor."""
        count, rank = len(pose), len(self.core)
        return (pose @ self.core.transpose(1, 0, 2).reshape(27, -1)).reshape(count, rank, -1)

    def identity_system(self, angles: mx.array) -> tuple[mx.array, mx.array]:
        """Normal equations of the best identity at given angles."""
        basis = self.identity_basis(self.pose(angles)[0])
        return basis @ basis.transpose(0, 2, 1), (basis @ self.faces[..., None]).squeeze(-1)

    def pose(self, angles: mx.array) -> tuple[mx.array, mx.array]:
        """(N, 3) radians → products of factors (N, 27), and their derivatives (N, 3, 27)."""
        a, b, c, d = mx.moveaxis(self.cosines, -1, 0)  # each (3 angles, 3 factors)
        phase = b * angles[..., None] + c
        value, slope = a * mx.cos(phase) + d, -a * b * mx.sin(phase)
        rows = [value[:, k] for k in range(3)]
        slopes = [
            _outer(*(slope[:, k] if k == turned else rows[k] for k in range(3)))
            for turned in range(3)
        ]
        return _outer(*rows), mx.stack(slopes, axis=1)

    def linearise(
        self, angles: mx.array, identity: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Error (N,), JᵀJ (N, 3 + R, 3 + R) and Jᵀr (N, 3 + R) at a point."""
        pose, slopes = self.pose(angles)
        basis = self.identity_basis(pose)
        residual = self.faces - (identity[:, None] @ basis).squeeze(1)
        blend = (identity @ self.core.reshape(len(self.core), -1)).reshape(len(pose), 27, -1)
        jacobian = mx.concatenate([slopes @ blend, basis], axis=1)  # (N, 3 + R, K)
        return (
            (residual**2).sum(axis=-1),
            jacobian @ jacobian.transpose(0, 2, 1),
            (jacobian @ residual[..., None]).squeeze(-1),
        )


def _outer(yaw: mx.array, pitch: mx.array, roll: mx.array) -> mx.array:
    """(N, 3) each → (N, 27)."""
    pairs = (yaw[:, :, None] * pitch[:, None]).reshape(-1, 9)
    return (pairs[:, :, None] * roll[:, None]).reshape(-1, 27)
