"""TokenHPE (Zhang et al., CVPR 2023): orientation tokens on a Vision Transformer.

"TokenHPE: Learning Orientation Tokens for Efficient Head Pose Estimation via Transformers". The
poses are divided into 9 or 11 regions by yaw and pitch, and each region has a learned token. The
tokens look at the image's in three transformer blocks; then each gives a rotation of its own, and
an MLP over all of these gives the final one. Every rotation is R = Rz(roll) · Ry(yaw) · Rx(pitch).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ...backbones.vit import MLP, STEMS, ViT, ViTSize, join_heads, split_heads
from ...core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe, option
from ...core.preprocessing import Preprocessing
from ...errors import InputError
from ...pose import geodesic_radians, pose_to_r, r_to_pose, rotation_6d_to_matrix

TOKEN_MLP_RATIO = 3
PITCH_CUT = 30.0  # degrees, between the rows of regions
# Number of regions → where yaw cuts each row, from its positive end; rows from upward to downward.
YAW_CUTS = {
    9: ((40.0, -40.0), (40.0, -40.0), (40.0, -40.0)),
    11: ((40.0, -40.0), (60.0, 20.0, -20.0, -60.0), (40.0, -40.0)),
}


@dataclass(frozen=True)
class Config(ModelConfig):
    """TokenHPE; the defaults are TokenHPEv1-ViTB-224_224-lyr3's."""

    model_type: ClassVar[str] = "tokenhpe"
    recipe: ClassVar[Recipe] = Recipe(
        lr=1e-5, lr_scratch=5e-4, batch_size=64, epochs=60, milestones=(20, 40)
    )
    legacy_errors: ClassVar[bool] = True
    # Learns in minutes on a CPU. The final rotation is made of the tokens' alone, so from random
    # weights they must learn first: with alpha 0.95 nothing moves for thousands of images.
    small: ClassVar[dict[str, Any]] = {
        **ModelConfig.small,
        "width": 96,
        "depth": 2,
        "backbone_heads": 2,
    }
    quick: ClassVar[dict[str, Any]] = {
        "stem": "resnet",
        "width": 128,
        "depth": 1,
        "backbone_heads": 4,
        "layers": 1,
        "alpha": 0.3,
    }

    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(resize_to=250))
    regions: int = option(9, "orientation tokens", choices=tuple(YAW_CUTS))
    alpha: float = option(0.95, "weight of the final rotation in the loss; the region's has 1 - it")
    patch: int = option(16, "side in pixels of the square that an image token stands for")
    width: int = option(768, "width of the Vision Transformer")
    depth: int = option(12, "its blocks")
    backbone_heads: int = option(12, "its attention heads")
    stem: str = option(
        "patch",
        "how pixels become tokens: by patches, as published, or by a ResNet-18's stages, which "
        "learn much faster from random weights",
        choices=STEMS,
    )
    dim: int = option(128, "width of the orientation tokens")
    layers: int = option(3, "blocks over the orientation tokens")
    heads: int = option(8, "their attention heads")

    def __post_init__(self) -> None:
        if self.regions not in YAW_CUTS:
            raise InputError(f"tokenhpe has 9 or 11 regions, not {self.regions}")
        if not 0 <= self.alpha <= 1:
            raise InputError(f"alpha {self.alpha} is not in 0..1")
        if not 1 <= self.layers <= 64 or not 4 <= self.dim <= 4096:
            raise InputError(f"{self.layers} token blocks of width {self.dim} are impossible")
        if self.heads < 1 or self.dim % self.heads or self.dim % 4:
            raise InputError(f"token width {self.dim} must be a multiple of 4 and of {self.heads}")

    @property
    def vit(self) -> ViTSize:
        """The backbone's measures.

        Raises:
            InputError: they do not fit each other or the input.
        """
        return ViTSize(
            image=self.preprocessing.size,
            patch=self.patch,
            width=self.width,
            depth=self.depth,
            heads=self.backbone_heads,
            stem=self.stem,
        )


def region_of(pose: mx.array, regions: int) -> mx.array:
    """Number of the region in which a pose lies.

    Regions are numbered row by row from the heads that look up (pitch above 30°), and within a
    row from positive to negative yaw. A pose on a border belongs to the more central side.

    Args:
        pose: (N, 3) yaw, pitch, roll in degrees.
        regions: 9 or 11.

    Returns:
        (N,) int32.
    """
    yaw, pitch = pose[:, 0], pose[:, 1]
    first, numbers = 0, []
    for cuts in YAW_CUTS[regions]:
        column = sum(yaw <= cut if cut > 0 else yaw < cut for cut in cuts)
        numbers.append(first + column)
        first += len(cuts) + 1
    up, middle, down = numbers
    return mx.where(pitch > PITCH_CUT, up, mx.where(pitch < -PITCH_CUT, down, middle))


