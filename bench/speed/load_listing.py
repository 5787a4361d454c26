"""Large datasets: 122,450 images listed, cached and shuffled and 15,678 BIWI frames read, on Linux.

    python -m bench.speed.load_listing list --work /tmp/large
    python -m bench.speed.load_listing biwi --work /tmp/large --snapshot weights/NAME.safetensors

The files are made first: hard links to a few small JPEGs and annotations in 300W-LP's folders, and
frames of 640×480 pixels, stored without compression (14.4 GB). Each figure is taken in a process of
its own, so that the peak of memory is that of the work alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image
from scipy.io import savemat

from bench.memory import peak_bytes
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.data.loader import Loader

IMAGES = 122_450
FOLDERS = ("AFW", "HELEN", "IBUG", "LFPW", "AFW_Flip", "HELEN_Flip", "IBUG_Flip", "LFPW_Flip")
ORIGINALS = 16  # a file system allows only so many links to one file
FRAMES = 15_678
HEIGHT, WIDTH = 480, 640
# Of the network's input: the load is in the reading.
SIDE = 64


def make_300w_lp(folder: Path) -> None:
    """IMAGES pictures with their annotations, of the real ones' fields and size."""
    rng = np.random.default_rng(0)
    seeds = folder / ".originals"
    seeds.mkdir(parents=True)
    for number in range(ORIGINALS):
        noise = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(seeds / f"{number}.jpg")
        fields = {
            "Pose_Para": np.append(rng.uniform(-1, 1, 3), np.zeros(4))[None],
            "pt2d": rng.uniform(0, 64, (2, 68)),
            **{name: rng.normal(size=(199, 1)) for name in ("Shape_Para", "Tex_Para")},
            "Exp_Para": rng.normal(size=(29, 1)),
        }
        savemat(seeds / f"{number}.mat", fields, do_compression=True)
    for name in FOLDERS:
        (folder / name).mkdir()
    for number in range(IMAGES):
        place = folder / FOLDERS[number % len(FOLDERS)] / f"{number:06d}_1"
        for suffix in (".jpg", ".mat"):
            os.link(seeds / f"{number % ORIGINALS}{suffix}", f"{place}{suffix}")


def list_and_shuffle(folder: Path) -> None:
    """The dataset's samples, and the order of one epoch."""
    start = time.perf_counter()
    dataset = open_dataset("300W_LP", folder)
    listed = time.perf_counter() - start
    order = Loader(dataset, ImageInput(Preprocessing()), batch_size=32).order(0)
    report(samples=len(dataset), steps=len(order), listed_s=round(listed, 1), start=start)


def make_biwi(path: Path) -> None:
    """FRAMES frames in one `.npz`, written frame by frame, as numpy.savez lays it out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    pictures = [
        np.asarray(Image.fromarray(blocks).resize((WIDTH, HEIGHT)))
        for blocks in rng.integers(0, 256, (8, 6, 8, 3), np.uint8)
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("image.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            for number in range(FRAMES):
                file.write(pictures[number % len(pictures)].tobytes())
        with archive.open("pose.npy", "w") as file:
            npy.write_array(file, rng.uniform(-60, 60, (FRAMES, 3)))


def report(start: float, **values: object) -> None:
    """Print what was measured, and this process's time and peak of memory."""
    peak = peak_bytes() / (1 << 20)
    used = time.process_time()
    print(
        json.dumps(
            {
                **values,
                "seconds": round(time.perf_counter() - start, 1),
                "cpu_s": round(used, 1),
                "peak_mb": round(peak),
            }
        ),
        flush=True,
    )


def again(*arguments: str) -> None:
    """Run this script in a new process."""
    subprocess.run([sys.executable, __file__, *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("list", "biwi", "list-once"))
    parser.add_argument("--work", type=Path, required=True, help="folder for the files made")
    parser.add_argument("--snapshot", help="network to evaluate")
    options = parser.parse_args()
    folder, packed = options.work / "300W_LP", options.work / "BIWI.npz"
    if options.what == "list-once":
        list_and_shuffle(folder)
    elif options.what == "list":
        if not folder.exists():
            make_300w_lp(folder)
        shutil.rmtree(folder / ".mlx_headpose", ignore_errors=True)
        for state in ("nothing cached", "cached"):
            print(f"{state}: ", end="", flush=True)
            again("list-once", "--work", str(options.work))
    else:
        if not packed.exists():
            make_biwi(packed)
        command = [sys.executable, "-m", "mlx_headpose", "test", "--dataset", "BIWI"]
        command += ["--data_dir", str(packed), "--snapshot", options.snapshot]
        command += ["--input_size", str(SIDE)]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        peak = peak_bytes(children=True) / (1 << 20)
        print(f"{time.perf_counter() - start:.0f} s, peak of memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
