"""AFLW2000 and 300W-LP share one layout: a JPEG and a MATLAB file of the same name.

Both come from Zhu et al., "Face Alignment Across Large Poses: A 3D Solution" (CVPR 2016).
`Pose_Para` holds pitch, yaw and roll in radians in our signs, then translation and scale; `pt2d`
the landmarks in the picture, `pt3d_68` (AFLW2000 alone) 68 of them in image axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..core.crop import Crop
from ..errors import InputError
from ..pose import pose_para_to_pose
from ..readers.matlab import OtherVersion, read_arrays
from ..readers.numbers import box_of_points, require_radians
from ..readers.pictures import open_upright
from .base import SKIP, Dataset, refuse_useless_margin
from .listing import cached_table, read_list, require_folder, those_there, walk

# The field's evaluations and trainings keep poses whose three angles lie within these degrees,
# because HopeNet's bins end there. They do it silently; we count.
LIMIT = 99.0
# The box of those `pt2d` that are in the image, both coordinates above 0.
VISIBLE_OF = "pt2d"
VISIBLE = "visible pt2d"


def read_annotation(path: Path, *fields: str) -> dict[str, np.ndarray]:
    """Fields of one `.mat` file as float64 arrays.

    Raises:
        InputError: the file is missing, damaged, or lacks a field.
    """
    try:
        arrays = read_arrays(path, fields)
    except FileNotFoundError:
        raise InputError(f"{path}: not there; check the name or the list") from None
    except OtherVersion as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged .mat file ({error}); replace it") from None
    for name in fields:
        if name not in arrays or not arrays[name].size:
            raise InputError(
                f"{path}: has no {name}; it is no annotation of this dataset; replace it"
            )
    return arrays


def annotated_names(folder: Path) -> list[str]:
    """Every picture below a folder that has its `.mat` file.

    The published archives also hold `.mat` files that belong to no picture.

    Raises:
        InputError: there is none.
    """
    names = [name for name in walk(folder, ".mat") if (folder / f"{name}.jpg").is_file()]
    if not names:
        raise InputError(f"{folder}: holds no .jpg with a .mat beside it; check the folder")
    return names


class AnnotatedPictures(Dataset):
    """JPEGs with a `.mat` file each.

    Args:
        name: name of the dataset.
        folder: where the files lie.
        filename_list: names to take, in order; None walks the folder.
        fields: kind of box → landmark field that it is drawn around, or `VISIBLE`.
        crop: crop of the network.
        train: whether the samples are for training.
        k: margin in place of the crop's own.
        skip_bad: leave broken samples out and count them instead of stopping.
    """

    def __init__(
        self,
        name: str,
        folder: Path | None,
        filename_list: Path | None,
        fields: dict[str, str],
        crop: Crop,
        train: bool = False,
        k: float | None = None,
        skip_bad: bool = False,
    ):
        self.folder = require_folder(folder, name)
        cut = crop.around(name, fields, train, k)
        refuse_useless_margin(k, cut.margins, name)
        ids = (
            read_list(filename_list, self.folder) if filename_list else annotated_names(self.folder)
        )
        dropped: dict[str, int] = {}
        if skip_bad:
            ids, dropped = those_there(
                ids, lambda name: [self._annotation(name), self._picture(name)]
            )
        files = [path for i in ids for path in (self._annotation(i), self._picture(i))]
        table = cached_table(
            self.folder,
            f"{name}-{filename_list.stem if filename_list else 'all'}-{len(fields)}",
            files,
            lambda: self._parse(ids, tuple(fields.values()), skip_bad),
        )
        super().__init__(
            name=name,
            ids=ids,
            poses=table["poses"],
            boxes=table[fields[cut.kind]],
            margins=cut.margins,
            protocol=f"{name}, {cut}",
            dropped=dropped,
        )
        self.listed = len(ids) + sum(dropped.values())
        broken = ~np.isfinite(np.concatenate([self.poses, self.boxes], 1)).all(axis=1)
        if broken.any():
            if not skip_bad:
                first = ids[int(np.argmax(broken))]
                self._parse([first], tuple(fields.values()), skip_bad=False)  # says what it is
                raise InputError(
                    f"{self._annotation(first)}: its pose or landmarks are not numbers; replace it"
                )
            self.drop(broken, "annotation broken")
        impossible = (np.abs(self.poses) > 360).any(axis=1)
        if impossible.sum() > len(impossible) / 2:
            raise InputError(
                f"{self.folder}: most of its poses are beyond a full turn; Pose_Para is in radians,"
                " so convert them from degrees"
            )
        outside = (np.abs(self.poses) > LIMIT).any(axis=1)
        self.drop(outside, f"an angle outside ±{LIMIT:.0f}°")
        if not self.ids:
            raise InputError(f"{self.folder}: no usable sample is left of {self.listed}")

    def image(self, index: int) -> Image.Image:
        """Sample `index` as an RGB picture; see `Dataset.image`."""
        return open_upright(self.path(index))

    def path(self, index: int) -> Path:
        """The JPEG of sample `index`."""
        return self._picture(self.ids[index])

    def _annotation(self, name: str) -> Path:
        return self.folder / f"{name}.mat"

    def _picture(self, name: str) -> Path:
        return self.folder / f"{name}.jpg"

    def _parse(
        self, ids: list[str], point_sets: tuple[str, ...], skip_bad: bool
    ) -> dict[str, np.ndarray]:
        """Poses and, for each landmark field, the box of its points; NaN marks a broken file."""
        parameters = np.full((len(ids), 3), np.nan)
        # In float32 a side that falls on a whole pixel could be truncated to the one before it.
        boxes = {field: np.full((len(ids), 4), np.nan, np.float64) for field in point_sets}
        point_sets = tuple(field for field in point_sets if field != VISIBLE)
        for row, name in enumerate(
            tqdm(ids, "annotations", unit="file", disable=None, leave=False)
        ):
            path = self._annotation(name)
            try:
                content = read_annotation(path, "Pose_Para", *point_sets)
                pose_para = content["Pose_Para"].ravel()[:3]
                try:
                    require_radians(pose_para, "Pose_Para")
                    # Invisible points are -1 in `pt2d`; the published boxes include them.
                    found = [box_of_points(content[field], field) for field in point_sets]
                except ValueError as error:
                    raise InputError(f"{path}: {error}; replace it") from None
            except InputError as error:
                if not skip_bad:
                    raise InputError(f"{error}{SKIP}") from None
                continue
            parameters[row] = pose_para
            for field, box in zip(point_sets, found, strict=True):
                boxes[field][row] = box
                x, y = content[field][:2]
                seen = (x > 0) & (y > 0)
                if VISIBLE in boxes and field == VISIBLE_OF and seen.any():
                    x, y = x[seen], y[seen]
                    boxes[VISIBLE][row] = x.min(), y.min(), x.max(), y.max()
        return {"poses": pose_para_to_pose(parameters).astype(np.float32), **boxes}
