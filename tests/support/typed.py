"""What `python`, `pip` and `mlx-headpose` are where tests run the documentation's commands.

The command runs as it is typed, but it trains and renders little and downloads nothing: networks of
random weights stand in for published ones.
"""

from __future__ import annotations

import os
import runpy
import sys
from itertools import pairwise
from pathlib import Path

SCRIPT = """#!/usr/bin/env bash
exec {python} -m support.typed {name} "$@"
"""
NAMES = ("python", "python3", "pip", "mlx-headpose")
FEW = {"train": 8, "val": 4}  # heads or scenes
SHORT = ["--num_epochs", "1", "--batch_size", "2"]
# Options behind which a smaller number stands in for that of the command.
SMALLER = {"--samples": "8", "--count": "2", "--rendered": "2"}
# Name of a published checkpoint → config of the network in its place; "backbone" in front where it
# has no head.
DOWNLOADS = {
    "hopelessnet-squeezenet1_1": {"model_type": "hopenet", "arch": "squeezenet1_1"},
    "sixdrepnet-repvgg-b1g2": {"model_type": "sixdrepnet", "arch": "mobilenetv3_small"},
    "sixdrepnet-yakhyo-resnet18-onnx": {"model_type": "sixdrepnet", "arch": "resnet18"},
    "imagenet-mobilenetv2": {"model_type": "backbone hopenet", "arch": "mobilenetv2"},
    "imagenet-resnet50": {"model_type": "backbone hopenet", "arch": "resnet50"},
    "imagenet21k-efficientnetv2-s": {"model_type": "backbone pyramid"},
    "imagenet21k-vit-b16": {
        "model_type": "tokenhpe",
        "width": 128,
        "depth": 1,
        "backbone_heads": 2,
        "layers": 1,
    },
    "nlml": {"model_type": "nlml"},
    "pyramid-biwi": {"model_type": "pyramid"},
    "whenet": {"model_type": "whenet"},
    "yunet-2023mar": {"model_type": "yunet"},
}


def write_commands(folder: Path) -> None:
    """The commands as files in a folder, to be put in front of PATH."""
    folder.mkdir()
    for name in NAMES:
        script = folder / name
        script.write_text(SCRIPT.format(python=sys.executable, name=name))
        script.chmod(0o755)


def stand_in(name: str, path: Path) -> None:
    """Write the network of random weights in place of a published one."""
    import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

    # isort: split
    import mlx.core as mx

    from mlx_headpose.detection.yunet import YuNet
    from mlx_headpose.methods import build, config_from_dict
    from mlx_headpose.weights import save_pretrained, save_tensors, tensors_of

    config = dict(DOWNLOADS[name])
    kind = config["model_type"]
    mx.random.seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "yunet":
        tensors = {key: mx.zeros_like(value) for key, value in tensors_of(YuNet()).items()}
        for level, seen in enumerate((-8.0, -8.0, 8.0)):  # a large face here and there, always
            tensors[f"heads.{level}.depthwise.bias"] = mx.array([seen, seen, 0, 0, 2, 2, *[0] * 10])
        save_tensors(path, tensors, config)
        return
    config["model_type"] = kind.removeprefix("backbone ")
    network = build(config_from_dict(config))
    if kind == config["model_type"]:
        save_pretrained(network, path)
    else:
        arch = network.config.arch
        save_tensors(path, tensors_of(network.backbone), {"model_type": "backbone", "arch": arch})


def main(name: str, *words: str) -> None:
    """Run a command."""
    if name == "pip":
        install(*words)
    elif name == "mlx-headpose":
        run_module("mlx_headpose", *words)
    elif words[:2] == ("-m", "venv"):
        folder = Path(words[2], "bin")
        folder.parent.mkdir()
        write_commands(folder)
    elif words[:2] == ("-m", "mlx_headpose"):
        run_module(*words[1:])
    elif words[0].endswith(".py"):
        sys.argv = [words[0], *shortened(words[0], list(words[1:]))]
        stand_in_for(words[0])
        runpy.run_path(words[0], run_name="__main__")
    else:
        os.execv(sys.executable, [sys.executable, *words])


def run_module(name: str, *words: str) -> None:
    """`python -m NAME ...`"""
    sys.argv = [name, *shortened(words[0], list(words[1:]))]
    sys.argv.insert(1, words[0])
    stand_in_for(words[0])
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def shortened(command: str, words: list[str]) -> list[str]:
    """The arguments, with a small number of what the command does much."""
    if command == "render" and "--out" in words and "crops" not in words:
        words += ["--workers", "1"]
    if command == "leaderboard":
        words += ["--rendered", ""]
    for i in range(1, len(words)):
        words[i] = SMALLER.get(words[i - 1], words[i])
    return words + (SHORT if command == "train.py" else [])


def stand_in_for(command: str) -> None:
    """Let sets of rendered heads and scenes be small, and downloads come from nowhere."""
    if command in ("train.py", "test.py"):
        from mlx_headpose.synthetic import dataset
        from mlx_headpose.synthetic.scenes import dataset as scenes

        dataset.COUNTS = scenes.COUNTS = FEW
    elif command == "convert.py":
        from mlx_headpose import convert
        from mlx_headpose.convert import download

        named = [word for word in sys.argv if word in DOWNLOADS]

        def convert_file(path: Path, output: Path, *rest: object) -> convert.Conversion:
            if not named:
                return real(path, output, *rest)
            stand_in(named[0], output)
            return convert.Conversion("a stand-in", {}, {})

        real, convert.convert_file = convert.convert_file, convert_file
        download._transfer_from_any = lambda entry, part: part.touch()
        download.is_published = lambda path, entry: True


def install(*words: str) -> None:
    """`pip install`, which installs nothing; the files and extras that it names must be there."""
    assert words[0] == "install"
    for before, word in pairwise(words):
        if before == "-r":
            assert Path(word).is_file(), word
        elif word.startswith("."):
            folder, _, extras = word.rstrip("]").partition("[")
            project = (Path(folder) / "pyproject.toml").read_text("utf-8")
            for extra in extras.split(","):
                assert f"\n{extra} = [" in project, extra


if __name__ == "__main__":
    main(*sys.argv[1:])
