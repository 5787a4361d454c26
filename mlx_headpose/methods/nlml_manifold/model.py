"""The manifold: x̂ₘ = Σ W_ijklm · u_i · y_j · p_k · r_l (NLML-HPE)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...errors import InputError
from .cosines import evaluate_cosines, fit_cosines
from .tucker import tucker

RANKS = (5, 3, 3, 3)  # identity, yaw, pitch, roll
ANGLES = ("yaw", "pitch", "roll")
DISTINCT = 1e-5  # the least share of one identity in the faces; the published manifold has 8e-3


@dataclass(frozen=True)
class Manifold:
    """A fitted manifold.

    Attributes:
        core: (R, 3, 3, 3, features) W, the decomposition's core with the features' mode whole.
        cosines: (3 angles, 3 factors, 4): a, b, c, d of each factor.
        factors: rows of the factor matrices: "identity" (n, R), "yaw", "pitch", "roll" (n, 3).
        grid: the angles of the rows in degrees: "yaw", "pitch", "roll".

    `factors` and `grid` serve plots alone and may be empty.
    """

    core: np.ndarray
    cosines: np.ndarray
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    grid: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def compressed(self) -> tuple[np.ndarray, np.ndarray]:
        """W in an orthonormal basis of its own reach, at most R·27 coordinates for all features.

        Returns:
            basis (features, K), and W in it (R, 3, 3, 3, K). The squared error of landmarks x
            against the manifold is that of `x @ basis` plus what lies outside the basis, which no
            pose changes.

        Raises:
            InputError: it holds what is no number, or fewer identities than its factors are.
        """
        if not (np.isfinite(self.core).all() and np.isfinite(self.cosines).all()):
            raise InputError("the manifold holds what is no number; convert or fit it again")
        yaw, pitch, roll = (evaluate_cosines(cosines, np.zeros(())) for cosines in self.cosines)
        # The search starts at the front, where each identity has to look like no other.
        front = np.einsum("ijklm,j,k,l->im", self.core.astype(np.float64), yaw, pitch, roll)
        seen = np.linalg.svd(front, compute_uv=False)
        if len(seen) < len(front) or not seen[-1] > DISTINCT * seen[0]:
            raise InputError(
                "the manifold's identities look alike from the front, so that no search ends; "
                "convert it again, or fit it with fewer ranks of identity"
            )
        flat = self.core.astype(np.float64).reshape(-1, self.core.shape[-1])
        u, size, vt = np.linalg.svd(flat, full_matrices=False)
        kept = size > 1e-7 * size[0]
        coordinates = (u * size)[:, kept]
        return vt[kept].T, coordinates.reshape(*self.core.shape[:-1], -1)

    def reconstruct(self, angles: np.ndarray, identity: np.ndarray) -> np.ndarray:
        """Landmarks at a pose.

        Args:
            angles: (..., 3) yaw, pitch, roll in radians.
            identity: (..., R) identity factors.

        Returns:
            (..., features).
        """
        angles = np.asarray(angles)
        rows = [evaluate_cosines(self.cosines[k], angles[..., k]) for k in range(3)]
        return np.einsum("ijklm,...i,...j,...k,...l->...m", self.core, identity, *rows)


def fit_manifold(
    tensor: np.ndarray,
    grid: dict[str, np.ndarray],
    ranks: tuple[int, ...] = RANKS,
) -> Manifold:
    """Decompose a tensor of landmarks and fit its factors.

    Args:
        tensor: (identities, yaws, pitches, rolls, features), every cell filled.
        grid: "yaw", "pitch", "roll" → the angles of the tensor's rows in degrees.
        ranks: ranks of identity, yaw, pitch and roll.
    """
    core, (identity, *rows) = tucker(tensor, ranks)
    cosines = [
        fit_cosines(row, np.radians(grid[name])) for name, row in zip(ANGLES, rows, strict=True)
    ]
    factors = {"identity": identity, **dict(zip(ANGLES, rows, strict=True))}
    return Manifold(core, np.stack(cosines), factors, grid)
