"""Results as tables: for people, and as the rows of a CSV file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .estimator import Head
from .video import Frame

COLUMNS = (
    "file", "frame", "time", "track", "x", "y", "width", "height", "yaw", "pitch", "roll",
    "confidence", "score",
)  # fmt: skip


def table(heads: list[Head]) -> str:
    """Heads as a table, for people."""
    rows = ["      x     y     w     h     yaw   pitch    roll  confidence"]
    for head in heads:
        x, y, right, bottom = head.box
        confidence = "" if head.confidence is None else f"{head.confidence:.2f}"
        rows.append(
            f"  {x:5.0f} {y:5.0f} {right - x:5.0f} {bottom - y:5.0f}"
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
                )


def _cell(value: float | int | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
