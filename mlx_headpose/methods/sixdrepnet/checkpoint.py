"""6DRepNet's, 6DRepNet360's and yakhyo's published checkpoints, as PyTorch files or ONNX.

What a file holds is told by the blocks, widths and groups of its tensors.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

import numpy as np

from ...backbones import mobilenetv3, repvgg
from ...core.checkpoint import (
    Conversion,
    Format,
    Published,
    Tensors,
    counters,
    in_mlx_layout,
    renamed,
)
from ...core.estimator import Estimator
from ...core.preprocessing import Preprocessing
from ...data.protocols import PROTOCOLS
from ...errors import InputError
from ...weights import tensors_of
from ..hopenet.checkpoint import backbone_arch, body_names
from .network import ARCHS, Config, build

HEAD = "linear_reg."
UNUSED = "fc_finetune"
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


def _convert(tensors: Tensors) -> Conversion:
    found = _arch(tensors)
    assert found is not None
    arch, deploy = found
    unused = [name for name in tensors if UNUSED in name]
    left_out = dict.fromkeys(unused, "a layer that SixDRepNet2 defines and never uses")
    left_out |= counters(tensors)
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
    ours = {f"backbone.{names[name]}": in_mlx_layout(value) for name, value in body.items()}
    layers = {"linear_reg.0": "hidden", "linear_reg.2": "linear", "linear_reg": "linear"}
    for name, value in tensors.items():
        if name.startswith(HEAD):
            layer, leaf = name.rsplit(".", 1)
            ours[f"head.{layers[layer]}.{leaf}"] = value
    return _conversion(_label(arch, deploy), arch, deploy, ours, left_out)


def _conversion(
    label: str, arch: str, deploy: bool, ours: Tensors, left_out: dict[str, str]
) -> Conversion:
    """The conversion, with the protocols of all who published such networks."""
    repvgg_net, either = arch.startswith("repvgg"), arch == "resnet50"
    names = ["6drepnet"] if repvgg_net else ["yakhyo", "6drepnet360"] if either else ["yakhyo"]
    protocols = {name: _config(arch, deploy, name).to_dict() for name in names}
    hints = {"360": "6drepnet360"} if either else {}
    return Conversion(label, protocols[names[0]], ours, left_out, protocols=protocols, hints=hints)


def _config(arch: str, deploy: bool, protocol: str) -> Config:
    return Config(
        PROTOCOLS[protocol].cut.apply(Preprocessing()),
        arch,
        deploy,
        loss="frobenius" if protocol == "yakhyo" else "geodesic",
    )


def _label(arch: str, deploy: bool) -> str:
    if arch.startswith("repvgg"):
        return f"6DRepNet {arch}, {'folded' if deploy else 'training form'}, PyTorch"
    owner = "6DRepNet360 or yakhyo's" if arch == "resnet50" else "yakhyo's"
    return f"{owner} {arch}, six numbers to a rotation, PyTorch"


@dataclass(frozen=True)
class Slot:
    """A convolution or linear layer of ours, and the batch norm behind it, if any."""

    name: str
    shape: tuple[int, ...]  # of the weight, in PyTorch's layout
    bias: bool
    norm: str | None


def slots_of(network: Estimator) -> list[Slot]:
    """The layers in the order in which they are computed, which is that of our modules."""
    tensors = tensors_of(network)
    slots: list[Slot] = []
    for name, value in tensors.items():
        layer, leaf = name.rsplit(".", 1)
        if value.ndim >= 2:
            shape = tuple(value.shape)
            if value.ndim == 4:
                shape = (shape[0], shape[3], *shape[1:3])
            slots.append(Slot(layer, shape, f"{layer}.bias" in tensors, None))
        elif leaf == "running_var":
            slots[-1] = dataclasses.replace(slots[-1], norm=layer)
    return slots


def _graph_layers(tensors: Tensors) -> list[str]:
    """The layers of an ONNX graph (`readers.onnx_file.read_layers`) but norms, in order."""
    names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    return [name for name in names if re.fullmatch(r"layer\d+\.(conv|linear)", name)]


def _graph_config(tensors: Tensors) -> Config | None:
    """The network whose layers have the shapes of an ONNX graph's; None if there is none."""
    found = [tensors[f"{name}.weight"].shape for name in _graph_layers(tensors)]
    if not found or found[-1][:1] != (6,):
        return None
    for arch in ARCHS:
        config = Config(arch=arch, deploy=arch.startswith("repvgg"))
        if found == [slot.shape for slot in slots_of(build(config))]:
            return config
    return None


def _convert_graph(tensors: Tensors) -> Conversion:
    if any(re.match(r"layer\d+\.norm\.", name) for name in tensors):
        raise InputError(
            "its batch norms are not folded into the convolutions; export it in evaluation mode, "
            "as torch.onnx does with its defaults"
        )
    config = _graph_config(tensors)
    assert config is not None
    network = build(config)
    modules = dict(network.named_modules())
    ours: Tensors = {}
    layers = _graph_layers(tensors)
    for name, slot in zip(layers, slots_of(network), strict=True):
        ours[f"{slot.name}.weight"] = in_mlx_layout(tensors[f"{name}.weight"])
        bias = tensors.get(f"{name}.bias", np.zeros(slot.shape[0], np.float32))
        if slot.bias:
            ours[f"{slot.name}.bias"] = bias
        if slot.norm is not None:
            # The exporter has folded the norm into the convolution: one that only adds remains.
            one = np.ones_like(bias)
            ours[f"{slot.norm}.weight"] = one
            ours[f"{slot.norm}.bias"] = bias
            ours[f"{slot.norm}.running_mean"] = np.zeros_like(bias)
            ours[f"{slot.norm}.running_var"] = one * np.float32(1 - modules[slot.norm].eps)
    used = {f"{name}.{leaf}" for name in layers for leaf in ("weight", "bias")}
    left_out = {name: "no part of the network" for name in tensors if name not in used}
    label = _label(config.arch, config.deploy).replace("PyTorch", "ONNX")
    return _conversion(label, config.arch, config.deploy, ours, left_out)


