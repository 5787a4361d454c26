"""TokenHPE's published checkpoint, and timm's Vision Transformers as backbones for it."""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...backbones.vit import ViT
from ...core.checkpoint import (
    Conversion,
    Format,
    Published,
    Tensors,
    in_mlx_layout,
    renamed,
    torch_conv_weight,
)
from ...core.preprocessing import Preprocessing
from ...errors import InputError
from ...weights import tensors_of
from .. import build
from .network import Config, sine_embedding

# Our module's name → its name in the published code.
NAMES = [
    (r"^backbone\.", r"feature_extractor."),
    (r"^head\.tokens", r"Ori_blocks.ori_tokens"),
    (r"^head\.project\.", r"Ori_blocks.patch_to_embedding."),
    (r"^head\.blocks\.(\d+)\.norm1\.", r"Ori_blocks.transformer.layers.\1.0.fn.norm."),
    (r"^head\.blocks\.(\d+)\.attn\.qkv\.", r"Ori_blocks.transformer.layers.\1.0.fn.fn.to_qkv."),
    (r"^head\.blocks\.(\d+)\.attn\.out\.", r"Ori_blocks.transformer.layers.\1.0.fn.fn.to_out.0."),
    (r"^head\.blocks\.(\d+)\.norm2\.", r"Ori_blocks.transformer.layers.\1.1.fn.norm."),
    (r"^head\.blocks\.(\d+)\.mlp\.fc1\.", r"Ori_blocks.transformer.layers.\1.1.fn.fn.net.0."),
    (r"^head\.blocks\.(\d+)\.mlp\.fc2\.", r"Ori_blocks.transformer.layers.\1.1.fn.fn.net.3."),
    (r"^head\.rotation\.", r"Ori_blocks.to_dir_6_d.0."),
    (r"^head\.fc1\.", r"mlp_head.0."),
    (r"^head\.fc2\.", r"mlp_head.2."),
]
BACKBONE = "feature_extractor."
POSITION = "Ori_blocks.pos_embedding"
# In timm's Vision Transformers a head is 64 wide up to the large one, and the larger have 16, too.
HEAD_WIDTH = 64
MAX_HEADS = 16
TOKEN_HEADS = 8


def _blocks(tensors: Tensors, pattern: str) -> int:
    """How many blocks have a tensor of this name, with the block's number as (\\d+)."""
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def _backbone_fields(tensors: Tensors, prefix: str = "") -> dict[str, Any]:
    """The config fields that a Vision Transformer's tensors tell."""
    width, _, patch, _ = tensors[f"{prefix}patch_embed.proj.weight"].shape
    return {
        "patch": patch,
        "width": width,
        "depth": _blocks(tensors, re.escape(prefix) + r"blocks\.(\d+)\.norm1\.weight"),
        "backbone_heads": min(width // HEAD_WIDTH, MAX_HEADS),
    }


def _image_size(tensors: Tensors, patch: int, prefix: str = "") -> int:
    _, positions, _ = tensors[f"{prefix}pos_embed"].shape
    grid = round(max(positions - 1, 0) ** 0.5)
    if grid * grid != positions - 1:
        raise InputError(f"{prefix}pos_embed has {positions} positions: no class and square grid")
    return grid * patch


def _fill(
    tensors: Tensors, ours: dict[str, tuple[int, ...]], names: dict[str, str]
) -> dict[str, np.ndarray]:
    """Our tensors from the source's by `names` (ours → theirs)."""
    filled = {}
    for name in ours:
        value = tensors[names[name]]
        filled[name] = in_mlx_layout(value)
    return filled


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in tensors_of(module).items()}


