"""Heads at exactly known poses, rendered as they are asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ..core.crop import AROUND_POINTS, NONE, TRAINING, BoxMargins, Crop
from ..data.base import Dataset
from ..errors import InputError
from ..pose import pose_to_matrix
from .builtin import BuiltInPeople
from .effects import photo as camera
from .effects import without
from .environments import Environments
from .mesh import MeshPeople
from .people import People, disturbed
from .photo import PLAIN, Photo

SPLITS = {"train": 0, "val": 1}
# Rendering takes about as long as training on a small image, and every epoch asks for all of them.
KEPT_BYTES = 512 << 20
COUNTS = {"train": 20000, "val": 1000}  # heads in a set, where nobody says how many

Range = tuple[float, float]


FACE = BoxMargins("landmarks", TRAINING)
HEAD = BoxMargins("head", NONE)


class SyntheticHeads(Dataset):
    """Rendered heads: sample i is the same on every machine and whatever the set's length.

    Each sample is a new person. People, poses and all else follow from (seed, split, i), so no
    person of one split is in another. Light, background, shoulders, camera and the box's jitter
    are sampled without looking at the pose.

    Args:
        count: number of samples.
        split: "train" or "val".
        seed: random seed.
        size: side of the square pictures in pixels. The crop of the usual rules is about 0.8 of it.
        yaw, pitch, roll: lowest and highest angle in degrees, uniform between them; relative to the
            ray through the face, as a crop shows them.
        around: which box is cut out, and its margins: that of 300W's 68 landmarks, seen or hidden,
            as the published sets have it, or the whole head's.
        jitter: standard deviation of the box's sides, relative to its size.
        loose: share of the boxes whose sides lie further out, by up to `people.LOOSE` of their
            size. So they do in AFLW2000's published test, whose box holds hidden points' −1.
        photo: background and camera; `effects.Effects` offers more than the plain one.
        mesh: file of a head model (see `mesh/`); None means the built-in heads.
        identities: number of people of the head model; None means another one for each sample.
        natural: whether the head model's poses are denser where people's heads are (see
            `mesh.people.sample_poses`) instead of uniform.
        tilted: whether many of its heads are seen by a tilted camera, see `MeshPeople`.
        environments: places that light every second person of the head model, or None.
    """

    def __init__(
        self,
        count: int = 20000,
        split: str = "train",
        seed: int = 0,
        size: int = 160,
        yaw: Range = (-180, 180),
        pitch: Range = (-40, 40),
        roll: Range = (-40, 40),
        around: BoxMargins = FACE,
        jitter: float = 0.03,
        loose: float = 0.0,
        photo: Photo = PLAIN,
        mesh: Path | None = None,
        identities: int | None = None,
        natural: bool = False,
        tilted: bool = False,
        environments: Environments | None = None,
    ):
        self.seed = (seed, SPLITS[split])
        self.size = size
        self.photo = photo
        limits = np.array((yaw, pitch, roll), float)
        self.people: People = (
            BuiltInPeople(self.seed, count, limits)
            if mesh is None
            else MeshPeople(
                mesh, self.seed, count, limits, identities, natural, tilted, environments
            )
        )
        self.numbers = np.arange(count)
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        # Each thread's last sample that is not kept: image and landmarks are asked for apart.
        self._last: dict[int, tuple[int, tuple[np.ndarray, np.ndarray]]] = {}
        super().__init__(
            name="synthetic",
            ids=[f"{split}-{seed}-{i:06d}" for i in range(count)],
            poses=self.people.seen,
            boxes=disturbed(self.people.boxes(around.kind == "head"), self.seed, jitter, loose)
            * size,
            margins=around.margins,
            protocol=f"{'synthetic' if mesh is None else 'head model'} heads "
            f"({split}, seed {seed}, {count} samples, "
            f"yaw {yaw[0]:g}..{yaw[1]:g}°), {around}",
        )

    def image(self, index: int) -> Image.Image:
        """Sample `index`; threads may call it at the same time.

        The first samples, up to `KEPT_BYTES`, are rendered once and kept, the others at each call.
        """
        return Image.fromarray(self._sample(index)[0])

    def image_landmarks(self, index: int) -> np.ndarray:
        """See `Dataset.image_landmarks`; rendered as `image` is."""
        return self._sample(index)[1]

    def _sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and landmarks of sample `index`, kept if there is room."""
        number = int(self.numbers[index])
        if number in self._kept:
            return self._kept[number]
        last = self._last.get(threading.get_ident())
        if last is not None and last[0] == number:
            return last[1]
        picture, landmarks = self.rendered(index)
        sample = np.array(picture), landmarks
        if (number + 1) * self.size**2 * 3 <= KEPT_BYTES:
            self._kept[number] = sample
        else:
            self._last[threading.get_ident()] = number, sample
        return sample

    def rendered(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Sample `index`, rendered anew and not kept, and 300W's landmarks in it.

        Returns:
            The image, and (68, 3) float32: x and y in pixels, and 1 where a landmark is seen.
        """
        number = int(self.numbers[index])
        return self.people.picture(number, self.people.poses[number], self.size, self.photo)

    def landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 mm from the head's pivot, turned, with the picture's expression.

        Of the built-in heads MediaPipe's 468; see `builtin/landmarks.py` for which of them are
        exact. Of a head model 300W's 68.
        """
        points = self.people.landmarks(self.numbers[index : index + 1])[0]
        return points @ np.asarray(pose_to_matrix(self.poses[index].astype(np.float32))).T

    def frontal_landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 mm of the person of sample `index`, looking ahead without expression."""
        return self.people.frontal_landmarks(int(self.numbers[index]))

    def landmarks_of(self, index: int, pose: ArrayLike) -> np.ndarray:
        """(..., L, 3) float32: sample `index`'s person, without expression, in (..., 3) poses."""
        turns = np.asarray(pose_to_matrix(np.asarray(pose, np.float32)))
        return self.frontal_landmarks(index) @ np.swapaxes(turns, -1, -2)

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        super().select(keep)
        self.numbers = self.numbers[keep]


def open_dataset(
    folder: Path | None = None,
    filename_list: Path | None = None,
    crop: Crop = AROUND_POINTS,
    train: bool = False,
    seed: int = 0,
    samples: int | None = None,
    yaw: float | None = None,
    input_size: int = 128,
    camera_without: str | None = None,
    mesh: Path | None = None,
    identities: int | None = None,
    **_: Any,
) -> SyntheticHeads:
    """Synthetic heads for training or, by default, validation.

    Args:
        folder, filename_list: must be None; the heads are rendered, not read.
        crop: crop of the network.
        train: the training split, with wider poses: yaw ±95°, pitch and roll ±50°, and a third of
            the boxes loose. Validation poses are uniform in yaw ±75° and in pitch and roll ±40°.
        seed: random seed of the training split; the validation split is always the same.
        samples: number of heads; None means that of `COUNTS`.
        yaw: largest yaw in degrees; None means as above, and the full circle for crops
            of the whole head.
        input_size: side of the network's input; pictures are a quarter larger.
        camera_without: groups of `effects.GROUPS` that the images lack, by commas, or "none" for
            all effects; None means those with a head model, and the plain camera without.
        mesh: file of a head model; None means the built-in heads.
        identities: number of people of the head model; None means one for each sample.

    Raises:
        InputError: options contradict each other, or one is not of its kind.
    """
    if folder is not None or filename_list is not None:
        raise InputError(
            "synthetic heads are rendered, not read; leave --data_dir and --filename_list out"
        )
    if identities is not None and mesh is None:
        raise InputError("--identities counts people of a head model; give its file as --mesh")
    around = crop.around("synthetic", ("landmarks", "head"), train)
    whole = around.kind == "head"
    if yaw is None:
        yaw = 180 if whole else (95 if train else 75)
    if camera_without is None and mesh is not None:
        camera_without = "none"
    tilt, split = (50, "train") if train else (40, "val")
    return SyntheticHeads(
        samples or COUNTS[split],
        split,
        seed if train else 0,
        size=input_size * 5 // 4,
        yaw=(-yaw, yaw),
        pitch=(-tilt, tilt),
        roll=(-tilt, tilt),
        around=around,
        loose=0.35 if train and not whole else 0.0,
        photo=camera(None if camera_without is None else without(camera_without)),
        mesh=None if mesh is None else Path(mesh),
        identities=identities,
    )
