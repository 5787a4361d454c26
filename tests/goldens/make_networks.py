"""Outputs, angles and losses of published networks in PyTorch's float64: networks.npz.

    python tests/goldens/make_networks.py

The networks are written with PyTorch's functions, under the names of the published files. They
share no code with this package but the pyramid network's table of stages, so framework, code and
precision are independent; where a publication leaves something open they read it as this package
does. The tensors' numbers follow from their names (`support/seeded.py`), so that only names, shapes
and results are stored.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.seeded import images, numbers  # noqa: E402

Tensor = torch.Tensor
POSES = np.array([[20.0, -10.0, 5.0], [-75.0, 31.0, -40.0]])  # yaw, pitch, roll of two images


class Checkpoint:
    """A published file's tensors, made as they are asked for, in its order."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        self.shapes[name] = shape
        return torch.from_numpy(numbers(name, shape)).double()

    def conv(self, name: str, x: Tensor, out: int, k: int, bias: bool = False, **how) -> Tensor:
        inputs = x.shape[1] // how.get("groups", 1)
        weight = self(f"{name}.weight", out, inputs, k, k)
        return F.conv2d(x, weight, self(f"{name}.bias", out) if bias else None, **how)

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        weight, bias, mean, variance = (
            self(f"{name}.{leaf}", x.shape[1])
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        weight = self(f"{name}.weight", out, x.shape[1])
        return F.linear(x, weight, self(f"{name}.bias", out))


def resnet(net: Checkpoint, x: Tensor, blocks: tuple[int, ...], wide: int) -> Tensor:
    """Torchvision's ResNet without its classifier; `wide` is 4 for bottlenecks, else 1."""
    x = F.relu(net.norm("bn1", net.conv("conv1", x, 64, 7, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            name, stride = f"layer{stage + 1}.{i}", 2 if stage and not i else 1
            shortcut = x
            if wide == 4:
                y = F.relu(net.norm(f"{name}.bn1", net.conv(f"{name}.conv1", x, width, 1)))
                y = net.conv(f"{name}.conv2", y, width, 3, stride=stride, padding=1)
                y = F.relu(net.norm(f"{name}.bn2", y))
                y = net.norm(f"{name}.bn3", net.conv(f"{name}.conv3", y, 4 * width, 1))
            else:
                y = net.conv(f"{name}.conv1", x, width, 3, stride=stride, padding=1)
                y = F.relu(net.norm(f"{name}.bn1", y))
                y = net.norm(f"{name}.bn2", net.conv(f"{name}.conv2", y, width, 3, padding=1))
            if stride > 1 or x.shape[1] != wide * width:
                shortcut = net.conv(f"{name}.downsample.0", x, wide * width, 1, stride=stride)
                shortcut = net.norm(f"{name}.downsample.1", shortcut)
            x = F.relu(y + shortcut)
    return x.mean((2, 3))


def squeezenet(net: Checkpoint, x: Tensor, version: str) -> Tensor:
    """Torchvision's SqueezeNet without its classifier."""
    first, kernel = (96, 7) if version == "1_0" else (64, 3)
    fires = (3, 4, 5, 7, 8, 9, 10, 12) if version == "1_0" else (3, 4, 6, 7, 9, 10, 11, 12)
    pools = (6, 11) if version == "1_0" else (5, 8)
    x = F.relu(net.conv("features.0", x, first, kernel, bias=True, stride=2))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    widths = (16, 16, 32, 32, 48, 48, 64, 64)
    for index, width in zip(fires, widths, strict=True):
        if index - 1 in pools:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        name = f"features.{index}"
        x = F.relu(net.conv(f"{name}.squeeze", x, width, 1, bias=True))
        one = F.relu(net.conv(f"{name}.expand1x1", x, 4 * width, 1, bias=True))
        three = F.relu(net.conv(f"{name}.expand3x3", x, 4 * width, 3, bias=True, padding=1))
        x = torch.cat([one, three], 1)
    return x


def mobilenet(net: Checkpoint, x: Tensor) -> Tensor:
    """Torchvision's MobileNetV2 without its classifier (Sandler et al., 2018, table 2)."""

    def unit(name: str, x: Tensor, out: int, k: int, **how) -> Tensor:
        x = net.conv(f"{name}.0", x, out, k, padding=k // 2, **how)
        return F.relu6(net.norm(f"{name}.1", x))

    x = unit("features.0", x, 32, 3, stride=2)
    number = 1
    for expansion, out, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            name, stride, layer, y = f"features.{number}.conv", first if not i else 1, 0, x
            if expansion > 1:
                y, layer = unit(f"{name}.0", y, expansion * x.shape[1], 1), 1
            y = unit(f"{name}.{layer}", y, y.shape[1], 3, stride=stride, groups=y.shape[1])
            y = net.norm(f"{name}.{layer + 2}", net.conv(f"{name}.{layer + 1}", y, out, 1))
            x = x + y if stride == 1 and x.shape[1] == out else y
            number += 1
    return unit("features.18", x, 1280, 1).mean((2, 3))


def bins(logits: Tensor, lowest: float) -> Tensor:
    """HopeNet's angle: the expectation over bins of 3 degrees."""
    return (logits.softmax(1) * torch.arange(logits.shape[1])).sum(1) * 3 + lowest


def bin_losses(outputs: list[Tensor], lowest: list[float], around: bool) -> dict[str, Tensor]:
    """Cross entropy and squared error of the three angles, both summed."""
    entropy, square = torch.tensor(0.0), torch.tensor(0.0)
    for logits, low, true in zip(outputs, lowest, torch.tensor(POSES).T, strict=True):
        wanted = ((true - low) // 3).long()
        entropy = entropy + F.cross_entropy(logits, wanted)
        error = (bins(logits, low) - true).abs()
        if around and low < -100:
            error = torch.minimum(error, 360 - error)
        square = square + (error**2).mean()
    return {"entropy": entropy, "square": square}


def hopenet(body: Callable[[Checkpoint, Tensor], Tensor], head: str) -> Callable:
    """HopeNet's three classifiers (Ruiz et al., 2018) on a backbone."""

    def run(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
        x, outputs = body(net, x), []
        for angle in ("yaw", "pitch", "roll"):
            name = head.format(angle)
            if x.ndim == 4:  # SqueezeNet classifies every place
                y = F.relu(net.conv(name, x, 66, 1, bias=True)).mean((2, 3))
            else:
                y = net.linear(name, x, 66)
            outputs.append(y)
        pose = torch.stack([bins(y, -99) for y in outputs], 1)
        return results(outputs, pose, **bin_losses(outputs, [-99] * 3, False))

    return run


def results(outputs: list[Tensor], pose: Tensor | None = None, **losses: Tensor) -> dict:
    found = {f"output{i}": output for i, output in enumerate(outputs)}
    return found | losses | ({} if pose is None else {"pose": pose})


def gram_schmidt(six: Tensor) -> Tensor:
    """Zhou et al. (2019) as 6DRepNet has it: the numbers are the first two columns."""
    x = F.normalize(six[:, :3])
    z = F.normalize(torch.linalg.cross(x, six[:, 3:]))
    return torch.stack([x, torch.linalg.cross(z, x), z], 2)


def euler(r: Tensor) -> Tensor:
    """6DRepNet's angles of R, as yaw, pitch, roll in degrees."""
    flat = torch.sqrt(r[:, 0, 0] ** 2 + r[:, 1, 0] ** 2)
    yaw = torch.atan2(-r[:, 2, 0], flat)
    pitch = torch.atan2(r[:, 2, 1], r[:, 2, 2])
    return torch.rad2deg(torch.stack([yaw, pitch, torch.atan2(r[:, 1, 0], r[:, 0, 0])], 1))


def true_r() -> Tensor:
    """R = Rz(roll) · Ry(yaw) · Rx(pitch), 6DRepNet's, of `POSES`."""
    turns = []
    for yaw, pitch, roll in torch.deg2rad(torch.tensor(POSES)):
        (cy, sy), (cp, sp), (cr, sr) = (
            (a.cos().item(), a.sin().item()) for a in (yaw, pitch, roll)
        )
        x = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]], dtype=torch.float64)
        y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
        z = torch.tensor([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]], dtype=torch.float64)
        turns.append(z @ y @ x)
    return torch.stack(turns)


def geodesic(a: Tensor, b: Tensor) -> Tensor:
    """Mean angle between rotations in radians."""
    return (((a * b).sum((1, 2)) - 1) / 2).acos().mean()


def frobenius(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum((1, 2)).sqrt().mean()


def repvgg(net: Checkpoint, x: Tensor) -> Tensor:
    """RepVGG-B1g2 in its training form (Ding et al., 2021)."""
    number = 0

    def block(name: str, x: Tensor, out: int, stride: int) -> Tensor:
        nonlocal number
        groups = 2 if number and number % 2 == 0 else 1
        number += 1
        y = 0
        if stride == 1 and x.shape[1] == out:
            y = net.norm(f"{name}.rbr_identity", x)
        three = net.conv(f"{name}.rbr_dense.conv", x, out, 3, stride=stride, padding=1,
                         groups=groups)  # fmt: skip
        y = y + net.norm(f"{name}.rbr_dense.bn", three)
        one = net.conv(f"{name}.rbr_1x1.conv", x, out, 1, stride=stride, groups=groups)
        return F.relu(y + net.norm(f"{name}.rbr_1x1.bn", one))

    x = block("layer0", x, 64, 2)
    for stage, (count, width) in enumerate(((4, 128), (6, 256), (16, 512), (1, 2048))):
        for i in range(count):
            x = block(f"layer{stage + 1}.{i}", x, width, 1 if i else 2)
    return x.mean((2, 3))


def sixdrepnet(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """6DRepNet (Hempel et al., 2022)."""
    r = gram_schmidt(net.linear("linear_reg", repvgg(net, x), 6))
    return results([r], euler(r), loss=geodesic(r, true_r()))


def yakhyo(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """yakhyo's six numbers on a ResNet-18; its loss adds the Frobenius distance."""
    r = gram_schmidt(net.linear("linear_reg", resnet(net, x, (2, 2, 2, 2), 1), 6))
    true = true_r()
    return results([r], euler(r), loss=geodesic(r, true) + frobenius(r, true))


def semiuhpe(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """SemiUHPE's ResNet-50 with the axes of 300W-LP: nine numbers, the nearest rotation."""
    x = resnet(net, x, (3, 4, 6, 3), 4)
    for linear, norm, width in (("fc.1", "fc.2", 512), ("fc.4", "fc.5", 128)):
        x = F.relu6(net.norm(norm, net.linear(linear, x, width)))
    nine = net.linear("fc.7", x, 9)
    u, _, vt = torch.linalg.svd(nine.reshape(-1, 3, 3))
    sign = torch.ones(len(u), 3, dtype=torch.float64)
    sign[:, 2] = torch.linalg.det(u @ vt)
    rotation = u @ torch.diag_embed(sign) @ vt
    loss = frobenius(nine.reshape(-1, 3, 3), true_r())
    return results([nine], euler(rotation), loss=loss)


def whenet(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """WHENet (Zhou and Gregson, 2020): EfficientNet-B0 as Keras has it, with "same" padding."""
    number = 0

    def conv(x: Tensor, out: int, k: int, stride: int = 1, deep: bool = False, bias: bool = False):
        nonlocal number
        number += 1
        name = f"layer_{number:03d}"
        if deep:
            weight = net(f"{name}/depthwise_kernel:0", k, k, out, 1).permute(2, 3, 0, 1)
        else:
            weight = net(f"{name}/kernel:0", k, k, x.shape[1], out).permute(3, 2, 0, 1)
        size = x.shape[-1]
        odd = max((-(-size // stride) - 1) * stride + k - size, 0)
        x = F.pad(x, (odd // 2, odd - odd // 2, odd // 2, odd - odd // 2))
        offset = net(f"{name}/bias:0", out) if bias else None
        return F.conv2d(x, weight, offset, stride=stride, groups=out if deep else 1)

    def norm(x: Tensor) -> Tensor:
        nonlocal number
        number += 1
        leaves = ("gamma", "beta", "moving_mean", "moving_variance")
        weight, bias, mean, variance = (
            net(f"layer_{number:03d}/{leaf}:0", x.shape[1]) for leaf in leaves
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    x = F.silu(norm(conv(x, 32, 3, 2)))
    for expansion, k, first, out, count in (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    ):  # fmt: skip
        for i in range(count):
            stride, wide, y = 1 if i else first, expansion * x.shape[1], x
            if expansion > 1:
                y = F.silu(norm(conv(y, wide, 1)))
            y = F.silu(norm(conv(y, wide, k, stride, deep=True)))
            weights = F.silu(conv(y.mean((2, 3), keepdim=True), x.shape[1] // 4, 1, bias=True))
            y = y * conv(weights, wide, 1, bias=True).sigmoid()
            y = norm(conv(y, out, 1))
            x = x + y if stride == 1 and x.shape[1] == out else y
    x = F.silu(norm(conv(x, 1280, 1))).mean((2, 3))
    outputs = []
    for angle, count in (("yaw", 120), ("pitch", 66), ("roll", 66)):
        weight = net(f"{angle}_new/kernel:0", 1280, count)
        outputs.append(x @ weight + net(f"{angle}_new/bias:0", count))
    lowest = [-180, -99, -99]
    pose = torch.stack([bins(y, low) for y, low in zip(outputs, lowest, strict=True)], 1)
    return results(outputs, pose, **bin_losses(outputs, lowest, True))


def opal(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """OPAL's inverted residual network with six numbers (Cobo et al., 2024)."""

    def unit(names: tuple[str, str], x: Tensor, out: int, k: int, **how) -> Tensor:
        return net.norm(names[1], net.conv(names[0], x, out, k, **how))

    def residual(name: str, x: Tensor, k: int = 3) -> Tensor:
        wide = 6 * x.shape[1]
        y = F.relu6(unit((f"{name}.0.0", f"{name}.0.1"), x, wide, 1))
        names = (f"{name}.1.0", f"{name}.1.1")
        y = F.relu6(unit(names, y, wide, k, padding=k // 2, groups=wide))
        return x + unit((f"{name}.2", f"{name}.3"), y, x.shape[1], 1)

    x = F.relu(unit(("0.conv_img.0", "0.conv_img.1"), x, 32, 1))
    places = [f"0.backbone.{i}" for i in range(5)] + [f"0.encoders.0.{i}" for i in range(2)]
    widths = ((32, 1), (64, 1), (128, 2), (256, 3), (256, 4), (256, 1), (256, 1))
    for i, (place, (width, count)) in enumerate(zip(places, widths, strict=True)):
        if i:
            x = F.relu(unit((f"{place}.0.0", f"{place}.0.1"), x, width, 2, stride=2))
        for block in range(count):
            x = residual(f"{place}.{block + (i > 0)}.conv", x)
    x = residual("0.encoders.0.2.1.conv", x.amax((2, 3), keepdim=True), k=1)
    six = net.linear("1.fc_for_pose.pose_0", x.flatten(1), 6)
    return results([gram_schmidt(six).flatten(1)])


def nlml(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """NLML-HPE's networks (Ghafourian and Sukno, 2025) on normalised landmarks."""
    x = x.flatten(1)[:, :1404]
    for i, width in enumerate((1024, 512, 256, 128)):
        x = F.relu(net.linear(f"encoder.encoder.{2 * i}", x, width))
    x = torch.tanh(net.linear("encoder.encoder.8", x, 64))
    factors = net.linear("encoder.encoder.10", x, 9)
    angles = []
    for angle, y in zip(("yaw", "pitch", "roll"), factors.split(3, 1), strict=True):
        for i, width in enumerate((128, 256, 128, 64)):
            y = F.relu(net.linear(f"{angle}_network.model.{2 * i}", y, width))
        angles.append(net.linear(f"{angle}_network.model.8", y, 1))
    radians = torch.cat(angles, 1)
    return results([radians, factors], torch.rad2deg(radians))


def yunet(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """YuNet (Wu et al., 2023) under the names of OpenCV's ONNX file, whose norms are folded in."""
    folded = iter(range(420, 464, 3))

    def depthwise(x: Tensor, out: int, groups: int, **how) -> Tensor:
        number = next(folded)
        weight = net(str(number), out, x.shape[1] // groups, 3, 3)
        return F.conv2d(x, weight, net(str(number + 1), out), padding=1, groups=groups, **how)

    def unit(name: str, x: Tensor, out: int) -> Tensor:
        return depthwise(net.conv(name, x, out, 1, bias=True), out, out)

    def stage(i: int, x: Tensor, out: int) -> Tensor:
        x = F.relu(unit(f"backbone.model{i}.conv1.conv1", x, x.shape[1]))
        return F.relu(unit(f"backbone.model{i}.conv2.conv1", x, out))

    x = F.relu(depthwise(x, 16, 1, stride=2))
    x = F.max_pool2d(F.relu(unit("backbone.model0.conv2.conv1", x, 16)), 2)
    c3 = stage(3, F.max_pool2d(stage(2, stage(1, x, 32), 64), 2), 64)
    c4 = stage(4, F.max_pool2d(c3, 2), 64)
    c5 = stage(5, F.max_pool2d(c4, 2), 64)
    p5 = F.relu(unit("neck.lateral_convs.2.conv1", c5, 64))
    p4 = c4 + F.interpolate(p5, scale_factor=2)
    p4 = F.relu(unit("neck.lateral_convs.1.conv1", p4, 64))
    p3 = c3 + F.interpolate(p4, scale_factor=2)
    p3 = F.relu(unit("neck.lateral_convs.0.conv1", p3, 64))
    outputs, boxes = [], []
    for level, (x, stride) in enumerate(((p3, 8), (p4, 16), (p5, 32))):
        parts = {}
        for branch, out in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"bbox_head.multi_level_{branch}.{level}"
            y = net.conv(f"{name}.conv1", x, out, 1, bias=True)
            parts[branch] = net.conv(f"{name}.conv2", y, out, 3, bias=True, padding=1, groups=out)
        outputs.append(torch.cat(list(parts.values()), 1).permute(0, 2, 3, 1))
        score = (parts["cls"].sigmoid() * parts["obj"].sigmoid()).sqrt()[:, 0]
        row, column = torch.meshgrid(*map(torch.arange, score.shape[1:]), indexing="ij")
        x_centre, y_centre, width, height = parts["bbox"].unbind(1)
        x_centre, y_centre = (column + x_centre) * stride, (row + y_centre) * stride
        width, height = width.exp() * stride, height.exp() * stride
        corners = (
            x_centre - width / 2, y_centre - height / 2,
            x_centre + width / 2, y_centre + height / 2,
        )  # fmt: skip
        boxes.append(torch.stack([*corners, score], -1).flatten(1, 2))
    return results(outputs, torch.cat(boxes, 1))


def pyramid(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """The pyramid network of bench/reference."""
    from bench.reference.torch_pyramid import TorchPyramid

    return results(list(_filled(net, TorchPyramid())(x)))


def tokenhpe(net: Checkpoint, x: Tensor) -> dict[str, Tensor]:
    """TokenHPE (Zhang et al., 2023) of bench/reference, narrow and of few blocks."""
    from bench.reference.torch_tokenhpe import TorchTokenHPE, loss

    vit = SimpleNamespace(width=128, depth=2, heads=2, patch=16, grid=x.shape[-1] // 16)
    config = SimpleNamespace(vit=vit, width=128, regions=9, dim=128, layers=3, heads=8)
    # Published files hold both, but the first is a constant and the second is never used.
    fixed = ("Ori_blocks.pos_embedding", "feature_extractor.head.")
    network = _filled(net, TorchTokenHPE(config), fixed)
    network.Ori_blocks.pos_embedding.copy_(sine(vit.grid, config.dim))
    found = network(x)
    # By the paper: (20, −10) is in the middle, (−75, 31) in the upper row at the end.
    value = loss(found, true_r(), torch.tensor([4, 2]), alpha=0.95)
    return results(list(found), euler(found[0]), loss=value)


def sine(grid: int, dim: int) -> Tensor:
    """DETR's fixed positions (Carion et al., 2020): rows in the first half, then columns."""
    turn = 2 * torch.pi * torch.arange(1, grid + 1) / (grid + 1e-6)
    rates = 10000.0 ** (-torch.arange(0, dim // 2, 2) / (dim // 2))
    wave = torch.stack([(turn[:, None] * rates).sin(), (turn[:, None] * rates).cos()], -1)
    wave = wave.flatten(1)
    places = [(row, column) for row in range(grid) for column in range(grid)]
    return torch.stack([torch.cat([wave[row], wave[column]]) for row, column in places])


def _filled(
    net: Checkpoint, module: torch.nn.Module, fixed: tuple[str, ...] = ()
) -> torch.nn.Module:
    """The module with all of a checkpoint's numbers but the `fixed` ones."""
    state = {
        name: net(name, *value.shape)
        for name, value in module.state_dict().items()
        if value.is_floating_point() and not name.startswith(fixed)
    }
    module.double().load_state_dict(state, strict=False)
    return module.eval()


RESNET18 = (2, 2, 2, 2)
NETWORKS: dict[str, tuple[Callable, int]] = {
    "hopenet_resnet18": (hopenet(lambda net, x: resnet(net, x, RESNET18, 1), "fc_{}"), 64),
    "hopenet_squeezenet1_0": (
        hopenet(lambda net, x: squeezenet(net, x, "1_0"), "classifier_{}.1"), 95
    ),
    "hopenet_squeezenet1_1": (
        hopenet(lambda net, x: squeezenet(net, x, "1_1"), "classifier_{}.1"), 95
    ),
    "hopenet_mobilenetv2": (hopenet(mobilenet, "classifier_{}.1"), 64),
    "nlml": (nlml, 22),
    "opal_6d": (opal, 64),
    "pyramid": (pyramid, 64),
    "semiuhpe_resnet50": (semiuhpe, 64),
    "sixdrepnet_repvgg_b1g2": (sixdrepnet, 64),
    "sixdrepnet_resnet18": (yakhyo, 64),
    "tokenhpe": (tokenhpe, 64),
    "whenet": (whenet, 72),
    "yunet": (yunet, 64),
}  # fmt: skip


def main() -> None:
    """Write networks.npz beside this file."""
    arrays: dict[str, np.ndarray] = {"true": POSES}
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    for name, (run, size) in NETWORKS.items():
        net = Checkpoint()
        x = torch.from_numpy(images(name, len(POSES), size)).double().permute(0, 3, 1, 2)
        found = run(net, x if name != "nlml" else x.permute(0, 2, 3, 1))
        arrays[f"{name}/size"] = np.array(size)
        arrays[f"{name}/tensors"] = np.array(json.dumps(list(net.shapes.items())))
        for key, value in found.items():
            arrays[f"{name}/{key}"] = value.numpy()
        print(name, {key: tuple(value.shape) for key, value in found.items()}, flush=True)
    np.savez_compressed(Path(__file__).with_name("networks.npz"), **arrays)


if __name__ == "__main__":
    main()
