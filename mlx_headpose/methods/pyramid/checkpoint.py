"""The pyramid network's published checkpoints, and back.

Three layouts: the trained `.pkl` of the published PyTorch code (both forms), EfficientNetV2's
ImageNet-21k weights as a PyTorch state dict, and the same as TensorFlow names.
"""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from ...backbones.efficientnetv2 import ARCHITECTURES, EfficientNetV2
from ...core.checkpoint import (
    Conversion,
    Format,
    Published,
    Tensors,
    conv_weight,
    renamed,
    torch_conv_weight,
)
from ...errors import InputError
from .. import build
from .network import Config

# Our module's name → its name in the published PyTorch code. "artous" is how they spell it.
TORCH_NAMES = [
    (r"backbone\.stem\.conv", r"stem.0"),
    (r"backbone\.stem\.norm", r"stem.1"),
    (r"backbone\.blocks\.(\d+)\.se\.reduce", r"blocks.\1.block.se.fc1"),
    (r"backbone\.blocks\.(\d+)\.se\.expand", r"blocks.\1.block.se.fc2"),
    (r"backbone\.blocks\.(\d+)\.fused\.", r"blocks.\1.block.fused."),
    (r"backbone\.blocks\.(\d+)\.narrow\.", r"blocks.\1.block.fused_point_wise."),
    (r"backbone\.blocks\.(\d+)\.expand\.", r"blocks.\1.block.linear_bottleneck."),
    (r"backbone\.blocks\.(\d+)\.depthwise\.", r"blocks.\1.block.depth_wise."),
    (r"backbone\.blocks\.(\d+)\.project\.", r"blocks.\1.block.point_wise."),
    (r"head\.aggregation\.(\w+)\.(refine|first)\.conv", r"side.\1.0"),
    (r"head\.aggregation\.(\w+)\.(refine|first)\.norm", r"side.\1.1"),
    (r"head\.aggregation\.(\w+)\.(narrow|second)\.conv", r"side.\1.3"),
    (r"head\.aggregation\.(\w+)\.(narrow|second)\.norm", r"side.\1.4"),
    (r"head\.aggregation\.(upsample\d)\.", r"side.\1."),
    (r"head\.aspp\.point\.", r"aspp.0.convs.0."),
    (r"head\.aspp\.atrous(\d)\.atrous\.", r"aspp.0.convs.\1.artous_convolution."),
    (r"head\.aspp\.atrous(\d)\.adjust", r"aspp.0.convs.\1.adjust_module"),
    (r"head\.aspp\.atrous(\d)\.eca", r"aspp.0.convs.\1.bypass_module"),
    (r"head\.aspp\.pool\.conv", r"aspp.0.convs.3.1"),
    (r"head\.aspp\.pool\.norm", r"aspp.0.convs.3.2"),
    (r"head\.aspp\.project\.", r"aspp.0.project."),
    (r"head\.aspp\.refine\.conv", r"aspp.1"),
    (r"head\.aspp\.refine\.norm", r"aspp.2"),
    (r"head\.(\w+_(coarse|shift))", r"fc_\1"),
    (r"\.conv\.", r".0."),
    (r"\.norm\.", r".1."),
]

# Our name in the backbone → TensorFlow's, without "/ExponentialMovingAverage" behind.
TENSORFLOW_NAMES = [
    (r"backbone\.stem\.", r"stem/"),
    (r"backbone\.blocks\.(\d+)\.", r"blocks_\1/"),
    (r"(fused|expand)\.conv\.weight", r"conv2d/kernel"),
    (r"(fused|expand)\.norm", r"tpu_batch_normalization"),
    (r"depthwise\.conv\.weight", r"depthwise_conv2d/depthwise_kernel"),
    (r"(depthwise|narrow)\.norm", r"tpu_batch_normalization_1"),
    (r"(narrow|project)\.conv\.weight", r"conv2d_1/kernel"),
    (r"project\.norm", r"tpu_batch_normalization_2"),
    (r"se\.reduce\.weight", r"se/conv2d/kernel"),
    (r"se\.reduce\.bias", r"se/conv2d/bias"),
    (r"se\.expand\.weight", r"se/conv2d_1/kernel"),
    (r"se\.expand\.bias", r"se/conv2d_1/bias"),
    (r"/conv\.weight", r"/conv2d/kernel"),
    (r"/norm\.", r"/tpu_batch_normalization."),
    (r"\.weight", r"/gamma"),
    (r"\.bias", r"/beta"),
    (r"\.running_mean", r"/moving_mean"),
    (r"\.running_var", r"/moving_variance"),
]
AVERAGE = "/ExponentialMovingAverage"


