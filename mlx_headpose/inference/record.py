"""Results written as they come, so that hours of video take no memory."""

from __future__ import annotations

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ..errors import InputError
from ..files import atomic_path, null_for_nan
from .estimator import Head
from .table import COLUMNS, frame_result, head_rows
from .video import Frame

BOX_FORMAT = "x_min, y_min, x_max, y_max"


def dumps(value: Any) -> str:
    """A value as JSON, without NaN."""
    return json.dumps(null_for_nan(value))


class Record:
    """The JSON and the CSV file of a run, whole even if it is stopped halfway.

    Use it as a context manager. The files appear when it is left: after Ctrl-C or bad input, if
    there is something in them.

    Args:
        json_path: file of all results; None for none.
        csv_path: file of one head a line; None for none.
        network: which one, for the JSON file.
        columns: columns of the CSV file. Those of a result that are not `COLUMNS` are its own
            values.
    """

    def __init__(
        self,
        json_path: str | None,
        csv_path: str | None,
        network: str | Path,
        columns: tuple[str, ...] = COLUMNS,
    ):
        self.paths = json_path, csv_path
        self.network = str(network)
        self.columns = columns
        self.entries = 0
        self.zones: list[dict[str, Any]] = []  # of each video: its name, and seconds per zone
        self._open = False  # whether a video's frames are being written
        self._frames = 0
        self._name = ""
        self._files = ExitStack()
        self._commits = ExitStack()

    @property
    def wanted(self) -> bool:
        """Whether anything is written."""
        return any(self.paths)

    def __enter__(self) -> Record:
        json_path, csv_path = self.paths
        self._json = self._begin(json_path)
        self._csv = self._begin(csv_path)
        if self._json:
            head = {"network": self.network, "box_format": BOX_FORMAT}
            self._json.write(dumps(head)[:-1] + ',\n"results": [')
        if self._csv:
            self._rows = csv.writer(self._csv)
            self._rows.writerow(self.columns)
        return self

    def _begin(self, path: str | None) -> TextIO | None:
        if path is None:
            return None
        temporary = self._commits.enter_context(atomic_path(path))
        # Names of files may be bytes that are no UTF-8; they stay as they are.
        file = temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape")
        return self._files.enter_context(file)

    def add(self, result: dict[str, Any]) -> None:
        """Write a whole result, such as a picture's."""
        if self._json:
            self._json.write(self._separator() + dumps(result))
        self.entries += 1
        if self._csv:
            rows = head_rows([result]) if "heads" in result else [tuple(result.values())]
            self._rows.writerows(rows)

    def frame(self, name: str, frame: Frame, heads: list[Head]) -> None:
        """Write the next frame of a video or camera of that name."""
        # Each text is whole before it is written, by one call: Ctrl-C may come at any time.
        if not self._open:
            if self._json:
                self._json.write(f'{self._separator()}{{"file": {dumps(name)}, "frames": [')
            self._open, self._frames, self._name = True, 0, name
            self.entries += 1
        result = frame_result(frame, heads)
        if self._json:
            self._json.write((",\n" if self._frames else "\n") + dumps(result))
        if self._csv:
            self._rows.writerows(head_rows([{"file": name, "frames": [result]}]))
        self._frames += 1

    def end(self, **values: Any) -> None:
        """End a video whose frames were written, with what is known of it only now."""
        more = "".join(f", {dumps(k)}: {dumps(v)}" for k, v in values.items())
        ends, self._open = self._open, False
        if ends and self._json:
            self._json.write(f"]{more}}}")
        if ends and "zones" in values:
            self.zones.append({"file": self._name, "zones": values["zones"]})

    def _separator(self) -> str:
        return ",\n" if self.entries else "\n"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._files:
                self.end()
                if self._json:
                    self._json.write("\n]\n}\n")
        except OSError as full:  # such as the disk
            self._commits.__exit__(type(full), full, full.__traceback__)
            raise
        stopped = kind in (KeyboardInterrupt, BrokenPipeError, InputError)
        if kind is None or (stopped and self.entries):
            self._commits.close()
        else:
            self._commits.__exit__(kind, error, trace)