RESEARCH = "MIT (trained on 300W-LP: research use)"
HUB = "https://huggingface.co"
CLOUD = "https://cloud.ovgu.de/s"
YAKHYO = "https://github.com/yakhyo/head-pose-estimation/releases/download/weights"


def _by_yakhyo(file: str, mae: float, onnx_sha256: str) -> list[Published]:
    """A network as PyTorch file, for which nobody published a checksum, and as ONNX."""
    name = f"sixdrepnet-yakhyo-{file.replace('_', '-')}"
    figure = f"AFLW2000 MAE {mae} (legacy minimum)"
    url, digest = f"{YAKHYO}/{file}", ("sha256", onnx_sha256)
    what = f"sixdrepnet {file}"
    return [
        Published(name, what, f"{url}.pt", None, RESEARCH, figure, protocol="yakhyo"),
        Published(f"{name}-onnx", what, f"{url}.onnx", digest, RESEARCH, figure, protocol="yakhyo"),
    ]


PUBLISHED = [
    Published(
        "sixdrepnet-repvgg-b1g2",
        "sixdrepnet repvgg_b1g2",
        f"{HUB}/osanseviero/6DRepNet_300W_LP_AFLW2000/resolve/"
        "45331224e5c723b4ebeea0e1dc212c6e2236a552/model.pth",
        ("sha256", "9bdcd0e072df0d21e92288b40ea1d1b3cf7173c44728ab9c45c4d673f361e018"),
        RESEARCH,
        "AFLW2000 MAE 3.97 (legacy minimum)",
        protocol="6drepnet",
        mirrors=(
            f"{HUB}/BooBooWu/Vec2Face/resolve/1c290509dc9f773d502d6cc522aa80d1de48a6ca/weights/"
            "6DRepNet_300W_LP_AFLW2000.pth",
            f"{CLOUD}/Q67RnLDy6JKLRWm/download/6DRepNet_300W_LP_AFLW2000.pth",
        ),
    ),
    Published(
        "sixdrepnet-repvgg-b1g2-biwi",
        "sixdrepnet repvgg_b1g2",
        licence=RESEARCH,
        figure="AFLW2000 MAE 4.139, BIWI 3.47 (legacy minimum)",
        page="https://drive.google.com/file/d/1f1xjwQWW955gUp7tJ0uiwTrPHVr9NxIU",
    ),
    Published(
        "sixdrepnet-repvgg-b1g2-biwi7030",
        "sixdrepnet repvgg_b1g2",
        licence="MIT (trained on BIWI: research use)",
        figure="BIWI MAE 2.66 (legacy minimum)",
        page="https://drive.google.com/drive/folders/1V1pCV0BEW3mD-B9MogGrz_P91UhTtuE_",
    ),
    Published(
        "sixdrepnet360-full",
        "sixdrepnet resnet50",
        f"{CLOUD}/TewGC9TDLGgKkmS/download/6DRepNet360_Full-Rotation_300W_LP+Panoptic.pth",
        ("sha256", "3ee08f1e04b8d452a6c4a40926a6f38051894ae6d0aaa6d191fe6d8bc6e4f9c6"),
        "MIT (trained on 300W-LP and CMU Panoptic: research use)",
        protocol="6drepnet360-full",
    ),
    Published(
        "sixdrepnet360-300wlp",
        "sixdrepnet resnet50",
        f"{CLOUD}/wWCitDxp9t79xkP/download/6DRepNet360_300W_LP.pth",
        licence=RESEARCH,
        protocol="6drepnet360",
    ),
    *_by_yakhyo(
        "resnet18", 4.8492, "61c34e877989412980d1ea80c52391250b074abc00d19a6100de5c8e999212ee"
    ),
    *_by_yakhyo(
        "resnet34", 4.5361, "8da9f2ce4810298ebea68bd85fba1b6bd11716060c10534596f46be52cc908c9"
    ),
    *_by_yakhyo(
        "resnet50", 4.0159, "50c74d57b7663361b8ede83b0e4122546171119ef502ec55b790dbd7fc360260"
    ),
    *_by_yakhyo(
        "mobilenetv2", 5.3901, "1e902872868e483bd0e4f8f4a8ff2a4d61c2ccbca9dadf748e5479b5cc86a9e9"
    ),
    *_by_yakhyo(
        "mobilenetv3_small",
        7.4683,
        "e8ae4d932b3d13221638fc72e171603e020c6da28b770753f76146867f40e190",
    ),
    *_by_yakhyo(
        "mobilenetv3_large",
        5.735,
        "3a68815fa00aba41ddc4e014bf631b637caba8619df71160383f1fee8c15a3c9",
    ),
]

FORMATS = [
    Format("6DRepNet, 6DRepNet360 and yakhyo's networks (PyTorch)", _matches, _convert),
    Format(
        "yakhyo's networks (ONNX)",
        lambda tensors: _graph_config(tensors) is not None,
        _convert_graph,
    ),
]