def _convert_trained(tensors: Tensors) -> Conversion:
    fields = _backbone_fields(tensors, BACKBONE)
    size = _image_size(tensors, fields["patch"], BACKBONE)
    _, regions, dim = tensors["Ori_blocks.ori_tokens"].shape
    layers = _blocks(tensors, r"Ori_blocks\.transformer\.layers\.(\d+)\.0\.fn\.norm\.weight")
    config = Config(
        preprocessing=Preprocessing(resize_to=250).at_size(size),
        regions=regions,
        dim=dim,
        layers=layers,
        heads=TOKEN_HEADS,
        **fields,
    )
    expected = _shapes(build(config))
    names = {name: renamed(name, NAMES) for name in expected}
    left_out = {name: _why_left_out(name, tensors, config) for name in tensors}
    for name in names.values():
        left_out.pop(name, None)
    label = f"TokenHPE, {regions} orientation tokens, ViT {fields['width']} wide and"
    label = f"{label} {fields['depth']} deep, PyTorch"
    return Conversion(label, config.to_dict(), _fill(tensors, expected, names), left_out)


def _why_left_out(name: str, tensors: Tensors, config: Config) -> str:
    if name.startswith(f"{BACKBONE}head."):
        return "the backbone's own output, which TokenHPE never uses"
    if name != POSITION:
        return "is no part of TokenHPE"
    sine = np.array(sine_embedding(config.vit.grid, config.dim))
    if (
        tensors[name].size == sine.size
        and np.abs(tensors[name].reshape(sine.shape) - sine).max() < 1e-3
    ):
        return "a fixed sine, which the network computes"
    return "the network computes the fixed sine embedding instead; the file's is another"


def to_torch(config: dict[str, Any], tensors: dict[str, mx.array]) -> dict[str, Any]:
    """Our tensors → the checkpoint that the published PyTorch code loads strictly, to test.

    Args:
        config: `ModelConfig.to_dict()` of the network.
        tensors: our name → array.

    Returns:
        {"epoch": 0, "model_state_dict": the state dict}. The backbone's own output, which the
        published network has and never uses, is zero.

    Raises:
        InputError: the network has a ResNet stem, which the published code lacks.
    """
    if config["stem"] != "patch":
        raise InputError("the published TokenHPE has no resnet stem; choose --format safetensors")
    published: dict[str, Any] = {}
    for name, value in tensors.items():
        array = np.array(value.astype(mx.float32))
        published[renamed(name, NAMES)] = torch_conv_weight(array) if array.ndim == 4 else array
    published[POSITION] = np.array(
        sine_embedding(config["preprocessing"]["size"] // config["patch"], config["dim"])
    )[None]
    published[f"{BACKBONE}head.weight"] = np.zeros((6, config["width"]), np.float32)
    published[f"{BACKBONE}head.bias"] = np.zeros(6, np.float32)
    return {"epoch": 0, "model_state_dict": published}


def _convert_backbone(tensors: Tensors) -> Conversion:
    fields = _backbone_fields(tensors)
    size = _image_size(tensors, fields["patch"])
    config = Config(preprocessing=Preprocessing(size=size), **fields)
    network = ViT(config.vit)
    expected = _shapes(network)
    left_out = {name: "classifies ImageNet's classes" for name in tensors if name not in expected}
    return Conversion(
        f"Vision Transformer {fields['width']} wide and {fields['depth']} deep, ImageNet, PyTorch",
        {"model_type": "backbone", **fields},
        _fill(tensors, expected, {name: name for name in expected}),
        left_out,
        network,
    )


FORMATS = [
    Format(
        "TokenHPE (PyTorch)",
        lambda tensors: "Ori_blocks.ori_tokens" in tensors,
        _convert_trained,
    ),
    Format(
        "Vision Transformer of timm (PyTorch)",
        lambda tensors: {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= tensors.keys(),
        _convert_backbone,
    ),
]


PUBLISHED = [
    Published(
        "imagenet21k-vit-b16",
        "backbone vit_b16",
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"
        "jx_vit_base_patch16_224_in21k-e5005f0a.pth",
        ("sha256_prefix", "e5005f0a"),
        "Apache-2.0",
    ),
    Published(
        "tokenhpe-vitb16-lyr3",
        "tokenhpe",
        page="https://drive.google.com/file/d/1bqfJs4mvQd4jQELsj3utEEeS6SDzW30_",
        figure="AFLW2000 MAE 4.81, VMAE 6.09",
    ),
]
