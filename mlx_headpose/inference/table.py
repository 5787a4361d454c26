"""Results as tables: for people, and as the rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_path
from ..space.facing import Attention
from .estimator import Head
from .video import Frame

COLUMNS = (
    "file", "frame", "time", "track", "x", "y", "width", "height", "yaw", "pitch", "roll",
    "confidence", "score", "position_x", "position_y", "position_z", "facing",
)  # fmt: skip

ZONE_COLUMNS = ("file", "track", "zone", "seconds")


def table(heads: list[Head]) -> str:
    """Heads as a table, for people."""
    rows = ["      x     y width height     yaw   pitch    roll  confidence"]
    for head in heads:
        x, y, right, bottom = head.box
        confidence = "" if head.confidence is None else f"{head.confidence:.2f}"
        rows.append(
            f"  {x:5.0f} {y:5.0f} {right - x:5.0f} {bottom - y:6.0f}"
            f" {head.yaw:7.1f} {head.pitch:7.1f} {head.roll:7.1f}  {confidence:>10}"
        )
    return "\n".join(rows)


def frame_result(frame: Frame, heads: list[Head]) -> dict[str, Any]:
    """The heads of a frame as JSON can hold them."""
    return {
        "frame": frame.index,
        "time": round(frame.time, 4),
        "heads": [head.to_dict() for head in heads],
    }


def head_rows(results: Iterable[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The cells of `COLUMNS` for every head of some pictures' and videos' results."""
    for result in results:
        for frame in result.get("frames", [result]):
            for head in frame["heads"]:
                x, y, right, bottom = head["box"]
                yield (
                    result["file"],
                    str(frame.get("frame", "")),
                    str(frame.get("time", "")),
                    _cell(head["track"]),
                    *(f"{v:.2f}" for v in (x, y, right - x, bottom - y)),
                    *(f"{head[angle]:.3f}" for angle in ("yaw", "pitch", "roll")),
                    _cell(head["confidence"]),
                    _cell(head["score"]),
                    *(_cell(v) for v in head["position"] or (None, None, None)),
                    head["facing"] or "",
                )


def zone_rows(results: Iterable[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The cells of `ZONE_COLUMNS`: how long each person of a video faced each zone."""
    for result in results:
        for track, seconds in result.get("zones", {}).items():
            for zone, value in seconds.items():
                yield result["file"], track, zone, f"{value:.2f}"


def zone_seconds(attention: dict[int, Attention]) -> dict[str, dict[str, float]]:
    """Track's number → zone's name, "" for none → seconds, as JSON can hold them."""
    return {
        str(number): {zone: round(v, 3) for zone, v in sorted(one.seconds.items())}
        for number, one in sorted(attention.items())
    }


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, atomically. Names of files may be bytes that are no UTF-8; they stay."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
