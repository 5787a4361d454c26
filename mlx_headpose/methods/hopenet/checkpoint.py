"""Hopenet and HopeLessNet `.pkl`, torchvision ImageNet `.pth`, and HopeNet-in-MLX `.npz`."""

from __future__ import annotations

import re

from ...backbones.mobilenet import STAGES
from ...core.checkpoint import Conversion, Format, Published, Tensors, counters, in_mlx_layout
from ...core.crop import AROUND_LANDMARKS
from ...core.preprocessing import Preprocessing
from .network import Config, build_backbone

ANGLES = ("yaw", "pitch", "roll")
# Name prefixes of the layers after a backbone, in this and in other methods' files.
HEADS = ("fc", "classifier", "linear_reg")
# Blocks in stages 1 to 4 → depth; bottlenecks have a third convolution.
RESNET_BLOCKS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}


def _resnet_depth(tensors: Tensors) -> int | None:
    """The depth of a ResNet by its tensors' names, or None if they are not one."""
    if "conv1.weight" not in tensors:
        return None
    blocks = {
        match.groups()
        for match in (re.match(r"layer(\d)\.(?:layers\.)?(\d+)\.", name) for name in tensors)
        if match
    }
    counts = [sum(1 for stage, _ in blocks if stage == str(i)) for i in range(1, 5)]
    bottleneck = any(name.endswith("0.conv3.weight") for name in tensors)
    return RESNET_BLOCKS.get((bottleneck, tuple(counts)))


def _squeezenet(tensors: Tensors) -> str | None:
    if "features.12.squeeze.weight" not in tensors or "features.0.weight" not in tensors:
        return None
    return {7: "1_0", 3: "1_1"}.get(tensors["features.0.weight"].shape[-1])


def _mobilenet(tensors: Tensors) -> bool:
    return "features.18.0.weight" in tensors and "features.17.conv.0.0.weight" in tensors


def _mobilenet_renumbered(tensors: Tensors) -> bool:
    """Torchvision's MobileNetV2 with its inner lists flattened: the same tensors, other names."""
    return "features.18.0.weight" in tensors and "features.17.conv.7.weight" in tensors


def backbone_arch(tensors: Tensors) -> str | None:
    """The architecture of a PyTorch checkpoint of ours, whatever its head."""
    depth = _resnet_depth(tensors)
    if depth and not any(".layers." in name for name in tensors):
        return f"resnet{depth}"
    version = _squeezenet(tensors)
    if version:
        return f"squeezenet{version}"
    if _mobilenet(tensors) or _mobilenet_renumbered(tensors):
        return "mobilenetv2"
    return None


def _mobilenet_names(flat: bool) -> dict[str, str]:
    """Torchvision's name of every tensor of MobileNetV2 but the counters → ours.

    Args:
        flat: whether its inner lists are flattened, see `_mobilenet_renumbered`.
    """
    layers = {"features.0": "stem"}
    depths = [2 if expansion == 1 else 3 for expansion, _, count, _ in STAGES for _ in range(count)]
    for block, depth in enumerate(depths):
        for i in range(depth):
            layers[f"features.{block + 1}.conv.{i}"] = f"blocks.{block}.layers.{i}"
    layers[f"features.{len(depths) + 1}"] = "last"
    names = {}
    for theirs, ours in layers.items():
        place, number = theirs.rsplit(".", 1)
        conv, norm = f"{theirs}.0", f"{theirs}.1"
        if flat and place.endswith("conv"):  # with an activation behind each norm
            conv, norm = f"{place}.{3 * int(number)}", f"{place}.{3 * int(number) + 1}"
        elif f"{place}.{int(number) + 1}" not in layers and place.endswith("conv"):
            conv, norm = theirs, f"{place}.{int(number) + 1}"  # the last of a block has no list
        names[f"{conv}.weight"] = f"{ours}.conv.weight"
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            names[f"{norm}.{leaf}"] = f"{ours}.norm.{leaf}"
    return names


def _is_head(name: str) -> bool:
    return name.startswith(("fc", "classifier"))


