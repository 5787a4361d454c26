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
from ..data.crop import cut
from ..errors import InputError
from ..files import atomic_path
from ..pose import angle_errors, axis_endpoints, geodesic_errors
from ..preprocessing import Preprocessing
from .evaluate import Evaluation
from .intervals import ANGLES, errors_by_interval

GALLERY = 24
THUMBNAIL = 132  # pixels
COLOURS = ("#d62728", "#2ca02c", "#1f77b4")  # of the axes to the right, down and out of the face
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
        evaluation: of a network on the dataset.
        dataset: its pictures; None of them is shown if the set has none (landmarks alone).
        title: what was evaluated.

    Raises:
        InputError: matplotlib, which draws the curves, is not installed.
    """
    errors = geodesic_errors(evaluation.predictions, evaluation.poses)
    order = np.argsort(errors)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(evaluation.protocol or evaluation.dataset)}</p>",
        _table(evaluation),
        "<h2>Error over the true angle, and how many images stay below an error</h2>",
        f'<p class="charts">{_charts(evaluation, errors)}</p>',
        "<h2>Coarse directions: true in rows, predicted in columns</h2>",
        _confusion(evaluation),
    ]
    legend = (
        "<p>Red points to the right, green down and blue out of the face of a frontal head. "
        "Solid lines are predicted, dashed lines are true. The error is the angle between the two "
        "poses.</p>"
    )
    for heading, rows in (("worst", order[::-1][:GALLERY]), ("best", order[:GALLERY])):
        figures = [_figure(evaluation, dataset, int(row), errors[row]) for row in rows]
        if any(figures):
            sections.append(f"<h2>The {len(figures)} {heading}</h2>{legend}")
            sections.append(f'<div class="gallery">{"".join(figures)}</div>')
            legend = ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


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


def _charts(evaluation: Evaluation, geodesic: np.ndarray) -> str:
    """Error by interval of each angle, and the cumulative curves, as one embedded drawing."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("a report needs matplotlib; run `pip install matplotlib`") from None
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    canvas = FigureCanvasSVG(figure)
    axes = figure.subplots(2, 3)
    errors = angle_errors(evaluation.predictions, evaluation.poses)
    for column, (name, colour) in enumerate(zip(ANGLES, COLOURS, strict=True)):
        middle, error, counts = errors_by_interval(evaluation.predictions, evaluation.poses, column)
        axis = axes[0, column]
        axis.plot(middle, error, "o-", color=colour, markersize=3)
        axis.set(xlabel=f"true {name} (°)", ylabel="mean absolute error (°)", ylim=(0, None))
        behind = axis.twinx()
        behind.bar(middle, counts, width=9, color="#bbb", alpha=0.35)
        behind.set_yticks([])
        axis.grid(alpha=0.3)
    axes[0, 1].set_title("grey: how many images lie there", fontsize=9)
    share = np.arange(1, len(geodesic) + 1) / len(geodesic)
    for axis, limit in ((axes[1, 0], 10), (axes[1, 1], 40), (axes[1, 2], 180)):
        for column, (name, colour) in enumerate(zip(ANGLES, COLOURS, strict=True)):
            axis.plot(np.sort(errors[:, column]), share, color=colour, label=name)
        axis.plot(np.sort(geodesic), share, color="#444", label="geodesic")
        axis.set(xlabel="error (°)", ylabel="share of images", xlim=(0, limit), ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[1, 0].legend(fontsize=8)
    drawing = io.StringIO()
    canvas.print_svg(drawing)
    encoded = base64.b64encode(drawing.getvalue().encode()).decode()
    return f'<img alt="error curves" src="data:image/svg+xml;base64,{encoded}">'


def directions(poses: np.ndarray) -> np.ndarray:
    """(N, 3) poses → index into `DIRECTIONS`; left and right are the picture's."""
    side = np.where(poses[:, 0] > SIDE, 0, np.where(poses[:, 0] < -SIDE, 2, 1))
    tilt = np.where(poses[:, 1] > TILT, 0, np.where(poses[:, 1] < -TILT, 2, 1))
    return 3 * tilt + side


def _confusion(evaluation: Evaluation) -> str:
    counts = np.zeros((len(DIRECTIONS), len(DIRECTIONS)), int)
    np.add.at(counts, (directions(evaluation.poses), directions(evaluation.predictions)), 1)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{name}</th>" for name in DIRECTIONS)
    rows = []
    for name, row, shares in zip(DIRECTIONS, counts, counts / totals, strict=True):
        cells = "".join(
            f'<td style="background: rgba(31, 119, 180, {share:.2f})">{count or ""}</td>'
            for count, share in zip(row, shares, strict=True)
        )
        rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    return (
        f'<table class="confusion"><tr><th></th>{head}</tr>{"".join(rows)}</table>'
        f"<p>Left and right (beyond {SIDE:g}° of yaw) are the picture's; up and down begin at "
        f"{TILT:g}° of pitch. Shades are shares of a row.</p>"
    )


def _figure(evaluation: Evaluation, dataset: Dataset, row: int, error: float) -> str:
    """One face as the network saw it, with both poses drawn over it; empty without a picture."""
    name = evaluation.ids[row]
    index = list(dataset.ids).index(name)
    try:
        picture, box = dataset.image(index), dataset.crop_box(index)
    except (InputError, NotImplementedError):
        return ""
    pixels = cut(picture, box, Preprocessing(size=THUMBNAIL))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    lines = _axes(evaluation.poses[row], 'stroke-dasharray="4 3" stroke-opacity="0.9"')
    lines += _axes(evaluation.predictions[row], "")
    true, found = (
        ", ".join(f"{angle:.0f}" for angle in pose)
        for pose in (evaluation.poses[row], evaluation.predictions[row])
    )
    return (
        f'<figure><svg width="{THUMBNAIL}" height="{THUMBNAIL}">'
        f'<image href="data:image/jpeg;base64,{encoded}" width="{THUMBNAIL}" '
        f'height="{THUMBNAIL}"/>{lines}</svg><figcaption>{html.escape(name)}<br>'
        f"{error:.1f}° off<br>predicted {found}<br>true {true}</figcaption></figure>"
    )


def _axes(pose: np.ndarray, dashes: str) -> str:
    middle = THUMBNAIL / 2
    return "".join(
        f'<line x1="{middle}" y1="{middle}" x2="{middle + x:.1f}" y2="{middle + y:.1f}" '
        f'stroke="{colour}" stroke-width="2.5" {dashes}/>'
        for (x, y), colour in zip(axis_endpoints(pose, 0.42 * THUMBNAIL), COLOURS, strict=True)
    )
