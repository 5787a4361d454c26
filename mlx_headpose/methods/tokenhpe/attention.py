"""What TokenHPE's orientation tokens do on one image, as its paper shows it.

How alike the tokens are, how much they look at each other in each block, and which parts of the
face each of them looks at. The fused attention keeps no weights, so they are computed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...errors import InputError
from ...figures import AXIS_COLOURS, new_figure, write_figure
from ...pose import axis_endpoints, r_to_pose
from .. import Estimator
from .network import PITCH_CUT, YAW_CUTS, Config, region_of


@dataclass
class TokenView:
    """What the tokens of a network do on one image.

    R is the number of orientation tokens, g the number of image tokens along a side.

    Attributes:
        image: (size, size, 3) uint8, what the network saw.
        pose: (3,) the final yaw, pitch, roll in degrees.
        region: number of the region in which the pose lies.
        token_poses: (R, 3) every token's own pose.
        similarity: (blocks + 1, R, R) cosines between orientation tokens: as learned, and after
            each block.
        among: (blocks, R, R) attention of each orientation token (row) to the others; mean over
            heads, rows scaled to sum to 1.
        face: (blocks, R, g, g) attention of each orientation token to the image's; mean over
            heads, what is left of 1 goes to orientation tokens.
    """

    image: np.ndarray
    pose: np.ndarray
    region: int
    token_poses: np.ndarray
    similarity: np.ndarray
    among: np.ndarray
    face: np.ndarray


def view_tokens(model: Estimator, image: np.ndarray) -> TokenView:
    """Run a TokenHPE network on one image and watch its tokens.

    Args:
        model: in evaluation mode.
        image: (size, size, 3) uint8, already cut.

    Raises:
        InputError: the network is of another method.
    """
    config = model.config
    if not isinstance(config, Config):
        raise InputError(f"{config.model_type} has no orientation tokens; give a tokenhpe network")
    head, count = model.head, config.regions
    features = model.backbone(config.preprocessing.normalize(mx.array(image)[None]))
    x = head.embed(features)
    similarity, attention = [cosines(x[0, :count])], []
    for block in head.blocks:
        attention.append(block.attn.weights(block.norm1(x))[0].mean(axis=0)[:count])
        x = block(x)
        similarity.append(cosines(x[0, :count]))
    weights = mx.stack(attention)  # (blocks, R, R + g²)
    among = weights[..., :count]
    final, rotations = head.decide(x)
    pose = r_to_pose(final)
    grid = config.vit.grid
    return TokenView(
        image=image,
        pose=np.array(pose[0]),
        region=np.array(region_of(pose, count)).item(),
        token_poses=np.array(r_to_pose(rotations[0])),
        similarity=np.array(mx.stack(similarity)),
        among=np.array(among / among.sum(axis=-1, keepdims=True)),
        face=np.array(weights[..., count:]).reshape(len(weights), count, grid, grid),
    )


def cosines(tokens: mx.array) -> mx.array:
    """(R, width) → (R, R) cosines of the angles between tokens."""
    unit = tokens / mx.maximum(mx.linalg.norm(tokens, axis=-1, keepdims=True), 1e-12)
    return unit @ unit.T


def region_names(regions: int) -> list[str]:
    """Each region's yaws and pitches in degrees, in the order of the tokens."""
    names = []
    above, below = f"pitch > {PITCH_CUT:g}", f"pitch < {-PITCH_CUT:g}"
    for cuts, pitch in zip(YAW_CUTS[regions], (above, "", below), strict=True):
        bounds = [f"> {cuts[0]:g}"]
        bounds += [f"{low:g}..{high:g}" for high, low in pairwise(cuts)]
        bounds += [f"< {cuts[-1]:g}"]
        names += [f"yaw {bound}" + (f", {pitch}" if pitch else "") for bound in bounds]
    return names


def draw_tokens(view: TokenView, path: Path) -> None:
    """Draw a view as a PNG.

    Raises:
        InputError: matplotlib, which draws, is not installed.
    """
    blocks, count = view.among.shape[:2]
    columns = [len(cuts) + 1 for cuts in YAW_CUTS[count]]
    figure = new_figure(3 * (blocks + 1), 6 + 3 * len(columns))
    tables, faces = np.asarray(figure.subfigures(2, height_ratios=(6, 3 * len(columns))))
    _draw_tables(tables, view)
    _draw_faces(faces, view, columns)
    write_figure(figure, path)


def _draw_tables(figure: Any, view: TokenView) -> None:
    """Above: cosines, as learned and after each block. Below: the image, attention per block."""
    blocks, count = view.among.shape[:2]
    grid = figure.subplots(2, blocks + 1)
    yaw, pitch, roll = view.pose
    grid[1, 0].imshow(view.image)
    grid[1, 0].set_title(f"yaw {yaw:.1f}°, pitch {pitch:.1f}°,\nroll {roll:.1f}°")
    grid[1, 0].axis("off")
    tables = [(grid[0, 0], view.similarity[0], "cosines of tokens, as learned")]
    for block in range(blocks):
        after = f"cosines after block {block + 1}"
        tables.append((grid[0, block + 1], view.similarity[block + 1], after))
        tables.append((grid[1, block + 1], view.among[block], f"attention in block {block + 1}"))
    for axes, values, title in tables:
        cosine = title.startswith("cosines")
        limits = (-1, 1) if cosine else (0, float(values.max()))
        colours = "coolwarm" if cosine else "viridis"
        picture = axes.imshow(values, vmin=limits[0], vmax=limits[1], cmap=colours)
        figure.colorbar(picture, ax=axes, shrink=0.7)
        axes.set(title=title, xticks=range(count), yticks=range(count))


def _draw_faces(figure: Any, view: TokenView, columns: list[int]) -> None:
    """Every token's attention over the face in the last block, laid out as its region lies."""
    figure.suptitle("attention of each token over the face, last block; its own rotation as axes")
    names = region_names(len(view.token_poses))
    size = len(view.image)
    grey = view.image.mean(axis=-1)
    number = 0
    for row, panel in enumerate(np.atleast_1d(figure.subfigures(len(columns)))):
        for axes in panel.subplots(1, columns[row]):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
            axes.imshow(
                view.face[-1, number],
                cmap="jet",
                alpha=0.45,
                extent=(-0.5, size - 0.5, size - 0.5, -0.5),
                interpolation="bicubic",
            )
            _draw_axes(axes, view.token_poses[number], size)
            chosen = number == view.region
            axes.set_title(
                f"{number}: {names[number]}", fontsize=8, fontweight="bold" if chosen else None
            )
            axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])
            number += 1


def _draw_axes(axes: Any, pose: np.ndarray, size: int) -> None:
    for end, colour in zip(axis_endpoints(pose, 0.3 * size), AXIS_COLOURS, strict=True):
        axes.plot([size / 2, size / 2 + end[0]], [size / 2, size / 2 + end[1]], color=colour, lw=2)
