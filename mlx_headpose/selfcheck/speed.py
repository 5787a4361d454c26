"""How fast networks answer and learn on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from ..data.augment import UNCHANGED
from ..methods import METHODS, Estimator, build, config_class
from ..predictor import Predictor
from ..training.optimizer import Optimizer
from ..training.options import TrainingOptions
from ..training.step import make_step
from ..weights import BUNDLED, dtype_name, from_pretrained
from .compute import on_gpu

BATCHES = (1, 32)
SECONDS = 0.4  # of each measurement, after a warm-up
BUNDLED_NAME = "bundled network"


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
        name: name of the network.
        what: "inference" or "training".
        dtype: type that is computed in.
        batch: images at once.
        images_per_second: rate.
        peak_gb: most memory that MLX held meanwhile.
    """

    name: str
    what: str
    dtype: str
    batch: int
    images_per_second: float
    peak_gb: float


def networks() -> dict[str, Callable[[], Estimator]]:
    """What is measured: the bundled network; on a GPU also each method at its usual size.

    A CPU would take minutes for those; `bench.speed.methods` measures them.
    """
    found: dict[str, Callable[[], Estimator]] = {BUNDLED_NAME: partial(from_pretrained, BUNDLED)}
    if on_gpu():
        found |= {name: partial(_usual, name) for name in METHODS}
    return found


def _usual(method: str) -> Estimator:
    return build(config_class(method)())


def speeds(name: str, network: Estimator) -> Iterator[Speed]:
    """Inference at two batch sizes and in two types, and a training step.

    Inference is what users run: from the pixels in NumPy to the angles in NumPy.
    """
    for dtype in (mx.float32, mx.float16):
        predictor = Predictor(network, dtype)
        for batch in BATCHES:
            inputs = np.array(network.config.inputs.example(batch))
            yield _measured(name, "inference", dtype, batch, partial(predictor, inputs))
    batch = BATCHES[-1]
    images = network.config.inputs.example(batch)
    targets = mx.array(network.config.inputs.example_targets(batch))
    changes = mx.array(np.tile(UNCHANGED, (batch, 1)))
    options = TrainingOptions(augment=0.0)
    optimizer = Optimizer(network, options)
    network.train()
    step = make_step(network, optimizer, options, None)

    def learn() -> None:
        mx.eval(step(images, targets, changes).loss, network.state)

    yield _measured(name, "training", mx.float32, batch, learn)


def _measured(name: str, what: str, dtype: Any, batch: int, call: Callable[[], Any]) -> Speed:
    call()  # compiles, and fills caches
    mx.reset_peak_memory()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        call()
        count += 1
    rate = count * batch / (time.perf_counter() - start)
    return Speed(name, what, dtype_name(dtype), batch, rate, mx.get_peak_memory() / 1e9)
