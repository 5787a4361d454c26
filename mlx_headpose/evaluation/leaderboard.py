"""One table of networks, sets and crops: its rows, and how it is written."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.crop import Margins
from ..data import Dataset
from ..data.protocols import PROTOCOLS, Protocol
from ..figures import new_figure, write_figure
from ..files import atomic_path
from ..pose import align_poses, angle_errors, geodesic_errors
from .evaluate import Evaluation

LEGACY = PROTOCOLS["6drepnet"]  # whose count is the minimum over shifts of 180° and 360°
OWN = "the network's own"
DETECTED = "detected faces"


@dataclass(frozen=True)
class Network:
    """What the table says of a network.

    Attributes:
        name: name of its file.
        method: its method and backbone.
        parameters: how many it has.
        megabytes: size of its file.
        speed: images per second that it computed on this machine.
        licence: licence of the weights.
        trained_on: what they were trained on, if it is known.
    """

    name: str
    method: str
    parameters: int
    megabytes: float
    speed: float
    licence: str
    trained_on: str


@dataclass(frozen=True)
class Row:
    """A network on a set by a crop; errors in degrees.

    Attributes:
        network: name of the network.
        dataset: name of the set.
        crop: name of the crop.
        images: how many were used.
        mae: mean of the three angles' errors around the circle.
        legacy: the same with the minimum over shifts of 180° and 360°, which flatters; None of sets
            beyond the poses that it is for.
        geodesic: mean angle of the rotation between the poses.
        aligned_mae, aligned_geodesic: after the one rotation that brings the predictions nearest.
        bands: band of yaw → mean angle of the rotation there.
        published: name of a protocol → its own count, where the crop is that protocol's.
    """

    network: str
    dataset: str
    crop: str
    images: int
    mae: float
    legacy: float | None
    geodesic: float
    aligned_mae: float
    aligned_geodesic: float
    bands: dict[str, float] = field(default_factory=dict)
    published: float | None = None


def make_row(network: str, dataset: str, crop: str, evaluation: Evaluation) -> Row:
    """The row of an evaluation."""
    predicted, true = evaluation.predictions, evaluation.poses
    aligned = align_poses(predicted, true)
    protocol = PROTOCOLS.get(crop)
    return Row(
        network=network,
        dataset=dataset,
        crop=crop,
        images=len(true),
        mae=float(angle_errors(predicted, true).mean()),
        legacy=published_count(LEGACY, predicted, true) if LEGACY.tests(true).all() else None,
        geodesic=float(geodesic_errors(predicted, true).mean()),
        aligned_mae=float(angle_errors(aligned, true).mean()),
        aligned_geodesic=float(geodesic_errors(aligned, true).mean()),
        bands={name: band["geodesic"] for name, band in evaluation.bands().items()},
        published=published_count(protocol, predicted, true) if protocol else None,
    )


def published_count(protocol: Protocol, predicted: np.ndarray, true: np.ndarray) -> float:
    """A protocol's mean error over those of the samples that it tests."""
    tested = protocol.tests(true)
    return float(protocol.mean_errors(predicted[tested], true[tested]).mean())


class WithBoxes(Dataset):
    """A set with other boxes, such as detected ones; samples without one are left out.

    Args:
        dataset: the set.
        boxes: (N, 4), NaN where there is none.
        margins: around them.
        protocol: see `Dataset`.
    """

    def __init__(self, dataset: Dataset, boxes: np.ndarray, margins: Margins, protocol: str):
        super().__init__(
            name=dataset.name,
            ids=list(dataset.ids),
            poses=dataset.poses,
            boxes=boxes,
            margins=margins,
            protocol=protocol,
            dropped=dict(dataset.dropped),
            columns={"index": np.arange(len(dataset))},
        )
        self.whole = dataset
        self.drop(~np.isfinite(boxes).all(axis=1), "no face found")

    def image(self, index: int) -> Image.Image:
        """See `Dataset.image`."""
        return self.whole.image(int(self.columns["index"][index]))

    def path(self, index: int) -> Path | None:
        """See `Dataset.path`."""
        return self.whole.path(int(self.columns["index"][index]))


