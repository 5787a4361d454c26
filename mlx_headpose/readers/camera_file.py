"""Untrusted camera calibrations: OpenCV's JSON and YAML, ROS's YAML, or plain numbers.

OpenCV's own reader is not used: it is C++ that was not made for untrusted files, and Macs need not
have it. Of YAML only what such files hold is read: keys, numbers, words and lists of numbers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..space.intrinsics import COEFFICIENTS, Camera

MAX_BYTES = 1 << 20
MATRIX = ("camera_matrix", "cameraMatrix", "camera_intrinsics", "intrinsics", "K", "mtx")
MODEL = "distortion_model"
MODELS = ("plumb_bob", "rational_polynomial")  # ROS's names of OpenCV's two
DISTORTION = (
    "distortion_coefficients", "distCoeffs", "dist_coeffs", "distortion", "D", "dist"
)  # fmt: skip
WIDTH, HEIGHT = ("image_width", "width"), ("image_height", "height")
SINGLE = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_KEY = re.compile(r"^(\s*)(?:- )?\"?([A-Za-z_][\w.]*)\"?\s*:(?:\s+(.*))?$")


def read_camera(path: str | Path) -> Camera:
    """The camera that a calibration file describes.

    Args:
        path: .json, .yml or .yaml with a camera matrix (`camera_matrix`, as OpenCV's calibration
            writes it) or `fx`, `fy`, `cx`, `cy`; perhaps distortion coefficients or `k1`, `k2`, …;
            perhaps `image_width` and `image_height`.

    Raises:
        InputError: it is missing, damaged, or holds no camera that can be.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over 1 MB is no camera calibration")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such camera file; check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error})") from None
    values = _json(path, text) if text.lstrip()[:1] == "{" else _yaml(text)
    fields = _fields(values)
    try:
        return _camera(fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON ({error})") from None
    return values if isinstance(values, dict) else {}


def _yaml(text: str) -> dict[str, Any]:
    """Keys → numbers or lists of numbers, words being NaN; of a block of keys a dictionary."""
    root: dict[str, Any] = {}
    blocks = [(-1, root)]  # indentation and content of the blocks around this line
    numbers: list[float] = []  # of the list that the line may go on with
    last, brackets = "", 0
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if not line.strip() or line.startswith(("%", "---", "...")):
            continue
        match = _KEY.match(line)
        if brackets > 0 or match is None:
            dashed = brackets <= 0 and line.lstrip().startswith("- ")
            if dashed and blocks[-1][1] == {} and len(blocks) > 1:  # a key without keys of its own
                blocks.pop()
                numbers = blocks[-1][1][last] = []
            if dashed or brackets > 0:
                numbers += _numbers(line)
                brackets += line.count("[") - line.count("]")
            continue
        indentation, last, value = len(match[1]), match[2], (match[3] or "").strip()
        while blocks[-1][0] >= indentation:
            blocks.pop()
        value = re.sub(r"^!!?[\w-]+\s*", "", value)
        if not value:
            block: dict[str, Any] = {}
            blocks[-1][1][last] = block
            blocks.append((indentation, block))
            continue
        numbers = _numbers(value)
        brackets = value.count("[") - value.count("]")
        plain = len(numbers) == 1 and "[" not in value
        if last == MODEL:
            blocks[-1][1][last] = value.strip("\"'")
        else:
            blocks[-1][1][last] = numbers[0] if plain else numbers
    return root


def _numbers(text: str) -> list[float]:
    """The numbers of a list as YAML writes them; words among them become NaN."""
    numbers = []
    for part in re.split(r"[\s,\[\]]+", text):
        if part in ("", "-"):
            continue
        try:
            numbers.append(float(part.lstrip(".") if part.lower() in (".nan", ".inf") else part))
        except ValueError:
            numbers.append(float("nan"))
    return numbers


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    """All keys in one dictionary: some programs put the camera in a block of its own."""
    fields = dict(values)
    for value in values.values():
        if isinstance(value, dict) and "data" not in value:
            fields = {**value, **fields}
    return fields


def _camera(fields: dict[str, Any]) -> Camera:
    matrix = next((_array(fields[key]) for key in MATRIX if key in fields), None)
    if matrix is not None:
        if matrix.size != 9:
            raise InputError(f"the camera matrix has {matrix.size} numbers, not 9")
        (fx, skew, cx), (left, fy, cy), last = matrix.reshape(3, 3)
        # Compared by "not": a NaN is refused too.
        if not (abs(skew) <= 1e-3 * abs(fx) and left == 0 and (last == (0, 0, 1)).all()):
            raise InputError("the camera matrix is not [fx 0 cx; 0 fy cy; 0 0 1]")
    elif all(key in fields for key in ("fx", "fy", "cx", "cy")):
        fx, fy, cx, cy = (_number(fields, key) for key in ("fx", "fy", "cx", "cy"))
    else:
        raise InputError("holds neither a camera_matrix nor fx, fy, cx and cy")
    if (model := fields.get(MODEL, MODELS[0])) not in MODELS:
        raise InputError(f"{MODEL} {model} is not supported; calibrate with {' or '.join(MODELS)}")
    single = [_number(fields, key) if key in fields else 0.0 for key in SINGLE]
    listed = next((_array(fields[key]) for key in DISTORTION if key in fields), None)
    coefficients = np.array(single) if listed is None else listed.ravel()
    if coefficients[COEFFICIENTS:].any():
        raise InputError("thin prism and tilted sensor models are not supported")
    size = []
    for names in (WIDTH, HEIGHT):
        pixels = next((_number(fields, key) for key in names if key in fields), 0.0)
        if not (0 <= pixels <= 1e5 and pixels == int(pixels)):
            raise InputError(f"{names[0]} is no number of pixels")
        size.append(int(pixels))
    return Camera(
        float(fx),
        float(fy),
        float(cx),
        float(cy),
        size[0],
        size[1],
        tuple(float(v) for v in coefficients[:COEFFICIENTS]),
    )


def _array(value: Any) -> np.ndarray:
    """Numbers of a list, a list of lists, or OpenCV's {rows, cols, data}."""
    if isinstance(value, dict):
        value = value.get("data", [])
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError("a matrix holds something else than numbers") from None
    if array.size > 64:
        raise InputError(f"a matrix of {array.size} numbers is none of a camera")
    return array


def _number(fields: dict[str, Any], key: str) -> float:
    try:
        value = float(fields[key])
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{key} is no number") from None
    if not np.isfinite(value):
        raise InputError(f"{key} is no finite number")
    return value
