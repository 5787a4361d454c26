"""Checkpoints: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import json
import struct

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.hopenet.network import Config
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.weights import from_pretrained, save_pretrained, save_tensors, tensors_of


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


def test_a_folder_with_the_config_of_other_weights_is_refused(network, tmp_path):
    save_pretrained(network, tmp_path / "new")
    larger = Preprocessing(size=96, resize_to=108)
    save_pretrained(network.with_preprocessing(larger), tmp_path / "old")
    assert from_pretrained(tmp_path / "old").config.preprocessing == larger
    # What a crash leaves between the two files of the folder.
    (tmp_path / "new" / "model.safetensors").replace(tmp_path / "old" / "model.safetensors")
    with pytest.raises(InputError, match=r"config\.json: is not of the network in model\.safe"):
        from_pretrained(tmp_path / "old")
    # Weights that another program wrote say nothing of their network.
    mx.save_safetensors(str(tmp_path / "old" / "model.safetensors"), tensors_of(network))
    assert from_pretrained(tmp_path / "old").config.preprocessing == larger


@pytest.mark.parametrize("name", ["net.safetensors", "folder"])
def test_half_precision_is_read_back_as_float32(network, tmp_path, name):
    save_pretrained(network, tmp_path / name, half=True)
    path = tmp_path / name if name.endswith("s") else tmp_path / name / "model.safetensors"
    whole = sum(value.nbytes for value in tensors_of(network).values())
    assert path.stat().st_size < 0.52 * whole
    stored, again = load_tensors(path), tensors_of(from_pretrained(tmp_path / name))
    for key, value in tensors_of(network).items():
        expected = mx.float16 if value.ndim > 1 else mx.float32
        assert stored[key].dtype == expected, key
        assert again[key].dtype == mx.float32
        # float16 has ten bits behind the point, and fixed steps below 2⁻¹⁴.
        assert mx.allclose(again[key], value, rtol=2**-11, atol=2**-25).item(), key


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_any_floats_become_float32(network, tmp_path, dtype):
    path = tmp_path / "net.safetensors"
    narrow = {name: value.astype(dtype) for name, value in tensors_of(network).items()}
    save_tensors(path, narrow, network.config.to_dict())
    for name, value in tensors_of(from_pretrained(path)).items():
        assert value.dtype == mx.float32
        assert mx.array_equal(value, narrow[name].astype(mx.float32)), name


def test_integers_do_not_become_floats(network, tmp_path):
    path = tmp_path / "net.safetensors"
    tensors = tensors_of(network)
    tensors["head.yaw.weight"] = tensors["head.yaw.weight"].astype(mx.int32)
    save_tensors(path, tensors, network.config.to_dict())
    with pytest.raises(InputError, match=r"head\.yaw\.weight is int32, the network has float32"):
        from_pretrained(path)


def test_weights_beyond_half_precision_are_refused(tmp_path):
    network = build(Config(arch="squeezenet1_1", preprocessing=Preprocessing(size=96)))
    network.head.yaw.weight = network.head.yaw.weight * 1e8
    with pytest.raises(InputError, match=r"head\.yaw\.weight"):
        save_pretrained(network, tmp_path / "net.safetensors", half=True)
    assert not list(tmp_path.iterdir())


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
