"""Build the sdist and, from it, the wheel; install it elsewhere and use every command.

    python -m bench.robustness.wheel --python 3.12

Needs `pip install build uv`. The wheel goes into an environment of its own, with what it asks for
and nothing else, and the commands run in a folder that has nothing to do with the repository: each
one's `--help`, and one piece of real work of each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import numpy as np
from PIL import Image
from test_synthetic_mesh import write_makehuman

from bench.robustness.faults import make_pictures
from mlx_headpose.cli import COMMANDS
from mlx_headpose.data.panoptic_labels import FACE_POINTS, KEYPOINTS, REFERENCE_POINTS
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.weights import save_pretrained, tensors_of

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Build, install, use, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter to install it for")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        wheel = built(Path(place) / "dist")
        venv = Path(place) / "venv"
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--python", options.python, str(venv)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(venv), f"{wheel}[plot]"], check=True)
        work = Path(place) / "work"
        work.mkdir()
        prepare(work)
        failures = 0
        for arguments, output in tasks():
            done = subprocess.run(
                [str(venv / "bin" / "mlx-headpose"), *arguments],
                cwd=work,
                capture_output=True,
                text=True,
                check=False,
            )
            good = done.returncode == 0 and (output is None or (work / output).exists())
            failures += not good
            last = ((done.stdout if good else done.stderr).strip().splitlines() or [""])[-1]
            print(f"{'ok ' if good else 'BAD'} {' '.join(arguments)[:70]}: {last[:90]}", flush=True)
    print(f"{failures} bad")
    sys.exit(failures > 0)


def built(folder: Path) -> Path:
    """The wheel, built from the sdist; both are looked into."""
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "mlx_headpose/core/checkpoint.py"} <= inside
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "mlx_headpose").rglob("*.py")}
    assert modules <= set(names), sorted(modules - set(names))
    weights = {name for name in names if name.endswith(".safetensors")}
    assert weights == {
        f"mlx_headpose/bundled/{n}.safetensors" for n in ("headpose", "headdetector")
    }, weights
    assert not [name for name in names if name.startswith(("tests", "bench"))]
    sizes = " and ".join(f"{p.name} ({p.stat().st_size / 1e3:.0f} kB)" for p in (sdist, wheel))
    print(f"built {sizes}", flush=True)
    return wheel


def prepare(work: Path) -> None:
    """Networks, pictures, a published checkpoint and a recording for the commands to work on."""
    make_pictures(work / "pictures", 24)
    for method, options in (
        ("hopenet", {"arch": "squeezenet1_1"}),
        ("tokenhpe", {"width": 96, "depth": 1, "backbone_heads": 2}),
    ):
        network = build(config_from_dict({"model_type": method, **options}))
        save_pretrained(network, work / f"{method}.safetensors")
    published(work / "published.npz")
    recording(work / "ring")
    (work / "human").mkdir()
    write_makehuman(work / "human")


def published(path: Path) -> None:
    """A snapshot as HopeNet-in-MLX writes it: the one format that needs no other package."""
    config = {"model_type": "hopenet", "arch": "resnet18", "norm": "hopenet_mlx"}
    tensors = {}
    for name, value in tensors_of(build(config_from_dict(config))).items():
        part, name = name.split(".", 1)
        if part == "head":
            name = f"fc_{name}"
        elif name.startswith("layer"):
            stage, rest = name.split(".", 1)
            rest = rest.replace("downsample.0.", "downsample_conv.")
            name = f"{stage}.layers.{rest.replace('downsample.1.', 'downsample_bn.')}"
        tensors[name] = np.array(value)
    np.savez(path, **tensors)


def recording(folder: Path) -> None:
    """One frame of one camera by the panoptic toolbox, 2.5 m before a head."""
    camera = {"name": "00_00", "type": "hd", "resolution": [1920, 1080], "panel": 0, "node": 0}
    camera |= {"K": [[1400, 0, 960], [0, 1400, 540], [0, 0, 1]], "distCoef": [0] * 5}
    camera |= {"R": np.diag([1.0, -1, -1]).tolist(), "t": [[0.0], [0], [250]]}
    points, sure = np.zeros((FACE_POINTS, 3)), np.zeros(FACE_POINTS)
    points[KEYPOINTS], sure[KEYPOINTS] = REFERENCE_POINTS, 0.9
    face = {"landmarks": points.ravel().tolist(), "averageScore": sure.tolist()}
    for name in ("hdFace3d", "hdImgs/00_00"):
        (folder / name).mkdir(parents=True)
    (folder / "calibration_ring.json").write_text(json.dumps({"cameras": [camera]}))
    people = {"version": 0.5, "people": [{"id": 5, "face70": face}]}
    (folder / "hdFace3d" / "faceRecon3D_hd00000100.json").write_text(json.dumps(people))
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    Image.fromarray(noise).save(folder / "hdImgs" / "00_00" / "00_00_00000100.jpg")


def tasks() -> Iterator[tuple[list[str], str | None]]:
    """Arguments of each call, and the file that it must leave."""
    for command in COMMANDS:
        yield [command, "--help"], None
    net = ["--snapshot", "hopenet.safetensors"]
    data = ["--dataset", "300W_LP", "--data_dir", "pictures"]
    train = ["train", "--model", "hopenet", "--arch", "squeezenet1_1", *data, "--input_size", "64"]
    train += ["--num_epochs", "1", "--batch_size", "8", "--output_string", "new"]
    yield ["create_filename_list", "--root_dir", "pictures"], "pictures/files.txt"
    yield train, "workdirs_new/best.safetensors"
    yield ["test", *data, *net, "--json", "report.json", "--report", "report.html"], "report.html"
    yield ["predict", "pictures/0.jpg", *net, "--bbox", "10,10,60,60"], "output/0.jpg"
    yield ["convert", "--weight", "published.npz"], "weights/published.safetensors"
    yield ["convert", "--list"], None
    yield ["export", *net, "--format", "mlxfn", "--output", "net.mlxfn"], "net.mlxfn"
    yield (
        ["export", *net, "--quantize", "int8", "--output", "small.safetensors"],
        ("small.safetensors"),
    )
    tokens = ["tokens", "--snapshot", "tokenhpe.safetensors", "--image", "pictures/0.jpg"]
    yield [*tokens, "--box", "10", "10", "60", "60", "--output", "tokens.png"], "tokens.png"
    yield ["makehuman", "human", "--output", "head.npz"], "head.npz"
    yield ["panoptic", "ring", "--output", "ready"], "ready/annotations.csv"
    yield ["selfcheck", "--json", "selfcheck.json"], "selfcheck.json"


if __name__ == "__main__":
    main()
