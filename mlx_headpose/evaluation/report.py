"""`test.py --report`: one self-contained page about a network on a dataset.

The page holds its pictures and curves itself and loads nothing, so it can be mailed and kept.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..data import Dataset
from ..figures import AXIS_COLOURS, new_figure
from ..files import atomic_path
from ..pose import angle_errors, geodesic_errors
from .evaluate import Evaluation
from .faces import Face, axes_of, best_and_worst
from .intervals import ANGLES, errors_by_interval

THUMBNAIL = 132  # pixels
# Coarse directions: a head looks to a side beyond 30° of yaw, up or down beyond 15° of pitch.
SIDE, TILT = 30.0, 15.0
DIRECTIONS = [
    f"{tilt} {side}" for tilt in ("up", "level", "down") for side in ("left", "ahead", "right")
]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; text-align: right; }
th { font-weight: 600; border-bottom: 1px solid #999; }
td:first-child, th:first-child { text-align: left; }
.confusion td, .confusion th { padding: .2rem .45rem; font-size: 13px; }
.gallery { display: flex; flex-wrap: wrap; gap: 10px; } figure { margin: 0; width: 132px; }
figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; }
.charts img { max-width: 100%; }
"""


def write_report(path: Path, evaluation: Evaluation, dataset: Dataset, title: str) -> None:
    """Write the page, atomically.

    Args:
        path: the `.html` file.
        evaluation: evaluation of a network on the dataset.
        dataset: its pictures; no picture is shown if the set has none (landmarks alone).
        title: what was evaluated.

    Raises:
        InputError: matplotlib, which draws the curves, is not installed.
    """
    best, worst = best_and_worst(evaluation, dataset, THUMBNAIL)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(evaluation.protocol or evaluation.dataset)}</p>",
        _table(evaluation),
        "<h2>Error over the true angle, and how many images stay below an error</h2>",
        f'<p class="charts">{_charts(evaluation)}</p>',
        "<h2>Coarse directions: true in rows, predicted in columns</h2>",
        _confusion(evaluation),
    ]
    legend = (
        "<p>Red points to the right, green down and blue out of the face of a frontal head. "
        "Solid lines are predicted, dashed lines are true. The error is the angle between the two "
        "poses.</p>"
    )
    for heading, faces in (("worst", worst), ("best", best)):
        if faces:
            sections.append(f"<h2>The {len(faces)} {heading}</h2>{legend}")
            sections.append(f'<div class="gallery">{"".join(map(_figure, faces))}</div>')
            legend = ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    with atomic_path(path) as temporary:  # names that no browser could show are spelled out
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _table(evaluation: Evaluation) -> str:
    """Mean errors of all images, and of the bands where the set has them."""
    columns = ("yaw", "pitch", "roll", "mae", "geodesic", "vmae")
    rows = {"all": {**evaluation.metrics().to_dict(), "used": len(evaluation.ids)}}
    rows |= evaluation.bands()
    head = "".join(f"<th>{name}</th>" for name in ("images", *columns))
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{row['used']}</td>"
        + "".join(f"<td>{row[column]:.2f}°</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    )
    dropped = "; ".join(f"{count} have {why}" for why, count in evaluation.dropped.items())
    return (
        f"<table><tr><th></th>{head}</tr>{body}</table>"
        f"<p>Left out: {html.escape(dropped or 'none')}.</p>"
    )


def _charts(evaluation: Evaluation) -> str:
    """Error by interval of each angle, and the cumulative curves, as one embedded drawing."""
    figure = new_figure(11, 6.4)
    axes = figure.subplots(2, 3)
    errors = angle_errors(evaluation.predictions, evaluation.poses)
    for column, (name, colour) in enumerate(zip(ANGLES, AXIS_COLOURS, strict=True)):
        middle, error, counts = errors_by_interval(evaluation.predictions, evaluation.poses, column)
        axis = axes[0, column]
        axis.plot(middle, error, "o-", color=colour, markersize=3)
        axis.set(xlabel=f"true {name} (°)", ylabel="mean absolute error (°)", ylim=(0, None))
        behind = axis.twinx()
        behind.bar(middle, counts, width=9, color="#bbb", alpha=0.35)
        behind.set_yticks([])
        axis.grid(alpha=0.3)
    axes[0, 1].set_title("grey: how many images lie there", fontsize=9)
    geodesic = np.sort(geodesic_errors(evaluation.predictions, evaluation.poses))
    share = np.arange(1, len(geodesic) + 1) / len(geodesic)
    for axis, limit in ((axes[1, 0], 10), (axes[1, 1], 40), (axes[1, 2], 180)):
        for column, (name, colour) in enumerate(zip(ANGLES, AXIS_COLOURS, strict=True)):
            axis.plot(np.sort(errors[:, column]), share, color=colour, label=name)
        axis.plot(geodesic, share, color="#444", label="geodesic")
        axis.set(xlabel="error (°)", ylabel="share of images", xlim=(0, limit), ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[1, 0].legend(fontsize=8)
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg")
    encoded = base64.b64encode(drawing.getvalue()).decode()
    return f'<img alt="error curves" src="data:image/svg+xml;base64,{encoded}">'


def directions(poses: np.ndarray) -> np.ndarray:
    """(N, 3) poses → index into `DIRECTIONS`; left and right are the picture's."""
    side = np.where(poses[:, 0] > SIDE, 0, np.where(poses[:, 0] < -SIDE, 2, 1))
    tilt = np.where(poses[:, 1] > TILT, 0, np.where(poses[:, 1] < -TILT, 2, 1))
    return 3 * tilt + side


def _confusion(evaluation: Evaluation) -> str:
    counts = np.zeros((len(DIRECTIONS), len(DIRECTIONS)), int)
    finite = np.isfinite(evaluation.predictions).all(axis=1)
    poses, predictions = evaluation.poses[finite], evaluation.predictions[finite]
    np.add.at(counts, (directions(poses), directions(predictions)), 1)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{name}</th>" for name in DIRECTIONS)
    rows = []
    for name, row, shares in zip(DIRECTIONS, counts, counts / totals, strict=True):
        cells = "".join(
            f'<td style="background: rgba(31, 119, 180, {share:.2f})">{count or ""}</td>'
            for count, share in zip(row, shares, strict=True)
        )
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    missing = f" {(~finite).sum()} predictions are no numbers and are left out."
    missing = "" if finite.all() else missing
    return (
        f'<table class="confusion"><tr><th></th>{head}</tr>{"".join(rows)}</table>'
        f"<p>Left and right (beyond {SIDE:g}° of yaw) are the picture's; up and down begin at "
        f"{TILT:g}° of pitch. Shades are shares of a row.{missing}</p>"
    )


def _figure(face: Face) -> str:
    """One face with both poses drawn over it."""
    buffer = io.BytesIO()
    Image.fromarray(face.pixels).save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    lines = _axes(face.true, 'stroke-dasharray="4 3" stroke-opacity="0.9"')
    lines += _axes(face.predicted, "")
    caption = "<br>".join((html.escape(face.name), *face.captions()))
    return (
        f'<figure><svg width="{THUMBNAIL}" height="{THUMBNAIL}">'
        f'<image href="data:image/jpeg;base64,{encoded}" width="{THUMBNAIL}" '
        f'height="{THUMBNAIL}"/>{lines}</svg><figcaption>{caption}</figcaption></figure>'
    )


def _axes(pose: np.ndarray, dashes: str) -> str:
    middle = THUMBNAIL / 2
    return "".join(
        f'<line x1="{middle}" y1="{middle}" x2="{x:.1f}" y2="{y:.1f}" '
        f'stroke="{colour}" stroke-width="2.5" {dashes}/>'
        for (x, y), colour in zip(axes_of(pose, THUMBNAIL), AXIS_COLOURS, strict=True)
    )