def split_licence(text: str) -> tuple[str, str]:
    """ "MIT (trained on 300W-LP: research use)" → ("MIT", "300W-LP: research use")."""
    match = re.fullmatch(r"(.*?) \(trained on (.*)\)", text)
    return (match[1], match[2]) if match else (text, "not stated")


def _by_error(row: Row) -> tuple[bool, float]:
    """What orders rows, best first; NaN, which no number is smaller or larger than, comes last."""
    return math.isnan(row.geodesic), row.geodesic


def as_markdown(networks: list[Network], rows: list[Row]) -> str:
    """The tables as Markdown: networks by name, then each set's rows, best first."""
    lines = [
        "| network | method | parameters | file | images/s here | weights | trained on |",
        "|---|---|---|---|---|---|---|",
    ]
    for n in networks:
        lines.append(
            f"| {n.name} | {n.method} | {n.parameters / 1e6:.2f} M | {n.megabytes:.1f} MB | "
            f"{n.speed:.0f} | {n.licence} | {n.trained_on} |"
        )
    for dataset in dict.fromkeys(row.dataset for row in rows):
        some = sorted((r for r in rows if r.dataset == dataset), key=_by_error)
        bands = list(dict.fromkeys(band for row in some for band in row.bands))
        titles = ["network", "crop", "images", "MAE", "geodesic", *bands, "aligned MAE"]
        titles += ["aligned geodesic", "legacy MAE", "its own count"]
        lines += ["", f"## {dataset}", "", _line(titles), "|---" * len(titles) + "|"]
        for row in some:
            values = [row.mae, row.geodesic, *(row.bands.get(band) for band in bands)]
            values += [row.aligned_mae, row.aligned_geodesic, row.legacy, row.published]
            numbers = ["" if value is None else f"{value:.2f}" for value in values]
            lines.append(_line([row.network, row.crop, str(row.images), *numbers]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def as_csv(networks: list[Network], rows: list[Row]) -> str:
    """One line a row, with what is known of its network."""
    known = {network.name: asdict(network) for network in networks}
    bands = list(dict.fromkeys(band for row in rows for band in row.bands))
    flat: list[dict[str, Any]] = []
    for row in rows:
        values = asdict(row)
        found = values.pop("bands")
        values |= {f"geodesic {band}": found.get(band) for band in bands}
        about = {name: value for name, value in known[row.network].items() if name != "name"}
        flat.append({**values, **about})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["network"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def draw(networks: list[Network], rows: list[Row], path: Path) -> None:
    """Draw each set's error against speed, every network by the crop that suits it best.

    Raises:
        InputError: matplotlib, which draws, is not installed.
    """
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    figure = new_figure(5 * len(datasets), 4)
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    speed = {network.name: network.speed for network in networks}
    for panel, dataset in zip(panels, datasets, strict=True):
        for name in speed:
            some = [row for row in rows if (row.network, row.dataset) == (name, dataset)]
            if not some:
                continue
            best = min(some, key=_by_error)
            panel.plot(speed[name], best.geodesic, "o")
            panel.annotate(
                f"{name}\n{best.crop}",
                (speed[name], best.geodesic),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=7,
            )
        panel.set(
            title=dataset,
            xscale="log",
            xlabel="images/s on this machine",
            ylabel="geodesic error (degrees)",
        )
        shown = [y for line in panel.lines for y in line.get_ydata() if math.isfinite(y)]
        panel.margins(x=0.6)
        panel.autoscale_view()
        panel.set_ylim(0, 1.2 * max(shown, default=1.0))  # room for names above the highest
        panel.grid(alpha=0.3)
    write_figure(figure, path)


def write(folder: Path, networks: list[Network], rows: list[Row], picture: bool) -> list[Path]:
    """Write leaderboard.md, leaderboard.csv and, if asked, leaderboard.png.

    Returns:
        The files.
    """
    files = {"md": as_markdown(networks, rows), "csv": as_csv(networks, rows)}
    written = []
    for ending, text in files.items():
        path = folder / f"leaderboard.{ending}"
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(path)
    if picture and rows:
        path = folder / "leaderboard.png"
        draw(networks, rows, path)
        written.append(path)
    return written
