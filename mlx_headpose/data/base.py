"""What a dataset is: a list of (picture, face box, pose), made once and indexed by number."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ..core.crop import NONE, Margins
from ..errors import InputError

# Decoding takes up to 18 bytes a pixel; phones take 108 megapixels.
MAX_PIXELS = 108_000_000
MAX_SCANS = 100
# What photos come as. PIL knows more, and hands some of it (PostScript) to other programs.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "AVIF", "HEIF")
_WARNINGS = threading.Lock()


@dataclass
class Dataset:
    """Samples of one annotated set, in our conventions.

    Attributes:
        name: what reports call it.
        ids: one name per sample, for reports and error messages.
        poses: (N, 3) float32 yaw, pitch, roll in degrees.
        boxes: (N, 4) float64 x_min, y_min, x_max, y_max around the face, before any margin.
        margins: what is added to a box to make a crop.
        protocol: one sentence that says which samples and which box and crop these are.
        dropped: reason → number of listed samples that are left out.
        columns: further values of the samples, (N, ...) each, such as FaceScape's "person".
    """

    name: str
    ids: Sequence[str]
    poses: np.ndarray
    boxes: np.ndarray
    margins: Margins = NONE
    protocol: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    # Whether samples are scenes of many heads, to find them in.
    shows_scenes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float64)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture.

        Raises:
            InputError: the file is missing or broken.
        """
        raise NotImplementedError

    def path(self, index: int) -> Path | None:
        """The picture file of sample `index`, where it has one of its own.

        Training then decodes large JPEGs at reduced scale instead of calling `image`.
        """
        return None

    def landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 landmarks of sample `index`, in image axes."""
        raise InputError(f"{self.name} has no 3D landmarks; use a set that has, such as synthetic")

    def scene(
        self, index: int, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Picture (H, W, 3) uint8 and targets (M, 11) of sample `index`, to train detectors on."""
        raise NotImplementedError

    def crop_box(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """(4,) box to cut, margins added; `rng` samples them where they are random."""
        return self.margins.apply(self.boxes[index], rng)

    def cut(self, index: int, box: np.ndarray, size: int) -> np.ndarray:
        """Cut a box out of a sample's image and scale it, as one resampling.

        A JPEG is decoded at a half, quarter or eighth where the crop still has at least `size`
        pixels: the decoder's own scaling then does what the resampling's antialiasing would.

        Args:
            index: sample.
            box: (4,) x_min, y_min, x_max, y_max in pixels, with fractions; outside is black.
            size: side of the result.

        Returns:
            (size, size, 3) uint8.
        """
        path = self.path(index)
        if path is None:
            return resample(self.image(index), box, size)
        reduction = max(1.0, min(box[2] - box[0], box[3] - box[1]) / size)
        picture, scale = open_reduced(path, reduction)
        return resample(picture, box * scale, size)

    def select(self, keep: np.ndarray) -> None:
        """Keep the samples where the (N,) boolean `keep` is true."""
        self.ids = [name for name, kept in zip(self.ids, keep, strict=True) if kept]
        self.poses = self.poses[keep]
        self.boxes = self.boxes[keep]
        self.columns = {name: values[keep] for name, values in self.columns.items()}

    def drop(self, bad: np.ndarray, reason: str) -> None:
        """Leave out, and count, the samples where the (N,) boolean `bad` is true."""
        if bad.any():
            self.dropped[reason] = int(bad.sum())
            self.select(~bad)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file of one of `FORMATS`, to be decoded within.

    Raises:
        InputError: it is missing, damaged, too large, or no picture.
    """
    try:
        with _recognised(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            # Each scan goes over the whole picture, and may take no more than 20 bytes.
            if "progressive" in picture.info and scans(path) > MAX_SCANS:
                raise InputError(f"a JPEG of over {MAX_SCANS} scans; save it again")
            yield picture
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; give a picture") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path}: over {MAX_PIXELS // 1_000_000} megapixels; scale it down first"
        ) from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # PIL's decoders raise nearly anything on damaged files
        raise InputError(
            f"{path}: no picture that can be read ({error}); replace it, or leave it out, which "
            "training and tests do with --skip_bad"
        ) from None


def _recognised(path: Path) -> Image.Image:
    """A picture file of one of `FORMATS`, its header read."""
    Image.init()
    # Filters of warnings are the whole process's: threads would put back one another's.
    with _WARNINGS, warnings.catch_warnings():
        # PIL warns of large pictures on the screen; `MAX_PIXELS` refuses them.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN])


def scans(path: Path) -> int:
    """The scans of a progressive JPEG; usual ones have 10."""
    return path.read_bytes().count(b"\xff\xda")


def open_picture(path: Path) -> Image.Image:
    """A picture file as RGB.

    Raises:
        InputError: it is missing, truncated, or no picture.
    """
    return open_reduced(path, 1.0)[0]


def open_reduced(path: Path, reduction: float) -> tuple[Image.Image, float]:
    """A picture file as RGB, perhaps decoded smaller, and its scale.

    Args:
        path: the file.
        reduction: how much smaller it may be. A JPEG then comes at the nearest of 1, 1/2, 1/4 and
            1/8 that is not smaller; other formats come at full size.

    Raises:
        InputError: it is missing, truncated, or no picture.
    """
    with opened(path) as picture:
        scale = 1.0
        if reduction >= 2:
            width, height = picture.size
            drafted = picture.draft("RGB", (int(width / reduction), int(height / reduction)))
            scale = drafted[1][2] / width if drafted else 1.0
        return picture.convert("RGB"), scale


def resample(picture: Image.Image, box: np.ndarray, size: int) -> np.ndarray:
    """The (4,) box of an RGB picture as (size, size, 3) uint8, bilinear with antialiasing."""
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = max(math.ceil(box[2]), left + 1), max(math.ceil(box[3]), top + 1)
    patch = picture.crop((left, top, right, bottom))
    inner = (
        max(float(box[0]) - left, 0.0),
        max(float(box[1]) - top, 0.0),
        min(max(float(box[2]) - left, float(box[0]) - left + 1e-3), right - left),
        min(max(float(box[3]) - top, float(box[1]) - top + 1e-3), bottom - top),
    )
    return np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR, box=inner))
