"""Networks on the Hugging Face hub: fetched, converted, uploaded, and read without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.commands import ROOT, Done, assert_refused, installed

from mlx_headpose.convert import write_torch
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.export.hub import NO_LICENCE, Origin, stated_licence, write_folder
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.methods.hopenet.network import Config
from mlx_headpose.quantization import quantize_weights
from mlx_headpose.readers.safetensors_file import read_header
from mlx_headpose.selfcheck import numbers
from mlx_headpose.weights import from_pretrained, save_pretrained, tensors_of

pytest.importorskip("huggingface_hub", reason="talks to a hub by huggingface_hub, which is absent")

ANGLES = """
import sys
import numpy as np
from mlx_headpose import HeadPoseEstimator
revision = sys.argv[2] if len(sys.argv) > 2 else None
estimator = HeadPoseEstimator.from_pretrained(sys.argv[1], revision=revision)
(head,) = estimator(np.full((90, 90, 3), 80, np.uint8), boxes=[(9, 9, 80, 80)])
print(head.yaw)
"""


def seeded(sign: int = 1):
    """A network that sees something in every image, and its mirror for a sign of −1."""
    network = build(Config(arch="squeezenet1_1", preprocessing=Preprocessing(size=64)))
    network.load_weights(
        [
            (name, mx.array(sign * value if name.startswith("head.") else value))
            for name, value in numbers.weights(network)
        ]
    )
    network.eval()
    return network


@pytest.fixture(scope="module")
def network():
    return seeded()


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def convert(folder: Path, *arguments: object) -> Done:
    return installed("convert", *arguments, folder=folder)


def converted(folder: Path, *arguments: object) -> Done:
    done = convert(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def test_a_quantised_network_is_not_written_for_pytorch(tmp_path: Path) -> None:
    small = {"width": 192, "depth": 1, "backbone_heads": 3, "preprocessing": {"size": 64}}
    network = build(config_from_dict({"model_type": "tokenhpe", **small}))
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    network = quantize_weights(network, 4, pixels)
    with pytest.raises(InputError, match="a quantised network cannot be written for PyTorch"):
        write_torch(network, tmp_path / "net.pkl")
    assert not list(tmp_path.iterdir())


def test_a_repository_becomes_a_folder_of_the_hubs_form(hub, tmp_path: Path) -> None:
    small = {"width": 192, "depth": 1, "backbone_heads": 3, "preprocessing": {"size": 64}}
    network = build(config_from_dict({"model_type": "tokenhpe", **small}))
    write_torch(network, tmp_path / "net.pkl")
    files = {"weights.pkl": (tmp_path / "net.pkl").read_bytes(), "notes.txt": b"ours"}
    hub.add("authors/net", {**files, "README.md": b"---\nlicense: apache-2.0\n---\n# Net\n"})
    done = converted(tmp_path, "--hf-path", "authors/net", "--mlx-path", "out")
    assert "recognised: TokenHPE" in done.stdout
    folder = tmp_path / "out"
    assert set(files_in(folder)) == {
        *("config.json", "preprocessor_config.json", "model.safetensors", "README.md"),
        "signs.png",
    }
    assert json.loads((folder / "config.json").read_text())["model_type"] == "tokenhpe"
    fed = json.loads((folder / "preprocessor_config.json").read_text())
    assert fed["crop_size"] == {"height": 64, "width": 64}
    assert fed["image_mean"] == [0.485, 0.456, 0.406]
    assert fed["resample"] == 2  # Pillow's bilinear
    card = (folder / "README.md").read_text()
    header = re.match(r"---\n(.*?)\n---\n", card, re.S)
    assert header is not None
    lines = header[1].splitlines()
    assert {"library_name: mlx", "license: apache-2.0", "base_model: authors/net"} <= set(lines)
    assert {"- mlx", "- head-pose-estimation", "- tokenhpe"} <= set(lines)
    assert "](signs.png)" in card
    assert "positive yaw turns the nose" in card
    count = sum(value.size for value in tensors_of(network).values())
    assert f"{count / 1e6:.2f} million" in card
    tensors = tensors_of(from_pretrained(folder))
    assert all(np.array_equal(tensors[k], v) for k, v in tensors_of(network).items())


@pytest.mark.parametrize(
    "licence",
    ["Apache-2.0 (trained on 300W-LP: research use)", 'ours: "all" of it', NO_LICENCE, "mit"],
)
def test_a_licence_survives_its_card(network, tmp_path: Path, licence: str) -> None:
    write_folder(network, tmp_path / "net", Origin(tmp_path, "net", licence=licence))
    assert stated_licence(tmp_path / "net") == licence


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_folder_is_stored_in_16_bits(network, tmp_path: Path, dtype: str) -> None:
    save_pretrained(network, tmp_path / "net")
    converted(tmp_path, "--hf-path", "net", "--mlx-path", "half", "--dtype", dtype)
    header = read_header(tmp_path / "half" / "model.safetensors")
    stored = {header[k]["dtype"] for k in header if k.endswith("weight")}
    assert stored == {"F16" if dtype == "float16" else "BF16"}
    images = network.config.inputs.example(2)
    found = from_pretrained(tmp_path / "half")
    change = np.abs(np.array(found.decode(found(images)) - network.decode(network(images))))
    assert 0 < change.max() < 0.1


@pytest.mark.parametrize("bits", [4, 8])
def test_a_folder_is_quantised(network, tmp_path: Path, bits: int) -> None:
    save_pretrained(network, tmp_path / "net")
    given = ["--hf-path", "net", "--mlx-path", "small", "-q", "--q-bits", bits]
    converted(tmp_path, *given)
    found = from_pretrained(tmp_path / "small")
    assert found.quantization is not None
    assert found.quantization.scheme == f"mlx{bits}"
    assert f"quantised: mlx{bits}" in (tmp_path / "small" / "README.md").read_text()
    assert_refused(convert(tmp_path, "--hf-path", "small", "--mlx-path", "x", "-q"), "quantised")


def test_upload_and_use_offline(network, hub, tmp_path: Path, monkeypatch) -> None:
    save_pretrained(network, tmp_path / "net")
    given = ["--hf-path", "net", "--mlx-path", "out", "--upload-repo", "me/net", "--licence", "MIT"]
    done = converted(tmp_path, *given)
    assert f"uploaded: {hub.address}/me/net/commit/" in done.stdout
    assert hub.repositories["me/net"][-1] == files_in(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'from_pretrained("me/net")' in card
    assert "license: mit" in card
    online = angle(tmp_path, "me/net")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    assert angle(tmp_path, "me/net") == online
    assert len(hub.requests) == asked
    done = installed("predict", *PICTURE, "--snapshot", "you/other", folder=tmp_path)
    assert_refused(done, "you/other: cannot be fetched from the hub")


PICTURE = [ROOT / "docs" / "images" / "astronaut.jpg", "--bbox", "178,63,90,114"]


def angle(folder: Path, *arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", ANGLES, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_a_revision_is_another_network(network, hub, tmp_path: Path) -> None:
    for name, model in (("old", network), ("new", seeded(-1))):
        save_pretrained(model, tmp_path / name)
        hub.add("me/net", files_in(tmp_path / name), tag=name)
    assert angle(tmp_path, "me/net", "new") == angle(tmp_path, "me/net")
    assert angle(tmp_path, "me/net", "old") != angle(tmp_path, "me/net")
    converted(tmp_path, "--hf-path", "me/net", "--revision", "old", "--mlx-path", "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "old" / "model.safetensors"
    ).read_bytes()
    refused = convert(tmp_path, "--hf-path", "me/net", "--revision", "none", "--mlx-path", "x")
    assert_refused(refused, "me/net: cannot be fetched from the hub at revision none")
    assert not (tmp_path / "x").exists()


def test_what_the_hub_lacks_or_refuses(network, hub, tmp_path: Path, monkeypatch) -> None:
    assert_refused(convert(tmp_path, "--hf-path", "no/body"), "no/body: cannot be fetched")
    hub.add("me/two", {"a.pth": b"", "b.pth": b""})
    assert_refused(convert(tmp_path, "--hf-path", "me/two"), "2 checkpoints (a.pth, b.pth)")
    hub.add("me/none", {"README.md": b""})
    assert_refused(convert(tmp_path, "--hf-path", "me/none"), "holds no checkpoint")
    save_pretrained(network, tmp_path / "net")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    given = ["--hf-path", "net", "--mlx-path", "out", "--upload-repo", "me/net"]
    assert_refused(convert(tmp_path, *given), "me/net: the hub refuses the upload")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--upload-repo", "me/net"], "--upload-repo: is for --mlx-path"),
        (["--mlx-path", "out", "--output", "x.safetensors"], "not allowed with"),
        (["--mlx-path", "out", "--q-bits", "8"], "--q-bits: is for -q"),
        (["--mlx-path", "out", "-q", "--dtype", "float16"], "leave out --dtype"),
        (["--mlx-path", "net"], "would overwrite"),
        (["--mlx-path", "net/config.json"], "is a file"),
        (["--mlx-path", "out", "--revision", "v1"], "is on this machine"),
        (["--mlx-path", "out", "--norm", "group"], "--norm: is for checkpoints of other programs"),
    ],
)
def test_options_that_do_not_fit(network, tmp_path: Path, given: list[str], words: str) -> None:
    save_pretrained(network, tmp_path / "net")
    assert_refused(convert(tmp_path, "--hf-path", "net", *given), words)
    assert not (tmp_path / "out").exists()
