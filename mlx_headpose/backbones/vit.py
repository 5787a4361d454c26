"""Vision Transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929), as timm has it.

An image becomes a row of tokens, one per patch and a class token in front, and every block lets
each token look at all others. Layer norms come before attention and MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..errors import InputError
from ..nn import Conv2d
from .resnet import ResNet

EPSILON = 1e-6
MLP_RATIO = 4
STEMS = ("patch", "resnet")


@dataclass(frozen=True)
class ViTSize:
    """The network's measures; the defaults are ViT-B/16's.

    Attributes:
        image: side of the square input in pixels.
        patch: side of the square that a token stands for, in pixels.
        width: numbers in a token.
        depth: blocks.
        heads: heads of the attention.
        stem: "patch" projects every patch by itself. "resnet" is the paper's hybrid (section 3.1):
            the tokens are pixels of a ResNet's feature map, which learns much faster from little
            data.
    """

    image: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    stem: str = "patch"

    def __post_init__(self) -> None:
        measures = (self.image, self.patch, self.width, self.depth, self.heads)
        if min(measures) < 1 or self.width > 4096 or self.depth > 64:
            raise InputError(f"no Vision Transformer has the measures {measures}")
        if self.image % self.patch:
            raise InputError(
                f"input size {self.image} is no multiple of the patch size {self.patch}"
            )
        if self.width % self.heads:
            raise InputError(f"width {self.width} is no multiple of {self.heads} heads")
        if self.stem not in STEMS:
            raise InputError(f"unknown stem {self.stem!r}; choose one of: {', '.join(STEMS)}")
        if self.stem == "resnet" and self.patch not in (4, 8, 16, 32):
            raise InputError(f"a resnet stem needs patches of 4, 8, 16 or 32 px, not {self.patch}")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image // self.patch


class PatchEmbedding(nn.Module):
    """(N, H, W, 3) → (N, h·w, width), row by row: a linear layer on each patch."""

    def __init__(self, size: ViTSize):
        super().__init__()
        self.proj = Conv2d(3, size.width, size.patch, size.patch)

    def __call__(self, x: mx.array) -> mx.array:
        return self.proj(x).flatten(1, 2)


class ResNetStem(nn.Module):
    """(N, H, W, 3) → (N, h·w, width): a ResNet-18 cut where a pixel stands for a patch."""

    def __init__(self, size: ViTSize):
        super().__init__()
        self.resnet = ResNet(18, stages=size.patch.bit_length() - 2)
        self.proj = nn.Linear(self.resnet.channels, size.width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.proj(self.resnet(x)).flatten(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, size: ViTSize):
        super().__init__()
        self.heads = size.heads
        self.scale = (size.width // size.heads) ** -0.5
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)

    def __call__(self, x: mx.array) -> mx.array:
        q, k, v = split_heads(self.qkv(x), self.heads)
        x = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(join_heads(x))


def split_heads(qkv: mx.array, heads: int) -> mx.array:
    """(N, T, 3·width) → queries, keys and values, each (N, heads, T, width / heads)."""
    n, tokens, _ = qkv.shape
    return qkv.reshape(n, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)


def join_heads(x: mx.array) -> mx.array:
    """(N, heads, T, width / heads) → (N, T, width)."""
    return x.transpose(0, 2, 1, 3).flatten(2)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(nn.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then MLP, each added to what came in."""

    def __init__(self, size: ViTSize):
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, EPSILON)
        self.attn = Attention(size)
        self.norm2 = nn.LayerNorm(size.width, EPSILON)
        self.mlp = MLP(size.width, MLP_RATIO * size.width)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """(N, H, W, 3) → (N, h·w, width): the image tokens after the last norm.

    The class token takes part in the attention and is then dropped.
    """

    def __init__(self, size: ViTSize):
        super().__init__()
        stem = ResNetStem if size.stem == "resnet" else PatchEmbedding
        self.patch_embed = stem(size)
        self.cls_token = mx.zeros((1, 1, size.width))
        self.pos_embed = 0.02 * mx.random.normal((1, 1 + size.grid**2, size.width))
        self.blocks = [Block(size) for _ in range(size.depth)]
        self.norm = nn.LayerNorm(size.width, EPSILON)

    def __call__(self, images: mx.array) -> mx.array:
        x = self.patch_embed(images)  # (N, h·w, width)
        if 1 + x.shape[1] != self.pos_embed.shape[1]:
            raise InputError(
                f"this Vision Transformer has {self.pos_embed.shape[1] - 1} positions and cannot "
                f"read inputs of {images.shape[2]} px; leave the input size as it was in training"
            )
        first = mx.broadcast_to(self.cls_token, (len(x), 1, x.shape[-1]))
        x = mx.concatenate([first.astype(x.dtype), x], axis=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 1:]
