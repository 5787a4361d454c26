"""Writes what the Swift tests compare with: crops, rotations, filters and files as Python has them.

    PYTHONPATH=. python swift/Tests/write_golden.py

`tests/test_swift.py` fails where the files in golden/ are no longer what this writes.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip
import numpy as np
from PIL import ExifTags, Image
from scipy.spatial.transform import Rotation

from mlx_headpose.core.crop import Margins
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.export.metadata import describe, fed_with_images, shares
from mlx_headpose.inference.pictures import open_picture
from mlx_headpose.inference.smoothing import PoseFilter
from mlx_headpose.methods import config_class
from mlx_headpose.pose import geodesic_degrees, matrix_to_pose, pose_to_matrix, wrap
from mlx_headpose.readers import mlxfn
from mlx_headpose.space.zero import calibrate

GOLDEN = Path(__file__).parent / "HeadPoseCoreTests" / "golden"
SIZES = [(97, 71), (24, 130), (1, 1)]  # width, height of the images
PREPROCESSINGS = [
    Preprocessing(size=16, resize="short_side"),
    Preprocessing(size=17, resize="squash"),
    Preprocessing(size=14, resize="short_side", resize_to=20),
    Preprocessing(size=9, resize="squash", resize_to=12),
]
MARGINS = [
    Margins(),
    Margins((0.6, 0.275, 0.6, 0.6)),
    Margins((2.0, 2.0, 2.0, 0.6), (0.2, 0.4)),
]


def images() -> list[np.ndarray]:
    """Noise over slopes, (height, width, 3)."""
    rng = np.random.default_rng(0)
    slopes = (np.mgrid[:h, :w].sum(0)[:, :, None] * [1, 2, 3] for w, h in SIZES)
    return [(s + rng.integers(0, 128, s.shape)).astype(np.uint8) for s in slopes]


def boxes(width: int, height: int) -> list[list[float]]:
    """Boxes inside, across the edges and outside; small, large and of every proportion."""
    rng = np.random.default_rng(width)
    some = [
        [0, 0, width, height],
        [10.999999, 5.000001, 26.999998, 21.000002],
        [4, 7, 20, 23],
        [0.3, 0.4, 0.6, 0.7],
        [-0.9, -0.9, -0.2, -0.1],
        [-50.5, -60.5, -20.5, -10.5],
        [2 * width + 3.5, 1, 2 * width + 9, 30],
        [-1e7, -3.5, 1e7, height / 2],
        [-40, -30, width + 55, height + 66],
    ]
    for _ in range(8):
        x, y = rng.uniform(-0.3, 0.9, 2) * [width, height]
        w, h = np.exp(rng.uniform(0, 1, 2) * np.log([1.5 * width + 1, 1.5 * height + 1])) + 0.5
        some.append([x, y, x + w, y + h])
    if width > 90:  # lines of over 50 times their width: one is squashed, of the other the middle
        some += [[8, 9, 90, 10], [-90, 10, 180, 13]]
    return np.array(some, np.float32).tolist()


def crops() -> tuple[list[dict[str, Any]], bytes]:
    """Each case, and the bytes of all crops one after another."""
    cases, pixels = [], b""
    for number, image in enumerate(images()):
        for index, box in enumerate(boxes(image.shape[1], image.shape[0])):
            preprocessing = PREPROCESSINGS[index % len(PREPROCESSINGS)]
            margins = MARGINS[(index + number) % len(MARGINS)]
            config = SimpleNamespace(preprocessing=preprocessing)
            read = ImageInput(preprocessing).head_reader(margins, None)
            crop = read(image, np.array(box, np.float32))
            assert crop is not None
            pixels += crop.tobytes()
            given = {"face_margins": shares(margins), "head_margins": [0.0, 0.0, 0.0, 0.0]}
            fed = {**fed_with_images(config), **given}  # type: ignore[arg-type]
            cases.append({"image": number, "box": box, "input": fed})
    return cases, pixels


def rotations() -> list[dict[str, Any]]:
    """Poses with their matrices, other triples, and distances to the pose before."""
    rng = np.random.default_rng(1)
    poses = rng.uniform([-180, -90, -180], [180, 90, 180], (40, 3))
    poses[:6] = [[0, 0, 0], [90, 20, 0], [-90, 10, 0], [180, 0, 0], [30, 0, 0], [30, 1e-7, 0]]
    matrices = pose_to_matrix(poses)
    narrow, full = matrix_to_pose(matrices), matrix_to_pose(matrices, full_yaw=True)
    return [
        {
            "pose": poses[i].tolist(),
            "matrix": matrices[i].tolist(),
            "narrow": narrow[i].tolist(),
            "full": full[i].tolist(),
            "vector": Rotation.from_matrix(matrices[i]).as_rotvec().tolist(),
            "geodesic": float(geodesic_degrees(matrices[i], matrices[i - 1])),
        }
        for i in range(len(poses))
    ]


def filtered() -> dict[str, Any]:
    """A head that turns once around, with noise, and what the filter makes of it."""
    rng = np.random.default_rng(2)
    poses = np.stack([np.linspace(0, 360, 60), *(20 * np.sin(np.arange(60) / [[5], [7]]))], 1)
    poses = wrap(poses + rng.normal(0, 2, poses.shape))
    seconds = rng.uniform(0.01, 0.08, len(poses))
    seconds[7] = 0
    smooth = PoseFilter()
    smoothed = [smooth(p, float(s)).tolist() for p, s in zip(poses, seconds, strict=True)]
    return {"poses": poses.tolist(), "seconds": seconds.tolist(), "filtered": smoothed}


def zero() -> dict[str, Any]:
    """Poses relative to the mean of the first few, which stands for a direction."""
    rng = np.random.default_rng(3)
    poses = np.array([25.0, -12.0, 4.0]) + rng.normal(0, 3, (20, 3))
    later = rng.uniform([-180, -60, -60], [180, 60, 60], (20, 3))
    # Between the triples that the full circle of yaw and the direction would choose.
    later = np.concatenate([later, [[-10.0, 95.0, 95.0], [20.0, -110.0, 100.0]]])
    directions = [(0.0, 0.0, 0.0), (30.0, -10.0, 5.0)]
    zeros = [calibrate(poses, direction) for direction in directions]
    return {
        "reference": poses.tolist(),
        "poses": later.tolist(),
        "directions": directions,
        "relative": [one(later).tolist() for one in zeros],
    }


def pixel_forms() -> dict[str, Any]:
    """What Python makes of EXIF orientations and of transparency."""
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 256, (2, 3, 3), np.uint8)
    upright = {}
    for orientation in range(1, 9):
        image = Image.fromarray(stored)
        image.getexif()[ExifTags.Base.Orientation] = orientation
        upright[str(orientation)] = open_picture(image).ravel().tolist()
    rgba = rng.integers(0, 256, (1, 50, 4), np.uint8)
    return {
        "stored": stored.ravel().tolist(),
        "upright": upright,
        "rgba": rgba.ravel().tolist(),
        "on_white": open_picture(rgba).ravel().tolist(),
    }


def functions() -> dict[str, str]:
    """A tiny function in both forms of the file, in base64."""
    config = config_class("rotation9d")()
    example = mx.zeros((1, config.preprocessing.size, config.preprocessing.size, 3), mx.uint8)
    about = describe(config, example, ["pose", "output0", "confidence"], (1,), "tiny", "MIT")
    text = json.dumps(about)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/tiny.mlxfn"
        with mx.stream(mx.cpu):
            mx.export_function(path, lambda x: [mx.abs(x)], mx.zeros((1, 2)))
        content = Path(path).read_bytes()
    forms = {
        "with": mlxfn.with_metadata(content, text),
        "without": mlxfn.with_metadata(content, None),
        "empty": mlxfn.with_metadata(content, ""),
    }
    return {
        **{name: base64.b64encode(form).decode() for name, form in forms.items()},
        "metadata": text,
    }


def golden() -> dict[str, bytes]:
    """The files by their names."""
    cases, pixels = crops()
    values = {
        "sizes": SIZES,
        "crops": cases,
        "rotations": rotations(),
        "filter": filtered(),
        "zero": zero(),
        "pixels": pixel_forms(),
    }
    return {
        "golden.json": (json.dumps(values) + "\n").encode(),
        "functions.json": (json.dumps(functions()) + "\n").encode(),
        "images.bin": b"".join(image.tobytes() for image in images()),
        "crops.bin": pixels,
    }


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, content in golden().items():
        (GOLDEN / name).write_bytes(content)
        print(f"{GOLDEN / name}: {len(content)} bytes")
