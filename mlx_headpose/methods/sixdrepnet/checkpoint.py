"""6DRepNet's, 6DRepNet360's and yakhyo's published checkpoints, as PyTorch files or ONNX.

What a file holds is told by the blocks, widths and groups of its tensors.
"""

from __future__ import annotations

import re

import numpy as np

from ...backbones import mobilenetv3, repvgg
from ...core.checkpoint import Conversion, Format, Tensors, conv_weight, renamed
from ...errors import InputError
from ..hopenet.checkpoint import COUNTER, backbone_arch, body_names
from .network import ARCHS, Config

HEAD = "linear_reg."
LEFT_OUT = {
    COUNTER: "PyTorch's step counter of a batch norm",
    "fc_finetune": "a layer that SixDRepNet2 defines and never uses",
}
# Published name of a RepVGG tensor → ours.
REPVGG_NAMES = [
    (r"^layer0\.", "layer0.0."),
    (r"^layer(\d)\.", r"stages.\1."),
    (r"\.rbr_reparam\.", ".conv."),
    (r"\.rbr_dense\.conv\.", ".dense."),
    (r"\.rbr_dense\.bn\.", ".dense_norm."),
    (r"\.rbr_1x1\.conv\.", ".point."),
    (r"\.rbr_1x1\.bn\.", ".point_norm."),
    (r"\.rbr_identity\.", ".identity_norm."),
]


def repvgg_arch(tensors: Tensors) -> tuple[str, bool] | None:
    """Which RepVGG published names and shapes are, and whether it is folded; None if it is none.

    Raises:
        InputError: they are RepVGG's, but of a size that nobody published.
    """
    leaf = re.compile(r"layer(\d)(?:\.(\d+))?\.(rbr_dense\.conv|rbr_reparam)\.weight")
    found = {name: match for name in tensors if (match := leaf.fullmatch(name))}
    if not found:
        return None
    deploy = any(match[3] == "rbr_reparam" for match in found.values())
    layers = {
        (int(match[1]), int(match[2] or 0)): tensors[name].shape for name, match in found.items()
    }
    for arch in repvgg.ARCHS:
        expected, inputs = {}, 3
        for stage, (widths, groups) in enumerate(zip(*repvgg.layout(arch), strict=True)):
            for i, (width, group) in enumerate(zip(widths, groups, strict=True)):
                expected[stage, i] = (width, inputs // group, 3, 3)
                inputs = width
        if layers == expected:
            return arch, deploy
    raise InputError(
        f"its {len(layers)} RepVGG layers are of no published size ({', '.join(repvgg.ARCHS)})"
    )


def mobilenetv3_arch(tensors: Tensors) -> str | None:
    """Which MobileNetV3 torchvision's names are; None if they are none."""
    if not any(re.match(r"features\.\d+\.block\.\d", name) for name in tensors):
        return None
    for arch, rows in mobilenetv3.ARCHITECTURES.items():
        if f"features.{len(rows) + 1}.0.weight" in tensors:
            return arch
    return None


def _mobilenetv3_names(arch: str) -> list[tuple[str, str]]:
    """Torchvision's names → ours, as rules."""
    rows = mobilenetv3.ARCHITECTURES[arch]
    rules = [(r"^features\.0\.", "stem."), (rf"^features\.{len(rows) + 1}\.", "last.")]
    rules += [(rf"^features\.{i + 1}\.block\.", f"blocks.{i}.layers.") for i in range(len(rows))]
    return [
        *rules,
        (r"^(stem|last|blocks\.\d+\.layers\.\d+)\.0\.", r"\1.conv."),
        (r"^(stem|last|blocks\.\d+\.layers\.\d+)\.1\.", r"\1.norm."),
    ]


def _arch(tensors: Tensors) -> tuple[str, bool] | None:
    """The backbone of a checkpoint, and whether it is folded."""
    found = repvgg_arch(tensors)
    if found:
        return found
    arch = mobilenetv3_arch(tensors) or backbone_arch(tensors)
    return (arch, False) if arch in ARCHS else None


def _has_head(tensors: Tensors) -> bool:
    return any(name.startswith(HEAD) for name in tensors)


def _matches(tensors: Tensors) -> bool:
    return _has_head(tensors) and _arch(tensors) is not None


def _layout(value: np.ndarray) -> np.ndarray:
    return conv_weight(value) if value.ndim == 4 else value


def _convert(tensors: Tensors) -> Conversion:
    found = _arch(tensors)
    assert found is not None
    arch, deploy = found
    left_out = {name: why for name in tensors for part, why in LEFT_OUT.items() if part in name}
    body = {
        name: value
        for name, value in tensors.items()
        if name not in left_out and not name.startswith(HEAD)
    }
    if arch.startswith("repvgg"):
        names = {name: renamed(name, REPVGG_NAMES) for name in body}
    elif arch in mobilenetv3.ARCHITECTURES:
        rules = _mobilenetv3_names(arch)
        names = {name: renamed(name, rules) for name in body}
    else:
        names = dict(zip(body, body_names(body, arch), strict=True))
    ours = {f"backbone.{names[name]}": _layout(value) for name, value in body.items()}
    layers = {"linear_reg.0": "hidden", "linear_reg.2": "linear", "linear_reg": "linear"}
    for name, value in tensors.items():
        if name.startswith(HEAD):
            layer, leaf = name.rsplit(".", 1)
            ours[f"head.{layers[layer]}.{leaf}"] = value
    config = Config(arch=arch, deploy=deploy)
    return Conversion(_label(arch, deploy), config.to_dict(), ours, left_out)


def _label(arch: str, deploy: bool) -> str:
    if arch.startswith("repvgg"):
        return f"6DRepNet {arch}, {'folded' if deploy else 'training form'}, PyTorch"
    owner = "6DRepNet360 or yakhyo's" if arch == "resnet50" else "yakhyo's"
    return f"{owner} {arch}, six numbers to a rotation, PyTorch"


FORMATS = [Format("6DRepNet, 6DRepNet360 and yakhyo's networks (PyTorch)", _matches, _convert)]
