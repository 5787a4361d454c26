"""A head detector that the user brings, as an ONNX file: it finds also the backs of heads.

The network runs in onnxruntime, not in MLX. Three layouts are understood, those of the YOLO family:

- (1, 4 + classes, N): centre x, centre y, width, height, one score per class (YOLOv8 and later)
- (1, N, 5 + classes): the same with an objectness before the class scores (YOLOv5 to v7)
- (1, N ≤ 1000, 6): x_min, y_min, x_max, y_max, score, class, suppressed already (end to end)

What follows the classes, such as key points, is passed over where the file names its classes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .exposure import brightened
from .finder import Detections
from .yunet import suppress

# Where the file leaves its input size open.
DEFAULT_SIDE = 640
# Training pads with this grey.
GREY = 114
MAX_OVERLAP = 0.45
# What a file may ask for.
MAX_SIDE = 4096
MAX_NAMES = 1 << 16
END_TO_END_ROWS = 1000
HEAD = re.compile(r"(?<![a-z])heads?(?![a-z])", re.IGNORECASE)  # in the name of a class
ROUNDING = 1e-3  # by which a score may leave 0..1


class HeadDetector:
    """Finds heads with a network in an ONNX file. Its interface is `FaceDetector`'s.

    Args:
        path: the ONNX file; its input is (1, 3, H, W) RGB in 0..1.

    Raises:
        InputError: it is missing, damaged, keeps data in other files, or is of another layout.
    """

    finds = "heads"
    name = "ONNX head detector"

    def __init__(self, path: str | Path):
        from ..readers.onnx_file import load_onnx

        self.path = Path(path)
        content = load_onnx(self.path).SerializeToString()
        try:
            import onnxruntime
        except ImportError:
            raise InputError(
                f"{path}: a head detector needs a package; run `pip install onnxruntime`"
            ) from None
        try:
            self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            (self.input, *more) = self.session.get_inputs()
            shape, kind = self.input.shape, self.input.type
            names = self.session.get_modelmeta().custom_metadata_map.get("names", "")
        except Exception as error:  # onnxruntime has no common base class of its errors
            raise InputError(f"{path}: onnxruntime cannot load it ({error})") from None
        if more or len(shape) != 4 or kind != "tensor(float)":
            raise InputError(f"{path}: no detector; its input must be one float (1, 3, H, W)")
        height, width = shape[2:]
        self.size = (
            width if isinstance(width, int) else DEFAULT_SIDE,
            height if isinstance(height, int) else DEFAULT_SIDE,
        )
        if not all(1 <= side <= MAX_SIDE for side in self.size):
            raise InputError(f"{path}: no detector; its input is {self.size} pixels large")
        self.count, self.classes = self._classes(names)

    def __call__(self, images: Sequence[np.ndarray], min_score: float) -> list[Detections]:
        """Find the heads of some pictures; see `FaceDetector.__call__`."""
        return [self._find(image, min_score) for image in images]

    def _find(self, image: np.ndarray, min_score: float) -> Detections:
        height, width = image.shape[:2]
        scale = min(self.size[0] / width, self.size[1] / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = Image.new("RGB", self.size, (GREY,) * 3)
        picture.paste(Image.fromarray(brightened(image)).resize(size, Image.Resampling.BILINEAR))
        values = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255
        try:
            output = self.session.run(None, {self.input.name: values})[0]
            boxes, scores = self._decode(np.asarray(output))
        except InputError:
            raise
        except Exception as error:  # onnxruntime has no common base class of its errors
            raise InputError(f"{self.path}: fails on a picture ({error})") from None
        keep = scores >= min_score
        boxes, scores = boxes[keep] / scale, scores[keep]
        kept = suppress(boxes, scores, MAX_OVERLAP)
        return Detections(boxes[kept].astype(np.float32), scores[kept])

    def _decode(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The network's output → (N, 4) corners in its input's pixels and (N,) scores."""
        end_to_end = output.ndim == 3 and output.shape[2] == 6
        end_to_end = end_to_end and output.shape[1] <= END_TO_END_ROWS
        if (
            output.ndim != 3
            or output.shape[0] != 1
            or (min(output.shape[1:]) < 5 and not end_to_end)
        ):
            raise InputError(
                f"{self.path}: output {output.shape} is of no known layout; export it from YOLO"
            )
        rows = output[0]
        if end_to_end:
            wanted = slice(None) if self.classes is None else np.isin(rows[:, 5], self.classes)
            return rows[wanted, :4], rows[wanted, 4]
        if rows.shape[0] < rows.shape[1]:
            rows = rows.T  # (N, 4 + classes)
            scores = rows[:, 4:]
        else:
            scores = rows[:, 4:5] * rows[:, 5:] if rows.shape[1] > 5 else rows[:, 4:]
        scores = scores[:, : self.count]
        if self.classes is not None:
            scores = scores[:, [c for c in self.classes if c < scores.shape[1]]]
        best = scores.max(1)
        if not (np.abs(best - 0.5) <= 0.5 + ROUNDING).all():
            raise InputError(
                f"{self.path}: gives scores outside 0..1; export a detector from YOLO, with the "
                "names of its classes"
            )
        half = rows[:, 2:4] / 2
        return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1), best

    def _classes(self, text: str) -> tuple[int | None, list[int] | None]:
        """How many classes there are, and which are heads, by the names that YOLO exports carry.

        None means that the file does not say, and all are taken.

        Raises:
            InputError: it names several, and no heads.
        """
        named = _names(text)
        if not named:
            return None, None
        heads = [key for key, name in named.items() if HEAD.search(name)]
        if not heads and len(named) > 1:
            raise InputError(
                f"{self.path}: finds {', '.join(list(named.values())[:3])[:80]} ..., but no heads; "
                "give a detector of heads"
            )
        return max(named) + 1, heads or None


def _names(text: str) -> dict[int, str]:
    """The names of classes that a file carries, by their numbers; empty if they cannot be read."""
    try:
        names = ast.literal_eval(text[:MAX_NAMES])
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}
    if not isinstance(names, dict):
        return {}
    return {key: str(name) for key, name in names.items() if type(key) is int and key >= 0}
