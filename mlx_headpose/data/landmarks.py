"""Landmarks of faces in photos, by MediaPipe where it is installed.

MediaPipe numbers 468 points (Kartynnik et al., "Real-time Facial Surface Geometry from Monocular
Video on Mobile GPUs", 2019). A photo in which it finds no face is counted and named; it never
becomes a row of zeros.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..core.crop import Margins
from ..errors import InputError
from ..files import digest
from .base import BROKEN, Dataset, refuse_broken
from .listing import cached_table

POINTS = 468
# Room around a face box, for a detector that was trained on whole heads.
ROOM = Margins((1.0, 1.0, 1.0, 1.0), (0.5, 0.5))
INSTALL = (
    "landmarks of photos need MediaPipe with its face mesh: run "
    '`pip install "mediapipe>=0.10.9,<0.10.30"`'
)
NAMED = 20  # photos without a face that are named on the screen


class FaceMesh:
    """MediaPipe's face mesh on single pictures.

    Raises:
        InputError: MediaPipe is not installed.
    """

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")  # its start-up chatter
        try:
            import mediapipe

            face_mesh: Any = mediapipe.solutions.face_mesh
        except (ImportError, AttributeError):  # later versions have it no more
            raise InputError(INSTALL) from None
        self._mesh = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1)

    def __call__(self, image: np.ndarray, box: np.ndarray | None = None) -> np.ndarray | None:
        """Landmarks of one face.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: (4,) x_min, y_min, x_max, y_max of the face in pixels; None searches the picture.

        Returns:
            (468, 3) float32 in image axes and pixels, x and y from the picture's corner, or None
            where no face is found.
        """
        left, top, right, bottom = 0, 0, image.shape[1], image.shape[0]
        if box is not None:
            left, top, right, bottom = (int(v) for v in ROOM.apply(box))
        crop = Image.fromarray(image).crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        found = self._mesh.process(np.asarray(crop)).multi_face_landmarks
        if not found:
            return None
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark[:POINTS]], np.float32)
        # x and z are in widths of the crop, y in heights, and z grows away from the viewer.
        width, height = crop.size
        scale, corner = np.array([[width, height, -width], [left, top, 0]], np.float32)
        return points * scale + corner


def face_mesh(count: int) -> FaceMesh:
    """What finds `count` landmarks in a photo.

    Raises:
        InputError: nothing does, or MediaPipe is not installed.
    """
    if count != POINTS:
        raise InputError(
            f"the network reads {count} landmarks, which nothing here finds in photos; give them "
            f"as a file (--landmarks), or train a network with --landmarks {POINTS}"
        )
    return FaceMesh()


class PhotoLandmarks(Dataset):
    """A dataset of photos as landmarks: found once, kept in a cache, and photos without a face left
    out, counted and named.

    Args:
        photos: the dataset.
        find: finds the landmarks; None takes MediaPipe, which is then needed only where the cache
            does not serve.
        skip_bad: leave broken photos out and count them instead of stopping.

    Attributes:
        photos: the dataset as it was; the column "index" says which of them a sample is.
        without_face: names of the photos that were left out because they show no face.
    """

    def __init__(
        self,
        photos: Dataset,
        find: Callable[..., np.ndarray | None] | None = None,
        skip_bad: bool = False,
    ):
        super().__init__(
            photos.name,
            list(photos.ids),
            photos.poses,
            photos.boxes,
            photos.margins,
            f"{photos.name}, landmarks found in its photos by MediaPipe",
            dict(photos.dropped),
            {**photos.columns, "index": np.arange(len(photos))},
        )
        self.photos = photos
        self.points, broken = self._find(photos, find)
        if broken.any() and not skip_bad:
            first = int(np.argmax(broken))
            refuse_broken(photos.ids[first], lambda: photos.image(first))
        seen = np.isfinite(self.points).all(axis=(1, 2))
        self.without_face = [photos.ids[i] for i in np.flatnonzero(~seen & ~broken).tolist()]
        self.drop(broken, BROKEN)
        seen = seen[~broken]
        if self.without_face:
            names = ", ".join(self.without_face[:NAMED])
            more = len(self.without_face) - NAMED
            print(
                f"{self.name}: no face found in {len(self.without_face)} of {len(photos)} photos: "
                f"{names}{f' and {more} more' if more > 0 else ''}",
                file=sys.stderr,
            )
            self.drop(~seen, "no face found by MediaPipe")
        if not self.ids:
            raise InputError(f"{self.name}: MediaPipe found no face in any of its photos")

    def image(self, index: int) -> Image.Image:
        """See `Dataset.image`."""
        return self.photos.image(int(self.columns["index"][index]))

    def path(self, index: int) -> Path | None:
        """See `Dataset.path`."""
        return self.photos.path(int(self.columns["index"][index]))

    def landmarks(self, index: int) -> np.ndarray:
        """(468, 3) float32 in image axes; see `FaceMesh`."""
        return self.points[index]

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        super().select(keep)
        self.points = self.points[keep]

    def _find(
        self, photos: Dataset, find: Callable[..., np.ndarray | None] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, 468, 3), NaN where there is no face; (N,) whether a photo is broken.

        A broken photo does not end the pass, so that the others need not be searched again.
        """

        def detect() -> dict[str, np.ndarray]:
            finder = find or FaceMesh()
            points = np.full((len(photos), POINTS, 3), np.nan, np.float32)
            broken = np.zeros(len(photos), bool)
            for i in tqdm(range(len(photos)), "MediaPipe", unit="photo", disable=None, leave=False):
                try:
                    picture = photos.image(i)
                except InputError:
                    broken[i] = True
                    continue
                found = finder(np.asarray(picture), photos.boxes[i])
                if found is not None:
                    points[i] = found
            return {"points": points, "broken": broken}

        files = [path for i in range(len(photos)) if (path := photos.path(i)) is not None]
        if len(files) < len(photos):  # pictures that are no files of their own cannot be watched
            table = detect()
            return table["points"], table["broken"]
        folder = Path(os.path.commonpath([path.parent for path in files]))
        # Where the faces were looked for is part of what was found.
        name = f"mediapipe-{self.name}-{digest(photos.boxes)}"
        table = cached_table(folder, name, files, detect)
        return table["points"], table["broken"]


def with_landmarks(dataset: Dataset, count: int, skip_bad: bool = False) -> Dataset:
    """A dataset whose samples have `count` landmarks: its own, or MediaPipe's of its photos.

    Args:
        dataset: the samples.
        count: landmarks that the network reads.
        skip_bad: leave broken photos out and count them instead of stopping.

    Raises:
        InputError: it has neither, or MediaPipe is not installed.
    """
    try:
        own = len(dataset.landmarks(0))
    except InputError:
        own = 0
    if own == count:
        dataset.protocol = f"{dataset.name}, its own {count} landmarks"
        return dataset
    if count != POINTS or dataset.name == "synthetic":
        has = f"has {own}" if own else "has no"
        raise InputError(
            f"{dataset.name} {has} landmarks and the network reads {count}; "
            f"train one with --landmarks {own or POINTS}, or choose another dataset"
        )
    return PhotoLandmarks(dataset, skip_bad=skip_bad)


def keep_within(dataset: Dataset, limits: tuple[float, ...]) -> None:
    """Leave out, and count, poses outside ±yaw, ±pitch, ±roll."""
    inside = (np.abs(dataset.poses) <= limits).all(axis=1)
    dataset.drop(~inside, f"a pose outside {', '.join(f'±{limit:g}°' for limit in limits)}")
