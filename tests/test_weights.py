"""Checkpoints: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import json
import struct

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.models import build
from mlx_headpose.models.hopenet import Config
from mlx_headpose.preprocessing import Preprocessing
from mlx_headpose.weights import (
    from_pretrained,
    read_config,
    save_pretrained,
    save_tensors,
    tensors_of,
)


@pytest.fixture(scope="module")
def network():
    return build(Config(arch="squeezenet1_1", preprocessing=Preprocessing(size=96)))


@pytest.mark.parametrize("name", ["net.safetensors", "folder"])
def test_both_forms_come_back_the_same(network, tmp_path, name):
    save_pretrained(network, tmp_path / name)
    again = from_pretrained(tmp_path / name)
    assert again.config == network.config
    assert not again.training
    for key, value in tensors_of(network).items():
        assert mx.array_equal(tensors_of(again)[key], value), key


def test_nothing_half_written_is_left(network, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_pretrained(network, path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlx_headpose.weights.mx.save_safetensors", fail)
    with pytest.raises(InputError, match="disk is full"):
        save_pretrained(network, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("change", ["missing", "extra", "misshapen"])
def test_loading_is_strict(network, tmp_path, change):
    tensors = tensors_of(network)
    name = "backbone.features.0.weight"
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        name = "backbone.other"
        tensors[name] = mx.zeros((1,))
    else:
        tensors[name] = mx.zeros((64, 3, 3, 4))
    path = tmp_path / "net.safetensors"
    save_tensors(path, tensors, network.config.to_dict())
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        from_pretrained(path)


def header(content: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if claimed is None else claimed) + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        header(b"{}", claimed=1 << 60),
        header(b"not json"),
        header(b"[1]"),
        header(b"{}"),
        header(b'{"__metadata__": {"config": "{"}}'),
        header(b'{"__metadata__": {"config": "[]"}}'),
        header(b'{"__metadata__": {"config": "{\\"model_type\\": \\"other\\"}"}}'),
        header(b"[" * 100_000),
    ],
)
def test_foreign_files_are_one_sentence(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors"):
        from_pretrained(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"arch": "resnet7"},
        {"preprocessing": 3},
        {"preprocessing": {"mean": "abc"}},
        {"preprocessing": {"std": [1.0, 0.0, 1.0]}},
        {"preprocessing": {"size": 10**9}},
        {"preprocessing": {"resize": "stretch"}},
        {"alpha": [1]},
        {"arch": None},
    ],
)
def test_a_malformed_config_is_one_sentence(network, tmp_path, changes):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors_of(network), {**network.config.to_dict(), **changes})
    with pytest.raises(InputError, match=r"x\.safetensors"):
        from_pretrained(path)


def test_a_truncated_checkpoint_is_one_sentence(network, tmp_path):
    path = tmp_path / "x.safetensors"
    save_pretrained(network, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        from_pretrained(path)


def test_missing_places_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        from_pretrained(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"config\.json"):
        from_pretrained(tmp_path)


def test_the_config_is_plain_json(network, tmp_path):
    save_pretrained(network, tmp_path / "net.safetensors")
    config = read_config(tmp_path / "net.safetensors")
    assert config["model_type"] == "hopenet"
    assert config["preprocessing"]["size"] == 96
    assert json.loads(json.dumps(config)) == config
    assert np.isclose(config["preprocessing"]["mean"][0], 0.485)
