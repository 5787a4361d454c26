"""SqueezeNet 1.1 on the same AFLW2000 images in MLX and in PyTorch, in one run.

    python -m bench.accuracy.evaluate_aflw2000 --data_dir AFLW2000 --weight squeezenet_1_1.pkl

Both read the published `.pkl`, the same crops and the same batches, in turn, so that whatever else
the machine does disturbs both. Prints images/s of the network alone, of the whole evaluation, and
the largest difference between the two in degrees.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from mlx_headpose.convert import convert_tensors
from mlx_headpose.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from mlx_headpose.data import open_dataset
from mlx_headpose.evaluation.evaluate import sample_inputs
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.pose import pose_metrics
from mlx_headpose.readers.checkpoint_file import read_tensors
from mlx_headpose.weights import load_strictly


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class TorchSqueezeNet(nn.Module):
    """The same network with the names of the published file."""

    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        fires = [(64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128)]
        fires += [(256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]
        f = [Fire(*sizes) for sizes in fires]
        stem = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool]
        self.features = nn.Sequential(*stem, *f[:2], pool, *f[2:4], pool, *f[4:])
        for angle in ("yaw", "pitch", "roll"):
            head = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 66, 1), nn.ReLU())
            setattr(self, f"classifier_{angle}", head)

    def forward(self, x):
        x = self.features(x)
        bins = torch.arange(66.0)
        heads = (self.classifier_yaw, self.classifier_pitch, self.classifier_roll)
        logits = [head(x).mean((2, 3)) for head in heads]
        return torch.stack([(v.softmax(1) * bins).sum(1) * 3 - 99 for v in logits], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--weight", required=True, help="squeezenet_1_1.pkl")
    parser.add_argument("--batch_size", type=int, default=32)
    options = parser.parse_args()
    tensors = read_tensors(Path(options.weight))
    conversion = convert_tensors(tensors, options.weight)
    ours = build(config_from_dict(conversion.config))
    load_strictly(ours, {k: mx.array(v) for k, v in conversion.tensors.items()}, options.weight)
    ours.eval()
    theirs = TorchSqueezeNet().eval()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)

    def run_mlx(images: np.ndarray) -> np.ndarray:
        return np.array(ours.decode(ours(mx.array(images))))

    def run_torch(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = (torch.from_numpy(images).float() / 255 - mean) / std
            return theirs(x.permute(0, 3, 1, 2)).numpy()

    dataset = open_dataset("AFLW2000", options.data_dir)
    seconds = {"mlx": 0.0, "torch": 0.0}
    found: dict[str, list[np.ndarray]] = {"mlx": [], "torch": []}
    start = time.perf_counter()
    batches = sample_inputs(ours, dataset, options.batch_size, None)
    for i, (_, images) in enumerate(tqdm(batches, disable=None)):
        turns = [("mlx", run_mlx), ("torch", run_torch)]
        for name, function in turns if i % 2 else turns[::-1]:
            before = time.perf_counter()
            found[name].append(function(images))
            seconds[name] += time.perf_counter() - before
    whole = time.perf_counter() - start
    results = {name: np.concatenate(parts) for name, parts in found.items()}
    for name, result in results.items():
        m = pose_metrics(result, dataset.poses)
        rate = len(dataset) / seconds[name]
        alone = len(dataset) / (whole - sum(seconds.values()) + seconds[name])
        print(
            f"{name:5}  yaw {m.yaw:.4f}  pitch {m.pitch:.4f}  roll {m.roll:.4f}  MAE {m.mae:.4f}"
            f"  network {rate:.1f} images/s  with its data {alone:.1f} images/s"
        )
    difference = np.abs(results["mlx"] - results["torch"]).max()
    print(
        f"largest difference {difference:.5f} degrees; "
        f"network speed MLX / PyTorch = {seconds['torch'] / seconds['mlx']:.2f}"
    )


if __name__ == "__main__":
    main()
