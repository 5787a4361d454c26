"""OPAL's published checkpoints, `.pth` of the inverted residual network and its pose head."""

from __future__ import annotations

import re

from ...backbones.irn import STAGES
from ...core.checkpoint import (
    Conversion,
    Format,
    Published,
    Tensors,
    counters,
    in_mlx_layout,
    renamed,
)
from .network import ROTATIONS, Config

HEAD = "1.fc_for_pose.pose_0."
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
    left_out = counters(tensors)
    ours = {}
    for name, value in tensors.items():
        if name.startswith(HEAD):
            ours[f"head.linear.{name.removeprefix(HEAD)}"] = value
        elif name not in left_out:
            ours[f"backbone.{renamed(name, rules)}"] = in_mlx_layout(value)
    protocols = {"opal": Config(rotation=rotation).to_dict()}
    if rotation == "euler":  # the same names and shapes, but another unit
        protocols["opal-panoptic"] = Config(rotation=rotation, scale=180.0).to_dict()
    return Conversion(
        f"OPAL, {rotation}, PyTorch",
        protocols["opal"],
        ours,
        left_out,
        protocols=protocols,
        hints={"panoptic": "opal-panoptic"} if rotation == "euler" else {},
    )


def _published(
    dataset: str, rotation: str, blob: str, protocol: str, figure: str = ""
) -> Published:
    trained_on = "300W-LP" if dataset == "300wlp" else "CMU Panoptic"
    return Published(
        f"opal-{dataset}-{rotation.replace('_', '-')}",
        f"opal {rotation.removesuffix('_opal')}",
        "https://github.com/pcr-upm/opal23_headpose/raw/78c0c45e13e88a757534fd99d682448ff5436ca8/"
        f"data/{dataset}/{dataset}_{rotation}.pth",
        ("git_blob", blob),
        f"MIT (trained on {trained_on}: research use)",
        figure,
        protocol=protocol,
    )


PUBLISHED = [
    _published(
        "300wlp",
        "euler",
        "7000dcf496ae90a4157c547bd5bc33deb0611c72",
        "opal",
        "AFLW2000 MAE 3.2673, geodesic 5.2888",
    ),
    _published("300wlp", "6d", "e0d7fa845b263be7116ef9d2e0cff9b53bbc10fd", "opal"),
    _published("panoptic", "6d_opal", "d75eb6b3862794b574c6c30cf4f56db1e1971f17", "opal-full"),
    _published("panoptic", "6d", "adabdcd033b9b0a275fb8f423fbe3b153256fa07", "opal-full"),
    _published(
        "panoptic", "euler", "77178dd07c531b1f454cb910a64f86cebb5cf25f", "opal-panoptic-full"
    ),
    _published("panoptic", "quaternion", "b6a229d34a6ceeb9d60e8f8ae2f12d4e1256921f", "opal-full"),
]

FORMATS = [Format("OPAL (PyTorch)", _matches, _convert)]