def _is_classifier(tensors: Tensors) -> bool:
    """Whether nothing but ImageNet's one linear layer follows the backbone, or nothing at all."""
    heads = {name.rsplit(".", 1)[0] for name in tensors if name.startswith(HEADS)}
    return heads <= {"fc", "classifier.1"}


def _backbone(tensors: Tensors, arch: str) -> tuple[Tensors, dict[str, str]]:
    """A PyTorch backbone's tensors under our names, and what is left out."""
    left_out = counters(tensors)
    body = {n: v for n, v in tensors.items() if not _is_head(n) and n not in left_out}
    names = body_names(body, arch)
    return {n: in_mlx_layout(v) for n, v in zip(names, body.values(), strict=True)}, left_out


def body_names(body: Tensors, arch: str) -> list[str]:
    """Our names of a PyTorch backbone's tensors, in their order; step counters left out."""
    if arch != "mobilenetv2":
        return list(body)
    ours = _mobilenet_names(flat=_mobilenet_renumbered(body))
    return [ours[name] for name in body]


def _has_pose_head(tensors: Tensors) -> bool:
    return any(f"{name}.weight" in tensors for name in ("fc_yaw", "classifier_yaw.1"))


def _convert_pytorch(tensors: Tensors) -> Conversion:
    arch = backbone_arch(tensors)
    assert arch is not None
    body, left_out = _backbone(tensors, arch)
    ours = {f"backbone.{name}": value for name, value in body.items()}
    for angle in ANGLES:
        source = f"fc_{angle}" if arch.startswith("resnet") else f"classifier_{angle}.1"
        for leaf in ("weight", "bias"):
            value = tensors[f"{source}.{leaf}"]
            # SqueezeNet classifies by a 1×1 convolution, which is a linear layer at each position.
            ours[f"head.{angle}.{leaf}"] = value.reshape(
                value.shape[:2] if leaf == "weight" else -1
            )
    for name in tensors:
        if name.startswith("fc_finetune."):
            left_out[name] = "a layer that HopeNet defines and never uses"
    config = Config(arch=arch)
    label = "Hopenet" if arch.startswith("resnet") else "HopeLessNet"
    return Conversion(f"{label} {arch}, PyTorch", config.to_dict(), ours, left_out)


def _matches_imagenet(tensors: Tensors) -> bool:
    return backbone_arch(tensors) is not None and _is_classifier(tensors)


def _convert_imagenet(tensors: Tensors) -> Conversion:
    arch = backbone_arch(tensors)
    assert arch is not None
    ours, left_out = _backbone(tensors, arch)
    for name in tensors:
        if _is_head(name):
            left_out[name] = "classifies ImageNet's 1000 classes"
    config = {"model_type": "backbone", "arch": arch, "norm": "batch"}
    label = f"{arch} backbone trained on ImageNet, PyTorch"
    conversion = Conversion(label, config, ours, left_out, build_backbone(arch))
    conversion.variants["group"] = lambda: for_group_norm(conversion)
    return conversion


def _matches_mlx(tensors: Tensors) -> bool:
    return (
        "layer1.layers.0.conv1.weight" in tensors
        and "fc_yaw.weight" in tensors
        and _resnet_depth(tensors) is not None
    )


def _convert_mlx(tensors: Tensors) -> Conversion:
    ours = {}
    for name, value in tensors.items():
        if name.startswith("fc_"):
            ours[f"head.{name.removeprefix('fc_')}"] = value
            continue
        name = name.replace(".layers.", ".")
        name = name.replace("downsample_conv.", "downsample.0.")
        ours[f"backbone.{name.replace('downsample_bn.', 'downsample.1.')}"] = value
    # That project squashes a crop by the pyramid network's rule to 128 px.
    preprocessing = Preprocessing(size=128, resize="squash", crop=AROUND_LANDMARKS)
    arch = f"resnet{_resnet_depth(tensors)}"
    config = Config(preprocessing=preprocessing, arch=arch, norm="hopenet_mlx")
    return Conversion(f"HopeNet-in-MLX {arch} with group norm, MLX", config.to_dict(), ours)


