"""A network made ready to predict, which never learns again.

Its batch norms are folded into the layers before them, in a copy that shares everything else. On a
GPU, where each operation costs a few microseconds to launch, the network is compiled for batches of
1, 2, 4, 8 and so on, to which others are padded, and computes in float16 where its method allows
it; on a CPU a compiler would be started for what gains nothing, and float16 is slow. Outputs are
fetched at once and become angles on the host, in float64.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from .methods import Estimator, Outputs, PoseHead
from .nn import plain_operations
from .process import require_mlx
from .quantization import folded, in_dtype

# 0 in the environment keeps GPUs at float32.
FLOAT16 = "MLX_HEADPOSE_FLOAT16"
BATCH = 64  # of `Predictor.many`


@dataclass(frozen=True)
class Pending:
    """Outputs that are being computed.

    Attributes:
        outputs: of the network, perhaps of a padded batch.
        count: samples that were asked for.
        head: what turns outputs into angles.
    """

    outputs: Outputs
    count: int
    head: PoseHead

    def result(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(N, 3) yaw, pitch and roll in degrees, and (N,) confidences if the method has them."""
        mx.eval(*self.outputs)  # the only wait
        found: Any = tuple(np.array(output)[: self.count] for output in self.outputs)
        confidence: Any = self.head.confidence(found)
        return np.asarray(self.head.decode(found)), confidence


class Predictor:
    """A network for inference alone.

    Args:
        model: stays as it is. Changes of its weights after this are not seen.
        dtype: in which it computes; None takes float16 on a GPU where the method allows it, and
            float32 elsewhere.
    """

    def __init__(self, model: Estimator, dtype: mx.Dtype | None = None):
        require_mlx()
        self.config = model.config
        self.head = model.head
        self.network = folded(model)
        on_gpu = mx.default_device() != mx.Device(mx.cpu) and model.config.compiles
        self.pads = on_gpu
        allowed = os.environ.get(FLOAT16, "1") != "0" and model.config.float16
        half = on_gpu and allowed and model.quantization is None
        self.dtype = dtype or (mx.float16 if half else mx.float32)
        if self.dtype != mx.float32:
            self.network = in_dtype(self.network, self.dtype)
        mx.eval(self.network.parameters())
        plain = self.network if self.dtype == mx.float32 else self.compute
        self._run = mx.compile(self.compute) if on_gpu else plain

    def compute(self, inputs: mx.array) -> Outputs:
        """Inputs → float32 outputs, by MLX's own operations, which its compiler can join."""
        with plain_operations():
            inputs = self.config.inputs.normalize(inputs).astype(self.dtype)
            return tuple(output.astype(mx.float32) for output in self.network(inputs))

    def start(self, inputs: np.ndarray) -> Pending:
        """Send off a batch.

        Args:
            inputs: (N, ...) what `config.inputs` makes, N at least 1.
        """
        count = len(inputs)
        if self.pads and (more := padded_size(count) - count):
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], more, axis=0)])
        outputs = self._run(mx.array(inputs))
        mx.async_eval(*outputs)
        return Pending(outputs, count, self.head)

    def __call__(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Poses and confidences of a batch; see `start` and `Pending.result`."""
        return self.start(inputs).result()

    def many(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Poses and confidences of any number of inputs of one shape.

        Args:
            inputs: what `config.inputs` makes.

        Returns:
            (N, 3) degrees and (N,) in 0..1, NaN where the method has none.
        """
        poses, confidences = [np.zeros((0, 3))], [np.zeros(0)]
        for start in range(0, len(inputs), BATCH):
            pose, confidence = self(np.stack(inputs[start : start + BATCH]))
            poses.append(pose)
            confidences.append(np.full(len(pose), np.nan) if confidence is None else confidence)
        return np.concatenate(poses), np.concatenate(confidences)


def padded_size(count: int) -> int:
    """The next power of two, so that few sizes of batches are ever compiled."""
    return 1 << (count - 1).bit_length()
