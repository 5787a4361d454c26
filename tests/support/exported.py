"""Small networks of every method whose answers differ from image to image, and images for them."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mlx_headpose.cli.datasets import open_for
from mlx_headpose.data import Dataset
from mlx_headpose.methods import Estimator, ModelConfig, build, config_from_dict
from mlx_headpose.quantization.tree import CONVOLUTIONS, layers, replace
from mlx_headpose.weights import BUNDLED, from_pretrained

SIDE = 64
BUNDLED_METHOD = "rotation9d"
SCALED, FITTED = 16, 4  # crops by which layers are scaled, and biases fitted
ANGLES = ("yaw", "pitch", "roll")
SMALL: dict[str, dict[str, Any]] = {
    "hopenet": {"arch": "resnet18"},
    "nlml": {"landmarks": 68},
    "opal": {},
    "pyramid": {},
    "rotation9d": {},
    "semiuhpe": {"arch": "resnet50"},
    "sixdrepnet": {"arch": "repvgg_a0"},
    "tokenhpe": {"width": 96, "depth": 2, "backbone_heads": 2, "layers": 1},
    "whenet": {},
}
# The layers that give the outputs of some heads, and how much is left of their random weights.
OUTPUT_LAYERS: dict[str, tuple[float, tuple[str, ...]]] = {
    "nlml": (0.1, tuple(f"{angle}.layers.4" for angle in ANGLES)),
    "opal": (0.3, ("linear",)),
    "pyramid": (0.2, tuple(f"{angle}_{part}" for angle in ANGLES for part in ("coarse", "shift"))),
    "semiuhpe": (0.3, ("fc3",)),
    "sixdrepnet": (0.3, ("linear",)),
    "tokenhpe": (1.0, ("rotation", "fc2")),
    "whenet": (0.3, ANGLES),
}
STEPS, RATE = 30, 0.05  # by which these layers' biases are fitted

ROTATED = mx.array(np.random.default_rng(1).normal(size=(5, 3, 3, 4)).astype(np.float32))
OPERATIONS = {
    "strided convolution": lambda x: mx.conv2d(x, ROTATED, 2, (1, 0)),
    "dilated convolution": lambda x: mx.conv2d(x, ROTATED, 1, 2, 2),
    "depthwise convolution": lambda x: mx.conv2d(x, ROTATED[:4, :, :, :1], 1, 1, 1, 4),
    "uneven padding": lambda x: mx.conv_general(x, ROTATED, 2, ((0, 1), (1, 2))),
    "transposed convolution": lambda x: mx.conv_transpose2d(x, ROTATED, 2, 1, 1, 1),
    "dilated transposed convolution": lambda x: mx.conv_transpose2d(x, ROTATED, 1, 2, 2),
    "convolution of a sequence": lambda x: mx.conv1d(x.reshape(2, -1, 4), ROTATED[:, 0], 1, 1),
    "angle in all quadrants": lambda x: mx.arctan2(x[..., 0], x[..., 1]),
    "angle of nothing": lambda x: mx.arctan2(mx.abs(0 * x), mx.abs(0 * x)),
    "padding and slices": lambda x: mx.pad(x, [(0, 0), (1, 2), (0, 3), (0, 0)])[:, 1::2, :, ::2],
    "reductions": lambda x: x.max(1) + x.min(1) + x.sum(1) + x.mean(2, keepdims=True)[:, 0],
    "softmax": lambda x: mx.softmax(3 * x, axis=2),
    "layer norm": lambda x: mx.fast.layer_norm(x, ROTATED[0, 0, 0], ROTATED[0, 0, 1], 1e-5),
    "attention": lambda x: mx.fast.scaled_dot_product_attention(x, x + 1, 2 * x, scale=0.5),
    "choices": lambda x: mx.where(x > 0.2, mx.sqrt(mx.abs(x)), -mx.square(x)).astype(mx.float32),
    "matrix products": lambda x: (x @ ROTATED[0, 0].T) * mx.rsqrt(1 + x[..., :3] ** 2),
    "logarithms": lambda x: mx.log(1 + x * x) + mx.log2(1 + x * x) * mx.log10(2 + x * x),
    "pieces": lambda x: mx.concatenate(mx.split(x, 2, axis=-1)[::-1], axis=1),
}


class Scaled(nn.Module):
    """A layer that scales its weights, as it computes, so that its outputs have an RMS of 1."""

    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer

    def __call__(self, x: mx.array) -> mx.array:
        y = self.layer(x)
        size = mx.maximum(mx.sqrt(mx.square(y).mean()), 1e-6)
        self.layer.weight = self.layer.weight / size
        return self.layer(x)


def small_config(method: str) -> ModelConfig:
    """The config of a method's small network, for images of `SIDE` pixels."""
    config = config_from_dict({"model_type": method, **SMALL[method]})
    if config.inputs.landmarks:
        return config
    return dataclasses.replace(config, preprocessing=config.preprocessing.at_size(SIDE))


