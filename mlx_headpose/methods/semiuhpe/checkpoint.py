"""SemiUHPE's published checkpoints: torchvision's networks with a small one behind them."""

from __future__ import annotations

import re

from ...backbones.efficientnetv2 import ARCHITECTURES, REST
from ...core.checkpoint import (
    Conversion,
    Format,
    Published,
    Tensors,
    conv_weight,
    counters,
    renamed,
)
from ..hopenet.checkpoint import backbone_arch
from .network import Config

# Where torchvision's classifier stands: Dropout, then Linear, norm and ReLU6 twice, then Linear.
HEADS = {"fc.": "resnet", "classifier.": "efficientnetv2"}
HEAD_LAYERS = {"1": "fc1", "2": "bn1", "4": "fc2", "5": "bn2", "7": "fc3"}
# Inside torchvision's blocks; ours from theirs.
FUSED = ("fused", "narrow")
MBCONV = ("expand", "depthwise", "se", "project")


def _efficientnet_arch(tensors: Tensors) -> str | None:
    """Which EfficientNetV2 torchvision's names are; None if they are none."""
    blocks: dict[int, set[int]] = {}
    for name in tensors:
        match = re.match(r"features\.(\d+)\.(\d+)\.block\.", name)
        if match:
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    counts = [len(blocks[stage]) for stage in sorted(blocks)]
    for arch, (_, stages, _) in ARCHITECTURES.items():
        if counts == [stage.blocks for stage in (*stages, *REST[arch])]:
            return arch
    return None


def _efficientnet_names(arch: str) -> list[tuple[str, str]]:
    """Torchvision's names → ours, as rules."""
    stages = (*ARCHITECTURES[arch][1], *REST[arch])
    rules = [(r"^features\.0\.", "stem."), (rf"^features\.{len(stages) + 1}\.", "last.")]
    number = 0
    for i, stage in enumerate(stages):
        layers = FUSED if stage.block == "fused" else MBCONV
        for block in range(stage.blocks):
            rules += [
                (rf"^features\.{i + 1}\.{block}\.block\.{j}\.", f"blocks.{number}.{layer}.")
                for j, layer in enumerate(layers)
            ]
            number += 1
    return [
        *rules,
        (r"\.se\.fc1\.", ".se.reduce."),
        (r"\.se\.fc2\.", ".se.expand."),
        (r"^(stem|last|blocks\.\d+\.[a-rt-z]\w+)\.0\.", r"\1.conv."),
        (r"^(stem|last|blocks\.\d+\.[a-rt-z]\w+)\.1\.", r"\1.norm."),
    ]


def _head(tensors: Tensors) -> str | None:
    return next((head for head in HEADS if f"{head}7.weight" in tensors), None)


def _arch(tensors: Tensors) -> str | None:
    return _efficientnet_arch(tensors) or backbone_arch(tensors)


def _matches(tensors: Tensors) -> bool:
    head, arch = _head(tensors), _arch(tensors)
    return head is not None and arch is not None and arch.startswith(HEADS[head])


def _convert(tensors: Tensors) -> Conversion:
    head, arch = _head(tensors), _arch(tensors)
    assert head is not None
    assert arch is not None
    rules = _efficientnet_names(arch) if arch in REST else []
    left_out = counters(tensors)
    ours = {}
    for name, value in tensors.items():
        if name in left_out:
            continue
        if name.startswith(head):
            layer, leaf = name.removeprefix(head).split(".")
            ours[f"head.{HEAD_LAYERS[layer]}.{leaf}"] = value
            continue
        name = renamed(name, rules)
        if value.ndim == 4:  # a 1×1 convolution of one pixel is a linear layer
            value = value.reshape(value.shape[:2]) if ".se." in name else conv_weight(value)
        ours[f"backbone.{name}"] = value
    protocols = {
        "semiuhpe-dad": Config(arch=arch, axes="dad3dheads").to_dict(),
        "semiuhpe": Config(arch=arch, axes="300wlp").to_dict(),
    }
    return Conversion(
        f"SemiUHPE {arch}, PyTorch",
        protocols["semiuhpe-dad"],
        ours,
        left_out,
        protocols=protocols,
        hints={r"300w": "semiuhpe"},
    )


def _published(name: str, what: str, file: str) -> Published:
    return Published(
        name,
        f"semiuhpe {what}",
        f"https://huggingface.co/HoyerChou/SemiUHPE/resolve/main/{file}",
        licence="Apache-2.0 on the hub, its code GPL-3.0 (trained on DAD-3DHeads: research use)",
        protocol="semiuhpe-dad-full",
    )


PUBLISHED = [
    _published("semiuhpe-dad-cocohead-resnet50", "resnet50", "DAD-COCOHead-ResNet50-best.pth"),
    _published(
        "semiuhpe-dad-cocohead-effnetv2-s", "efficientnetv2_s", "DAD-COCOHead-EffNetV2-S-best.pth"
    ),
    _published(
        "semiuhpe-dad-wildhead-effnetv2-s", "efficientnetv2_s", "DAD-WildHead-EffNetV2-S-best.pth"
    ),
]

FORMATS = [Format("SemiUHPE (PyTorch)", _matches, _convert)]
