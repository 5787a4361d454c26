"""Single faces of a test as the network saw them, with their true and their predicted pose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.crop import cut
from ..core.preprocessing import Preprocessing
from ..data import Dataset
from ..errors import InputError
from ..figures import AXIS_COLOURS, new_figure, write_figure
from ..pose import axis_endpoints, geodesic_errors
from .evaluate import Evaluation

GALLERY = 24  # faces
COLUMNS = 6
LENGTH = 0.42  # of an axis in the picture's plane, as a share of the picture


@dataclass(frozen=True)
class Face:
    """A sample of a test.

    Attributes:
        name: name of the sample.
        error: angle between the two poses, in degrees.
        true, predicted: (3,) yaw, pitch, roll in degrees.
        pixels: (S, S, 3) uint8 RGB, the crop that the network saw, at another size; of a network
            that reads landmarks, the dataset's crop.
    """

    name: str
    error: float
    true: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray

    def captions(self) -> tuple[str, str, str]:
        """The error, the predicted and the true angles, for people."""
        predicted, true = (
            ", ".join(f"{angle:.0f}" for angle in pose) for pose in (self.predicted, self.true)
        )
        return f"{self.error:.1f}° off", f"predicted {predicted}", f"true {true}"


def best_and_worst(
    evaluation: Evaluation, dataset: Dataset, size: int
) -> tuple[list[Face], list[Face]]:
    """The faces with the smallest and the largest errors, the extremes first.

    Args:
        evaluation: evaluation of a network on the dataset.
        dataset: its pictures; samples without one (landmarks alone) are passed over.
        size: side of the faces in pixels.
    """
    errors = geodesic_errors(evaluation.predictions, evaluation.poses)
    order = np.argsort(errors)
    preprocessing = (evaluation.preprocessing or Preprocessing()).at_size(size)

    def faces(rows: np.ndarray) -> list[Face]:
        found = []
        for row in rows:
            name, index = evaluation.ids[row], evaluation.indices[row]
            try:
                picture, box = dataset.image(index), dataset.crop_box(index)
            except (InputError, NotImplementedError):
                continue
            pixels = cut(picture, box, preprocessing)
            poses = evaluation.poses[row], evaluation.predictions[row]
            found.append(Face(name, float(errors[row]), *poses, pixels))
        return found

    return faces(order[:GALLERY]), faces(order[::-1][:GALLERY])


def axes_of(pose: np.ndarray, size: float) -> np.ndarray:
    """(3, 2) x, y where the axes of a head end that is drawn from the middle of a square."""
    return size / 2 + np.asarray(axis_endpoints(pose, LENGTH * size))


def draw_worst(evaluation: Evaluation, dataset: Dataset, path: Path) -> None:
    """Draw the faces with the largest errors, true axes dashed and predicted ones solid.

    Args:
        evaluation: evaluation of a network on the dataset.
        dataset: its pictures.
        path: the picture to write.

    Raises:
        InputError: the dataset has no pictures, or matplotlib, which draws, is not installed.
    """
    size = 160
    _, worst = best_and_worst(evaluation, dataset, size)
    if not worst:
        raise InputError(f"{path}: cannot be drawn, for {dataset.name} has no pictures")
    rows = -(-len(worst) // COLUMNS)
    figure = new_figure(2 * COLUMNS, 2.5 * rows)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, face in zip(panels, worst, strict=False):
        panel.imshow(face.pixels, extent=(0, size, size, 0))
        for pose, style in ((face.true, "--"), (face.predicted, "-")):
            for (x, y), colour in zip(axes_of(pose, size), AXIS_COLOURS, strict=True):
                panel.plot((size / 2, x), (size / 2, y), style, color=colour, linewidth=2)
        panel.set(xlim=(0, size), ylim=(size, 0))
        # Bytes that are no UTF-8 have no glyphs.
        name = face.name.encode("utf-8", "backslashreplace").decode()
        panel.set_title("\n".join((name[-28:], *face.captions())), fontsize=7)
    write_figure(figure, path)