def open_crops(config: ModelConfig, shared: Path) -> Dataset:
    """AFLW2000 as a network reads it."""
    return open_for(config, "AFLW2000", shared / "data" / "AFLW2000", None)


def crops(config: ModelConfig, shared: Path, count: int) -> np.ndarray:
    """(count, ...) what a network reads of AFLW2000's first samples."""
    dataset = open_crops(config, shared)
    return np.stack([config.inputs.sample(dataset, index) for index in range(count)])


@cache
def lively_tensors(method: str, shared: Path) -> dict[str, mx.array]:
    """Random weights of a method's small network whose answers are neither constant nor chaotic.

    Each layer is scaled so that crops stay apart on their way through it: MLX's initial weights let
    an image fade away. Then the biases of the outputs are fitted to the crops' true poses by the
    method's own loss: matrices that are far from a rotation, and bins that are all equally likely
    around a circle, magnify rounding as no trained network's do.
    """
    mx.random.seed(0)
    model = build(small_config(method))
    model.eval()
    floats = layers(model, (*CONVOLUTIONS, nn.Linear))
    replace(model, {name: Scaled(layer) for name, layer in floats.items()})
    inputs = mx.array(crops(model.config, shared, SCALED))
    model(inputs)
    replace(model, floats)
    fit_biases(model, inputs[:FITTED], shared)
    tensors = dict(tree_flatten(model.parameters()))
    mx.eval(tensors)
    return tensors


def fit_biases(model: Estimator, inputs: mx.array, shared: Path) -> None:
    """Fit the biases of the outputs to the true poses of AFLW2000's first samples, in place.

    Args:
        model: the network.
        inputs: (N, ...) what it reads of the first N.
        shared: folder of the data.
    """
    if model.config.model_type not in OUTPUT_LAYERS:
        return
    share, names = OUTPUT_LAYERS[model.config.model_type]
    poses = mx.array(open_crops(model.config, shared).poses[: len(inputs)], mx.float32)
    features = model.backbone(model.config.inputs.normalize(inputs))
    model.freeze()
    modules = dict(model.head.named_modules())
    for name in names:
        modules[name].weight = share * modules[name].weight
        modules[name].unfreeze(keys=["bias"])
    optimizer = optim.Adam(RATE)

    def loss(parameters: dict[str, Any]) -> mx.array:
        model.update(parameters)
        return model.loss(model.head(features), poses)[0]

    for _ in range(STEPS):
        _, gradients = mx.value_and_grad(loss)(model.trainable_parameters())
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
    model.unfreeze()


def small_network(method: str, shared: Path) -> Estimator:
    """A small network of a method: the bundled one, or one with the weights of `lively_tensors`."""
    if method == BUNDLED_METHOD:
        return from_pretrained(BUNDLED)
    model = build(small_config(method))
    model.update(tree_unflatten(list(lively_tensors(method, shared).items())))
    model.eval()
    return model


def angles(model: Estimator, inputs: np.ndarray) -> np.ndarray:
    """(N, 3) what the network answers in Python."""
    return np.array(model.decode(model(mx.array(inputs))))


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of two sets of angles, the shorter way round the circle."""
    return float(np.abs((found - wanted + 180) % 360 - 180).max())


def sensitivity(network: Estimator, inputs: np.ndarray) -> float:
    """Three times what noise of 0.00001 does to the angles, at least 0.001 degrees.

    Networks with seeded weights magnify rounding, the deepest of them to whole degrees.
    """
    x = network.config.inputs.normalize(mx.array(inputs))
    noise = 1e-5 * mx.random.normal(x.shape, key=mx.random.key(0))
    before, after = (np.array(network.decode(network(values))) for values in (x, x + noise))
    return max(1e-3, 3 * difference(after, before))
