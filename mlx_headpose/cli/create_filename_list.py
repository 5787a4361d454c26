"""`create_filename_list.py`: the samples of 300W-LP or AFLW2000 as a text file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.annotated import LIMIT, annotated_names, read_annotation
from ..data.base import SKIP
from ..data.listing import require_folder
from ..errors import InputError
from ..files import write_lines
from ..pose import pose_para_to_pose
from ..readers.numbers import require_radians
from .options import Parser


def run(program: str, arguments: list[str]) -> None:
    """Write the names of all samples whose three angles lie within ±99°, one a line."""
    parser = Parser(program, "List the samples of 300W-LP or AFLW2000 in a text file.")
    parser.add_argument("--root_dir", required=True, help="the dataset's folder")
    parser.add_argument(
        "--filename", default="files.txt", help="file to write, in that folder unless it has a path"
    )
    parser.add_argument("--skip_bad", action="store_true", help="count broken samples and go on")
    options = parser.parse_args(arguments)
    root = require_folder(Path(options.root_dir), "create_filename_list", "--root_dir")
    names = annotated_names(root)
    kept, broken = [], 0
    for name in tqdm(names, unit="file", disable=None):
        try:
            if within_limits(root, name):
                kept.append(name)
        except InputError as error:
            if not options.skip_bad:
                raise InputError(f"{error}{SKIP}") from None
            broken += 1
    if not kept:
        raise InputError(f"{root}: holds no pose within the field's limits; check --root_dir")
    output = Path(options.filename)
    if output.name == options.filename:
        output = root / output
    write_lines(output, kept)
    outside = len(names) - len(kept) - broken
    others = f"; {broken} are broken" if broken else ""
    print(
        f"wrote {output} ({len(kept)} names; {outside} have an angle outside ±{LIMIT:.0f}°{others})"
    )


def within_limits(root: Path, name: str) -> bool:
    """Whether the field's trainings and evaluations keep this sample.

    Raises:
        InputError: its annotation is broken.
    """
    path = root / f"{name}.mat"
    pose_para = read_annotation(path, "Pose_Para")["Pose_Para"].ravel()[:3]
    try:
        require_radians(pose_para, "Pose_Para")
    except ValueError as error:
        raise InputError(f"{path}: {error}; replace it") from None
    return bool((np.abs(pose_para_to_pose(pose_para)) <= LIMIT).all())