def _arch(stem: int, blocks: set[int]) -> str:
    """The backbone with such a stem and at least such blocks, the uncut network's or the cut's."""
    for arch, (channels, stages, uncut) in ARCHITECTURES.items():
        cut = sum(stage.blocks for stage in stages)
        if channels == stem and len(blocks) in (cut, uncut) and max(blocks) == len(blocks) - 1:
            return arch
    raise InputError(
        f"no EfficientNetV2-S, M or L has {len(blocks)} blocks behind a stem of {stem} channels; "
        "is the checkpoint complete?"
    )


def _expected(config: Config, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Name → shape of the network's tensors that begin with `prefix`. Nothing is computed."""
    tensors = dict(tree_flatten(build(config).parameters()))
    return {name: value.shape for name, value in tensors.items() if name.startswith(prefix)}


def _from_torch_layout(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.ndim == 4 and len(shape) == 2:  # a 1×1 convolution of one pixel is a linear layer
        return value.reshape(value.shape[:2])
    if value.ndim == 4 and "upsample" in name:  # transposed: (in, out, kh, kw)
        return np.ascontiguousarray(value.transpose(1, 2, 3, 0))
    if value.ndim == 4:
        return conv_weight(value)
    if value.ndim == 3:  # (out, in, k) → (out, k, in)
        return np.ascontiguousarray(value.transpose(0, 2, 1))
    return value


def _to_torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    if value.ndim == 2 and (".se." in name or name.endswith("adjust.weight")):
        return value[:, :, None, None]
    if value.ndim == 4 and "upsample" in name:
        return np.ascontiguousarray(value.transpose(3, 0, 1, 2))
    if value.ndim == 4:
        return torch_conv_weight(value)
    if value.ndim == 3:
        return np.ascontiguousarray(value.transpose(0, 2, 1))
    return value


def _from_tensorflow_layout(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if value.ndim == 4 and len(shape) == 2:
        return np.ascontiguousarray(value[0, 0].T)
    if name.endswith("depthwise.conv.weight"):  # (kh, kw, channels, 1)
        return np.ascontiguousarray(value.transpose(2, 0, 1, 3))
    if value.ndim == 4:  # (kh, kw, in, out)
        return np.ascontiguousarray(value.transpose(3, 0, 1, 2))
    return value


def _left_out(names: set[str]) -> dict[str, str]:
    """Why each tensor of the source is not used; an InputError for one that should be."""
    left_out = {}
    for name in names:
        if name.endswith("num_batches_tracked"):
            left_out[name] = "a training counter"
        elif re.match(r"head[./]", name):
            left_out[name] = "ImageNet's classifier"
        elif re.match(r"blocks[._]\d+[./]", name):
            left_out[name] = "behind the fifth stage, where the pyramid network is cut"
        else:
            raise InputError(f"{name} is no tensor of the pyramid network; is the file another's?")
    return left_out


def _fill(
    tensors: Tensors, expected: dict[str, tuple[int, ...]], names: dict[str, str], layout: Any
) -> tuple[Tensors, dict[str, str]]:
    """Ours from a source's tensors by `names` (our name → theirs), and what is left out."""
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    if missing:
        raise InputError(f"{missing[0]} is missing (of {len(missing)}); is the file complete?")
    ours = {n: layout(n, tensors[names[n]], shape) for n, shape in expected.items()}
    for name, shape in expected.items():
        if ours[name].shape != tuple(shape):
            raise InputError(
                f"{names[name]} has the shape {tensors[names[name]].shape}, "
                f"which does not fit {name} {tuple(shape)}"
            )
    return ours, _left_out(set(tensors) - set(names.values()))


def _blocks(tensors: Tensors) -> set[int]:
    found = (re.match(r"blocks[._](\d+)[./]", name) for name in tensors)
    return {int(match[1]) for match in found if match}


def _title(arch: str) -> str:
    return f"EfficientNetV2-{arch[-1].upper()}"


def convert_trained(tensors: Tensors) -> Conversion:
    """The published code's trained network, of either form."""
    arch = _arch(tensors["stem.0.weight"].shape[0], _blocks(tensors))
    adjust = tensors["aspp.0.convs.1.adjust_module.weight"]
    form = "pyramid" if adjust.shape[0] == adjust.shape[1] else "pyramid_pfas"
    config = Config(arch=arch, form=form)
    expected = _expected(config)
    names = {name: renamed(name, TORCH_NAMES) for name in expected}
    ours, left_out = _fill(tensors, expected, names, _from_torch_layout)
    suffix = ", PFAS form" if form == "pyramid_pfas" else ""
    return Conversion(
        f"pyramid network, {_title(arch)}{suffix}, PyTorch", config.to_dict(), ours, left_out
    )


def _backbone(
    tensors: Tensors, stem: int, names: list[tuple[str, str]], average: str, layout: Any, kind: str
) -> Conversion:
    arch = _arch(stem, _blocks(tensors))
    expected = _expected(Config(arch=arch), "backbone.")
    theirs = {name: renamed(name, names) + average for name in expected}
    ours, left_out = _fill(tensors, expected, theirs, layout)
    return Conversion(
        f"{_title(arch)}, ImageNet-21k, {kind}",
        {"model_type": "backbone", "arch": arch},
        {name.removeprefix("backbone."): value for name, value in ours.items()},
        left_out,
        EfficientNetV2(arch),
    )


def convert_backbone(tensors: Tensors) -> Conversion:
    """EfficientNetV2's ImageNet weights as a PyTorch state dict."""
    stem = tensors["stem.0.weight"].shape[0]
    return _backbone(tensors, stem, TORCH_NAMES, "", _from_torch_layout, "PyTorch")


def convert_tensorflow(tensors: Tensors) -> Conversion:
    """EfficientNetV2's ImageNet weights under TensorFlow's names."""
    stem = tensors[f"stem/conv2d/kernel{AVERAGE}"].shape[-1]
    return _backbone(
        tensors, stem, TENSORFLOW_NAMES, AVERAGE, _from_tensorflow_layout, "TensorFlow"
    )


def to_torch(config: dict[str, Any], tensors: dict[str, mx.array]) -> dict[str, Any]:
    """Our tensors → the checkpoint that the published PyTorch code loads, to train or to test.

    Args:
        config: `ModelConfig.to_dict()` of the network.
        tensors: our name → array.

    Returns:
        {"epoch": 0, "model": the state dict, in the published order}.
    """
    published: Tensors = {}
    for name, value in tensors.items():
        theirs = renamed(name, TORCH_NAMES)
        published[theirs] = _to_torch_layout(name, np.array(value.astype(mx.float32)))
        if theirs.endswith("running_var"):
            counter = theirs.replace("running_var", "num_batches_tracked")
            published[counter] = np.array(0, np.int64)
    return {"epoch": 0, "model": published}


def _has(*names: str) -> Any:
    return lambda tensors: all(name in tensors for name in names)


FORMATS = [
    Format(
        "pyramid network (PyTorch)",
        _has("stem.0.weight", "side.up1.0.weight", "aspp.0.convs.1.adjust_module.weight"),
        convert_trained,
    ),
    Format(
        "EfficientNetV2 (PyTorch)",
        lambda tensors: (
            _has("stem.0.weight", "blocks.0.block.fused.0.weight")(tensors)
            and "side.up1.0.weight" not in tensors
        ),
        convert_backbone,
    ),
    Format(
        "EfficientNetV2 (TensorFlow names)",
        _has(f"stem/conv2d/kernel{AVERAGE}"),
        convert_tensorflow,
    ),
]


EFFICIENTNETV2 = (
    "https://github.com/hankyul2/EfficientNetV2-pytorch/releases/download/EfficientNetV2-pytorch"
)


def _efficientnetv2(size: str) -> Published:
    name = f"imagenet21k-efficientnetv2-{size}"
    url = f"{EFFICIENTNETV2}/efficientnetv2-{size}-21k.npy"
    return Published(name, f"backbone efficientnetv2_{size}", url)


PUBLISHED = [
    _efficientnetv2("s"),
    _efficientnetv2("m"),
    _efficientnetv2("l"),
    Published(
        "pyramid-aflw2000",
        "pyramid",
        page="https://drive.google.com/file/d/1Bw0A0PLcvcmkpfC0H_zhEFJ6ukbX4Mm2",
        figure="AFLW2000 MAE 3.42",
    ),
    Published(
        "pyramid-biwi",
        "pyramid",
        page="https://drive.google.com/file/d/1wt5Qn-87-PBXNs5gIuqQ-XEqPECWTm8s",
        figure="BIWI MAE 3.57",
    ),
    Published(
        "pyramid-dad3dheads",
        "pyramid",
        page="https://drive.google.com/file/d/1BiDf62gjkffXQYg2HgLisMsfldEXX49P",
    ),
]
