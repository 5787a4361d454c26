"""A tiny network and a tiny dataset, so that tests of training take no time.

As a command, it trains in a folder: `python toy_training.py FOLDER [--resume] [JSON]`.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from mlx_headpose.core.crop import Margins
from mlx_headpose.data import Dataset
from mlx_headpose.methods import Estimator, ModelConfig, PoseHead, Preprocessing
from mlx_headpose.nn import BatchNorm, GroupNorm
from mlx_headpose.training.checkpoint import Workdir, is_state
from mlx_headpose.training.distributed import Processes
from mlx_headpose.training.loop import Stopped, Training
from mlx_headpose.training.options import TrainingOptions

SIZE = 32


@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    """Of the toy network; never registered."""

    model_type = "toy"


class ToyBackbone(nn.Module):
    """Two convolutions with a norm, and dropout, so that randomness matters."""

    def __init__(self, norm: str = "batch"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=4)
        self.norm = BatchNorm(8) if norm == "batch" else GroupNorm(2, 8, pytorch_compatible=True)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.dropout = nn.Dropout(0.1 if norm == "batch" else 0.0)

    def __call__(self, x: mx.array) -> mx.array:
        """(N, 32, 32, 3) → (N, 200)."""
        x = nn.relu(self.norm(self.conv1(x)))
        return self.dropout(nn.relu(self.conv2(x)).flatten(1))


class ToyHead(PoseHead):
    """Angles by plain regression."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(200, 3)

    def __call__(self, features: mx.array) -> tuple[mx.array, ...]:
        """(N, 200) → ((N, 3),) in units of 30°."""
        return (self.linear(features),)

    def loss(
        self, outputs: tuple[mx.array, ...], pose: mx.array
    ) -> tuple[mx.array, dict[str, mx.array]]:
        """Squared error."""
        error = mx.square(outputs[0] - pose / 30).mean(0)
        return error.sum(), {"yaw": error[0], "pitch": error[1], "roll": error[2]}

    def decode(self, outputs: tuple[mx.array, ...]) -> mx.array:
        """(N, 3) degrees."""
        return outputs[0] * 30


def toy_model(norm: str = "batch", seed: int = 0) -> Estimator:
    """A network with the weights of a seed."""
    mx.random.seed(seed)
    config = ToyConfig(preprocessing=Preprocessing(size=SIZE, resize="squash"))
    return Estimator(config, ToyBackbone(norm), ToyHead())


class ToySet(Dataset):
    """Pictures of a bright spot whose place is the pose."""

    def __init__(self, count: int = 48, seed: int = 0):
        rng = np.random.default_rng(seed)
        super().__init__(
            name="toy",
            ids=[f"picture{i}" for i in range(count)],
            poses=rng.uniform(-40, 40, (count, 3)).astype(np.float32),
            boxes=np.tile(np.array([4, 4, 60, 60], np.float32), (count, 1)),
            margins=Margins((0.1, 0.1, 0.1, 0.1), k=(0.2, 0.8)),
        )

    def image(self, index: int) -> Image.Image:
        """(64, 64) with a spot right of the middle for yaw and above it for pitch."""
        yaw, pitch, roll = self.poses[index]
        x, y = np.meshgrid(np.arange(64), np.arange(64))
        spot = np.exp(-((x - 32 - yaw / 2) ** 2 + (y - 32 + pitch / 2) ** 2) / 40)
        colour = np.array([1, 0.5 + roll / 100, 0.5])
        return Image.fromarray((255 * spot[:, :, None] * colour).astype(np.uint8))


def toy_training(
    folder: Path,
    norm: str = "batch",
    processes: Processes | None = None,
    validation: Dataset | None = None,
    **changes: object,
) -> Training:
    """A training of the toy network in a folder; `changes` are of `TrainingOptions`."""
    values = {"epochs": 3, "batch_size": 8, "lr": 3e-3, "save_every": 2, "workers": 2, **changes}
    return Training(
        toy_model(norm),
        ToySet(),
        validation or ToySet(16, seed=1),
        Workdir(folder),
        TrainingOptions(**values),
        processes=processes,
    )


def main(folder: str, *flags: str) -> None:
    """Train in a folder; flags are --resume and JSON of `toy_training`'s arguments."""
    processes = Processes()
    workdir = Workdir(Path(folder))
    changes = {k: v for flag in flags if flag.startswith("{") for k, v in json.loads(flag).items()}
    with workdir.locked() if processes.rank == 0 else nullcontext():
        training = toy_training(workdir.folder, processes=processes, **changes)
        if "--resume" in flags and is_state(workdir.state):
            training.restore(workdir.state)
        print("training", flush=True)
        try:
            training.run()
        except Stopped:
            print("stopped", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