def sine_embedding(grid: int, dim: int) -> mx.array:
    """(grid², dim) fixed positions of image tokens, row by row.

    Rows and columns are numbered from 1 and scaled to a full turn. The first half of the dimensions
    tells the row by sines and cosines of falling frequency, the second half the column.
    """
    half = dim // 2
    turn = mx.arange(1, grid + 1) / (grid + 1e-6) * (2 * math.pi)
    index = mx.arange(half)
    angle = turn[:, None] / 10000 ** (2 * (index // 2) / half)  # (grid, half)
    wave = mx.where(index % 2 == 0, mx.sin(angle), mx.cos(angle))
    rows = mx.broadcast_to(wave[:, None], (grid, grid, half))
    columns = mx.broadcast_to(wave[None], (grid, grid, half))
    return mx.concatenate([rows, columns], axis=-1).reshape(grid * grid, dim)


class TokenAttention(nn.Module):
    """Self-attention as TokenHPE has it: no bias, scaled by the full width's square root."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def __call__(self, x: mx.array) -> mx.array:
        q, k, v = split_heads(self.qkv(x), self.heads)
        x = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out(join_heads(x))

    def weights(self, x: mx.array) -> mx.array:
        """(N, T, dim) → (N, heads, T, T): how much each token looks at each, rows sum to 1."""
        q, k, _ = split_heads(self.qkv(x), self.heads)
        return mx.softmax(self.scale * q @ k.swapaxes(-1, -2), axis=-1, precise=True)


class TokenBlock(nn.Module):
    """Attention, then MLP, each added to what came in."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TokenAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, TOKEN_MLP_RATIO * dim)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenHead(PoseHead):
    """Image tokens (N, grid², width) → the final R (N, 3, 3), the regions' (N, regions, 3, 3)."""

    def __init__(self, config: Config):
        super().__init__()
        self.regions = config.regions
        self.alpha = config.alpha
        self.project = nn.Linear(config.width, config.dim)
        # The underscore keeps it out of the parameters: it is computed, not learned.
        self._position = sine_embedding(config.vit.grid, config.dim)
        self.tokens = 0.02 * mx.random.normal((1, config.regions, config.dim))
        self.blocks = [TokenBlock(config.dim, config.heads) for _ in range(config.layers)]
        self.rotation = nn.Linear(config.dim, 6)
        entries = 9 * config.regions
        self.fc1 = nn.Linear(entries, 3 * entries)
        self.fc2 = nn.Linear(3 * entries, 6)

    def __call__(self, features: mx.array) -> Outputs:
        x = self.embed(features)  # (N, regions + grid², dim)
        for block in self.blocks:
            x = block(x)
        return self.decide(x)

    def decide(self, x: mx.array) -> Outputs:
        """Tokens (N, regions + grid², dim) after the last block → the rotations."""
        rotations = rotation_6d_to_matrix(self.rotation(x[:, : self.regions]))
        six = self.fc2(mx.tanh(self.fc1(rotations.flatten(1))))
        return rotation_6d_to_matrix(six), rotations

    def embed(self, features: mx.array) -> mx.array:
        """Image tokens (N, grid², width) → orientation and image tokens before the first block."""
        x = self.project(features)
        x = x + self._position.astype(x.dtype)
        first = mx.broadcast_to(self.tokens, (len(x), *self.tokens.shape[1:]))
        return mx.concatenate([first.astype(x.dtype), x], axis=1)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Mean geodesic distance in radians: α · the final R's + (1 − α) · the region's own R's.

        The region is that of the pose as it is, mirrored if the image is. (The published loader
        mirrors the matrix but takes the region from the angles before.)
        """
        final, rotations = outputs
        true = pose_to_r(pose)
        region = region_of(pose, self.regions)
        own = mx.take_along_axis(rotations, region[:, None, None, None], axis=1)[:, 0]
        parts = {
            "final": geodesic_radians(final, true).mean(),
            "region": geodesic_radians(own, true).mean(),
        }
        return self.alpha * parts["final"] + (1 - self.alpha) * parts["region"], parts

    def decode(self, outputs: Outputs) -> mx.array:
        return r_to_pose(outputs[0])


def build(config: Config) -> Estimator:
    """The network with random weights."""
    return Estimator(config, ViT(config.vit), TokenHead(config))
