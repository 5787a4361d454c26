"""`mlx-headpose tokens`: what TokenHPE's orientation tokens look at, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...cli.options import Parser
from ...errors import InputError
from ...inference.estimator import HeadPoseEstimator
from ...inference.pictures import open_picture
from .attention import draw_tokens, region_names, view_tokens


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    parser = Parser(program, "Draw what TokenHPE's orientation tokens look at in a picture.")
    parser.add_argument(
        "--snapshot", "--model_path", required=True, help=".safetensors file, folder or hub id"
    )
    parser.add_argument("--image", required=True, help="the picture; its largest face is shown")
    parser.add_argument("--output", required=True, type=Path, help="picture (.png) to draw")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("X_MIN", "Y_MIN", "X_MAX", "Y_MAX"),
        help="face box in pixels; by default the face detector's",
    )
    parser.add_argument("--detector", help="file of the face detector")
    options = parser.parse_args(arguments)
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    picture = open_picture(options.image)
    heads = estimator(picture, None if options.box is None else [options.box], max_heads=1)
    if not heads:
        raise InputError(f"{options.image}: no face found; say where it is by --box")
    crop = estimator.read_head(picture, np.array(heads[0].box))
    assert crop is not None
    view = view_tokens(estimator.model, crop)
    draw_tokens(view, options.output)
    yaw, pitch, roll = view.pose
    region = region_names(len(view.token_poses))[view.region]
    print(f"yaw {yaw:.1f}  pitch {pitch:.1f}  roll {roll:.1f}  region {view.region} ({region})")
    print(f"wrote {options.output}")
