"""`predict.py FOLDER` against what detector and network take alone for the same pictures.

Both take turns in one process, so that a machine's load meets both: the whole command, which also
decodes, draws and writes, and the estimator on pictures that are decoded already. Printed are
pictures a second of both and their ratio, and the most memory after a tenth of the pictures and
after all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench.memory import peak_bytes
from mlx_headpose.cli.predict import run
from mlx_headpose.inference.detectors import default_detector
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.inference.pictures import open_picture


def command(folder: Path, drawn: Path) -> float:
    """Seconds of the whole command, start of the networks left out of neither."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run("predict.py", [str(folder), "--save", f"{drawn}/"])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--count", type=int, default=60, help="photos that are taken, some often")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    photos = sorted(options.photos.glob("*.jpg"))[: options.count]
    estimator = HeadPoseEstimator(detector=default_detector())
    images = [open_picture(photo) for photo in photos]
    estimator(images[0])
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        folder.mkdir()
        for number in range(options.count):
            source = photos[number % len(photos)]
            shutil.copy(source, folder / f"{number:05}.jpg")
        for _ in range(options.turns):
            whole = command(folder, Path(place) / "drawn")
            start = time.perf_counter()
            for number in range(options.count):
                estimator(images[number % len(images)])
            alone = time.perf_counter() - start
            ratios.append(alone / whole)
            print(
                f"command {options.count / whole:.1f} pictures/s, detector and network alone "
                f"{options.count / alone:.1f}, ratio {ratios[-1]:.2f}, "
                f"peak of memory {peak_bytes() / 1e6:.0f} MB",
                flush=True,
            )
    print(f"ratio, median of {options.turns} turns: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