FORMATS = [
    Format(
        "Hopenet and HopeLessNet (PyTorch)",
        lambda tensors: backbone_arch(tensors) is not None and _has_pose_head(tensors),
        _convert_pytorch,
    ),
    Format("ImageNet backbone (PyTorch)", _matches_imagenet, _convert_imagenet),
    Format("HopeNet-in-MLX (MLX)", _matches_mlx, _convert_mlx),
]


def for_group_norm(conversion: Conversion) -> Conversion:
    """The convolutions alone of a batch-norm backbone: what a group-norm network can start from."""
    norms = [name for name, value in conversion.tensors.items() if value.ndim == 1]
    return Conversion(
        conversion.description,
        {**conversion.config, "norm": "group"},
        {name: value for name, value in conversion.tensors.items() if name not in norms},
        {**conversion.left_out, **dict.fromkeys(norms, "belongs to a batch norm")},
    )


HOPELESSNET = (
    "https://github.com/shahroudy/deep-head-pose/raw/"
    "3f2fc670fbd39c5b10f7007f87b725034a73fc77/models"
)
TORCHVISION = "https://download.pytorch.org/models"
RESEARCH = "Apache-2.0 (trained on 300W-LP: research use)"


def _hopelessnet(name: str, file: str, digest: tuple[str, str], mae: float) -> Published:
    what = f"hopenet {name.split('-')[1]}"
    figure = f"AFLW2000 MAE {mae}"
    return Published(name, what, f"{HOPELESSNET}/{file}", digest, RESEARCH, figure)


def _torchvision(arch: str, file: str) -> Published:
    prefix = file.rsplit("-", 1)[1].removesuffix(".pth")
    return Published(
        f"imagenet-{arch}",
        f"backbone {arch}",
        f"{TORCHVISION}/{file}",
        ("sha256_prefix", prefix),
        "BSD-3-Clause",
    )


PUBLISHED = [
    _hopelessnet(
        "hopelessnet-squeezenet1_0",
        "squeezenet_1_0.pkl",
        ("sha256", "4401c2734f4972b2634b069f61258769af1bcb28f27506e77589b13477a05fd3"),
        7.3259,
    ),
    _hopelessnet(
        "hopelessnet-squeezenet1_1",
        "squeezenet_1_1.pkl",
        ("sha256", "20cee24f37bd1527d0e4350577ba3a261f759f37de6bb04d2940c27f9f815b77"),
        7.8242,
    ),
    _hopelessnet(
        "hopelessnet-mobilenetv2",
        "mobilenetv2.pkl",
        ("git_blob", "442774a4f140ae9884947067e3353ec469495529"),
        6.8259,
    ),
    _hopelessnet(
        "hopelessnet-resnet18",
        "hopenet_resnet18.pkl",
        ("git_blob", "ecd2e9d42ca439389850ddad1fff6c09a8029956"),
        6.3797,
    ),
    _hopelessnet(
        "hopenet-resnet50-alpha1",
        "hopenet_snapshot_a1.pkl",
        ("git_blob", "8262c7d0d9d93170f2314d20b3db4962050e7896"),
        5.7062,
    ),
    _torchvision("resnet18", "resnet18-5c106cde.pth"),
    _torchvision("resnet34", "resnet34-333f7ec4.pth"),
    _torchvision("resnet50", "resnet50-19c8e357.pth"),
    _torchvision("resnet101", "resnet101-5d3b4d8f.pth"),
    _torchvision("resnet152", "resnet152-b121ed2d.pth"),
    _torchvision("squeezenet1_0", "squeezenet1_0-a815701f.pth"),
    _torchvision("squeezenet1_1", "squeezenet1_1-f364aa15.pth"),
    _torchvision("mobilenetv2", "mobilenet_v2-b0353104.pth"),
    Published(
        "hopenet-mlx-resnet50-128",
        "hopenet resnet50",
        page="https://drive.google.com/file/d/1_bIg1TobBM8m_DoyDO0MLGBDHHp4dsNr",
        figure="AFLW2000 MAE 4.663",
    ),
]
