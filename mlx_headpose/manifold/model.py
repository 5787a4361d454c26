"""The manifold: x̂ₘ = Σ W_ijklm · u_i · y_j · p_k · r_l (NLML-HPE)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import InputError
from ..weights import load_tensors, read_config, save_tensors
from .cosines import evaluate_cosines, fit_cosines
from .tucker import tucker

MODEL_TYPE = "nlml_manifold"
RANKS = (5, 3, 3, 3)  # identity, yaw, pitch, roll
ANGLES = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class Manifold:
    """A fitted manifold.

    Attributes:
        core: (R, 3, 3, 3, features) W, the decomposition's core with the features' mode whole.
        cosines: (3 angles, 3 factors, 4): a, b, c, d of each factor.
        factors: rows of the factor matrices: "identity" (n, R), "yaw", "pitch", "roll" (n, 3).
        grid: the angles of the rows in degrees: "yaw", "pitch", "roll".
        normalization: how its landmarks lost place and size; see `models.nlml.Config`.

    `factors` and `grid` serve plots alone and may be empty.
    """

    core: np.ndarray
    cosines: np.ndarray
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    grid: dict[str, np.ndarray] = field(default_factory=dict)
    normalization: str = "nose"

    @property
    def landmarks(self) -> int:
        """Points per face."""
        return self.core.shape[-1] // 3

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

    def save(self, path: str | Path, **more: Any) -> None:
        """Write a `.safetensors` file, atomically; `more` goes into its config."""
        tensors = {"core": self.core, "cosines": self.cosines}
        tensors |= {f"factors.{name}": value for name, value in self.factors.items()}
        tensors |= {f"grid.{name}": value for name, value in self.grid.items()}
        config = {
            "model_type": MODEL_TYPE,
            "landmarks": self.landmarks,
            "normalization": self.normalization,
        }
        arrays = {name: mx.array(value.astype(np.float32)) for name, value in tensors.items()}
        save_tensors(path, arrays, config | more)


def load_manifold(path: str | Path) -> Manifold:
    """Read what `Manifold.save` or `convert.py` wrote.

    Raises:
        InputError: the file is missing, damaged, or no manifold.
    """
    config = read_config(path)
    if config.get("model_type") != MODEL_TYPE:
        raise InputError(
            f"{path}: holds {config.get('model_type')}, no manifold; give a manifold.safetensors"
        )
    tensors = {name: np.array(value) for name, value in load_tensors(path).items()}
    groups: dict[str, dict[str, np.ndarray]] = {"factors": {}, "grid": {}}
    for name, value in tensors.items():
        group, _, leaf = name.partition(".")
        if leaf and group in groups:
            groups[group][leaf] = value
    core, cosines = tensors.get("core"), tensors.get("cosines")
    if core is None or core.ndim != 5 or cosines is None or cosines.shape != (3, 3, 4):
        raise InputError(f"{path}: lacks the core or the cosines of a manifold; convert it again")
    normalization = str(config.get("normalization"))
    return Manifold(core, cosines, groups["factors"], groups["grid"], normalization)


def fit_manifold(
    tensor: np.ndarray,
    grid: dict[str, np.ndarray],
    ranks: tuple[int, ...] = RANKS,
    normalization: str = "nose",
) -> Manifold:
    """Decompose a tensor of landmarks and fit its factors.

    Args:
        tensor: (identities, yaws, pitches, rolls, features), every cell filled.
        grid: "yaw", "pitch", "roll" → the angles of the tensor's rows in degrees.
        ranks: of identity, yaw, pitch and roll.
        normalization: of the tensor's landmarks.
    """
    core, (identity, *rows) = tucker(tensor, ranks)
    cosines = [
        fit_cosines(row, np.radians(grid[name])) for name, row in zip(ANGLES, rows, strict=True)
    ]
    factors = {"identity": identity, **dict(zip(ANGLES, rows, strict=True))}
    return Manifold(core, np.stack(cosines), factors, grid, normalization)
