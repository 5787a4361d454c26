"""TokenHPE in PyTorch, under the published names, to compare with."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mlx_headpose.methods.tokenhpe.network import Config


def attend(qkv: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
    """(N, T, 3·width) → (N, T, width) by PyTorch's fused attention."""
    n, tokens, _ = qkv.shape
    q, k, v = qkv.reshape(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    x = functional.scaled_dot_product_attention(q, k, v, scale=scale)
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        return self.proj(attend(self.qkv(x), self.heads, self.scale))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, 1e-6)
        self.mlp = MLP(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Backbone(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        size = config.vit
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + size.grid**2, size.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size.width, size.patch, size.patch)})
        self.blocks = nn.Sequential(*(Block(size.width, size.heads) for _ in range(size.depth)))
        self.norm = nn.LayerNorm(size.width, 1e-6)
        self.head = nn.Linear(size.width, 6)  # published, and never used

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 1:]


class TokenAttention(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = dim**-0.5
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x):
        return self.to_out(attend(self.to_qkv(x), self.heads, self.scale))


class Residual(nn.Module):
    """x + fn(norm(x)), nested as the published names are."""

    def __init__(self, dim: int, inner: nn.Module):
        super().__init__()
        self.fn = nn.ModuleDict({"norm": nn.LayerNorm(dim), "fn": inner})

    def forward(self, x):
        return x + self.fn["fn"](self.fn["norm"](x))


def feed_forward(dim: int) -> nn.Module:
    layers = (nn.Linear(dim, 3 * dim), nn.GELU(), nn.Identity(), nn.Linear(3 * dim, dim))
    module = nn.Module()
    module.net = nn.Sequential(*layers)
    module.forward = module.net.forward
    return module


class OrientationBlocks(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        dim = config.dim
        self.ori_tokens = nn.Parameter(torch.zeros(1, config.regions, dim))
        self.pos_embedding = nn.Parameter(
            torch.zeros(1, config.vit.grid**2, dim), requires_grad=False
        )
        self.patch_to_embedding = nn.Linear(config.width, dim)
        pairs = (
            nn.ModuleList(
                [
                    Residual(dim, TokenAttention(dim, config.heads)),
                    Residual(dim, feed_forward(dim)),
                ]
            )
            for _ in range(config.layers)
        )
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(pairs)})
        self.to_dir_6_d = nn.Sequential(nn.Linear(dim, 6))

    def forward(self, x):
        x = self.patch_to_embedding(x) + self.pos_embedding
        x = torch.cat([self.ori_tokens.expand(len(x), -1, -1), x], 1)
        for attention, mlp in self.transformer["layers"]:
            x = mlp(attention(x))
        return rotations(self.to_dir_6_d(x[:, : self.ori_tokens.shape[1]]))


def rotations(six: torch.Tensor) -> torch.Tensor:
    """(..., 6) → (..., 3, 3) by Gram and Schmidt's process."""
    x = functional.normalize(six[..., :3], dim=-1)
    z = functional.normalize(torch.linalg.cross(x, six[..., 3:]), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


class TorchTokenHPE(nn.Module):
    """(N, 3, H, W) → the final R (N, 3, 3) and the regions' (N, regions, 3, 3)."""

    def __init__(self, config: Config):
        super().__init__()
        self.feature_extractor = Backbone(config)
        self.Ori_blocks = OrientationBlocks(config)
        entries = 9 * config.regions
        self.mlp_head = nn.Sequential(
            nn.Linear(entries, 3 * entries), nn.Tanh(), nn.Linear(3 * entries, 6)
        )

    def forward(self, images):
        own = self.Ori_blocks(self.feature_extractor(images))
        return rotations(self.mlp_head(own.flatten(1))), own


def loss(outputs, true: torch.Tensor, region: torch.Tensor, alpha: float) -> torch.Tensor:
    """Geodesic distances by the arc cosine, kept off its ends as the published code does."""

    def distance(a, b):
        cosine = ((a * b).sum((-1, -2)) - 1) / 2
        return cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos().mean()

    final, own = outputs
    own = own[torch.arange(len(own)), region]
    return alpha * distance(final, true) + (1 - alpha) * distance(own, true)
