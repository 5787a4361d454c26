"""NLML-HPE's slow inference as an estimator: no network, but a search on the fitted manifold.

`train.py --model nlml` writes one of these beside its network, and `convert.py` makes one of the
published Tucker files, so `test.py` and `predict.py` read it like any snapshot.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...core.crop import finite
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead
from ...errors import InputError
from ..nlml.inputs import LandmarkInput
from ..nlml.network import check_landmarks, normalize_landmarks
from . import ANGLES, Manifold, search_batch, search_powell
from .model import RANKS


@dataclass(frozen=True)
class Config(ModelConfig):
    """Shapes of a manifold, and how it is searched."""

    model_type: ClassVar[str] = "nlml_manifold"
    compiles: ClassVar[bool] = False

    landmarks: int = 468
    normalization: str = "nose"
    ranks: tuple[int, ...] = RANKS  # identity, yaw, pitch, roll
    rows: tuple[int, ...] = (0, 0, 0, 0)  # of the factor matrices; 0 where they are not kept
    limits: tuple[float, ...] = (50.0, 40.0, 30.0)  # largest yaw, pitch, roll of the tensor
    search: str = "batch"  # all faces at once; or "powell", one by one, as published

    def __post_init__(self) -> None:
        check_landmarks(self.landmarks, self.normalization)
        sizes = (*self.ranks, *self.rows)
        whole = all(type(n) is int and 0 <= n < 1 << 20 for n in sizes)
        fits = len(self.ranks) == len(self.rows) == 4 and tuple(self.ranks[1:]) == RANKS[1:]
        if not (whole and fits and self.ranks[0]):
            raise InputError(f"a manifold cannot have ranks {self.ranks} and rows {self.rows}")
        if self.search not in ("batch", "powell"):
            raise InputError(f"unknown search {self.search!r}: batch or powell")
        if len(self.limits) != 3 or not all(map(finite, self.limits)):
            raise InputError(f"a manifold has limits of three angles, not {self.limits}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """See `ModelConfig.from_dict`; files of versions before 2 have `reach` for `limits`."""
        old = {"limits" if key == "reach" else key: value for key, value in values.items()}
        return super().from_dict(old)

    @property
    def inputs(self) -> LandmarkInput:
        """Landmarks of a face."""
        return LandmarkInput(self.landmarks)


class Tucker(nn.Module):
    """The tensors of a manifold."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.core = mx.zeros((*config.ranks, 3 * config.landmarks))
        self.cosines = mx.zeros((3, 3, 4))
        names = ("identity", *ANGLES)
        sizes = dict(zip(names, zip(config.rows, config.ranks, strict=True), strict=True))
        self._made: tuple[mx.array, mx.array, Manifold] | None = None
        # Only plots read these.
        self.factors = {name: mx.zeros(size) for name, size in sizes.items() if size[0]}
        self.grid = {name: mx.zeros(sizes[name][0]) for name in ANGLES if sizes[name][0]}

    def __call__(self, landmarks: mx.array) -> tuple[mx.array, Manifold]:
        """(N, L, 3) landmarks in image axes, or (N, 3·L) already normalised.

        Returns (N, 3·L) normalised landmarks, and the manifold to search.
        """
        if landmarks.ndim == 3:
            landmarks = normalize_landmarks(landmarks, self.config.normalization)
        return landmarks, self.manifold()

    def manifold(self) -> Manifold:
        """The tensors as NumPy arrays, made once for each set of tensors."""
        made = self._made
        if made is None or made[0] is not self.core or made[1] is not self.cosines:
            manifold = Manifold(
                np.array(self.core),
                np.array(self.cosines),
                {name: np.array(value) for name, value in self.factors.items()},
                {name: np.array(value) for name, value in self.grid.items()},
            )
            made = self._made = (self.core, self.cosines, manifold)
        return made[2]


class SearchHead(PoseHead):
    """Landmarks → the pose that explains them best."""

    def __init__(self, search: str):
        super().__init__()
        self.search = {"batch": search_batch, "powell": search_powell}[search]

    def __call__(self, features: tuple[mx.array, Manifold]) -> Outputs:
        """Landmarks and manifold → (N, 3) yaw, pitch, roll in degrees, and (N, R) identities."""
        landmarks, manifold = features
        pose, identity = self.search(manifold, np.array(landmarks))
        return mx.array(pose.astype(np.float32)), mx.array(identity.astype(np.float32))

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """A manifold has nothing to train."""
        raise InputError("a manifold is fitted, not trained; use train.py --model nlml")

    def decode(self, outputs: Outputs) -> mx.array:
        return outputs[0]


def manifold_of(model: Estimator) -> Manifold:
    """The manifold that an estimator searches.

    Raises:
        InputError: it is a network.
    """
    if not isinstance(model.backbone, Tucker):
        raise InputError(f"this is a {model.config.model_type} network, no manifold")
    return model.backbone.manifold()


def config_of(manifold: Manifold, normalization: str) -> Config:
    """The config of a manifold."""
    rows = [len(manifold.factors.get(name, ())) for name in ("identity", *ANGLES)]
    *ranks, features = manifold.core.shape
    config = Config(
        landmarks=features // 3, normalization=normalization, ranks=tuple(ranks), rows=tuple(rows)
    )
    if not manifold.grid:
        return config
    limits = tuple(float(np.abs(manifold.grid[name]).max()) for name in ANGLES)
    return dataclasses.replace(config, limits=limits)


def tensors_of(manifold: Manifold) -> dict[str, np.ndarray]:
    """A manifold's tensors by the estimator's names."""
    tensors = {"core": manifold.core, "cosines": manifold.cosines}
    tensors |= {f"factors.{name}": value for name, value in manifold.factors.items()}
    tensors |= {f"grid.{name}": value for name, value in manifold.grid.items()}
    return {f"backbone.{name}": value.astype(np.float32) for name, value in tensors.items()}


def estimator_of(manifold: Manifold, normalization: str) -> Estimator:
    """An estimator that searches a manifold."""
    config = config_of(manifold, normalization)
    model = build(config)
    tensors = tensors_of(manifold)
    model.load_weights([(name, mx.array(value)) for name, value in tensors.items()])
    return model


def build(config: Config) -> Estimator:
    """The estimator, its manifold empty."""
    return Estimator(config, Tucker(config), SearchHead(config.search))
