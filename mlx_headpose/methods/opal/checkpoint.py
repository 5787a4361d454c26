"""OPAL's published checkpoints, `.pth` of the inverted residual network and its pose head."""

from __future__ import annotations

import re

from ...backbones.irn import STAGES
from ...core.checkpoint import Conversion, Format, Tensors, conv_weight, renamed
from .network import ROTATIONS, Config

HEAD = "1.fc_for_pose.pose_0."
COUNTER = "num_batches_tracked"
BACKBONE_STAGES = 5  # the others are the encoder's


def _names() -> list[tuple[str, str]]:
    """Published names → ours, as rules."""
    rules = [(r"^0\.conv_img\.", "stem.")]
    for i, (_, _, halves) in enumerate(STAGES):
        inner = i - BACKBONE_STAGES
        theirs = f"0.backbone.{i}" if inner < 0 else f"0.encoders.0.{inner}"
        place = rf"^{re.escape(theirs)}\."
        if halves:
            rules.append((rf"{place}0\.([01])\.", rf"stages.{i}.reduce.\1."))
        first = 1 if halves else 0
        rules += [
            (rf"{place}{first + block}\.conv\.", f"stages.{i}.blocks.{block}.conv.")
            for block in range(4)
        ]
    return [
        *rules,
        (rf"^0\.encoders\.0\.{len(STAGES) - BACKBONE_STAGES}\.1\.conv\.", "last.conv."),
        # Inside an inverted residual: two pairs, then convolution and norm side by side.
        (r"\.conv\.([01])\.0\.", r".layers.\1.conv."),
        (r"\.conv\.([01])\.1\.", r".layers.\1.norm."),
        (r"\.conv\.2\.", ".layers.2.conv."),
        (r"\.conv\.3\.", ".layers.2.norm."),
        (r"^(stem|stages\.\d\.reduce)\.0\.", r"\1.conv."),
        (r"^(stem|stages\.\d\.reduce)\.1\.", r"\1.norm."),
    ]


def _matches(tensors: Tensors) -> bool:
    return f"{HEAD}weight" in tensors and "0.conv_img.0.weight" in tensors


def _convert(tensors: Tensors) -> Conversion:
    outputs = len(tensors[f"{HEAD}weight"])
    rotation = {count: name for name, count in ROTATIONS.items()}[outputs]
    rules = _names()
    left_out = {
        name: "PyTorch's step counter of a batch norm" for name in tensors if name.endswith(COUNTER)
    }
    ours = {}
    for name, value in tensors.items():
        if name.startswith(HEAD):
            ours[f"head.linear.{name.removeprefix(HEAD)}"] = value
        elif name not in left_out:
            ours[f"backbone.{renamed(name, rules)}"] = (
                conv_weight(value) if value.ndim == 4 else value
            )
    config = Config(rotation=rotation)
    return Conversion(f"OPAL, {rotation}, PyTorch", config.to_dict(), ours, left_out)


FORMATS = [Format("OPAL (PyTorch)", _matches, _convert)]
