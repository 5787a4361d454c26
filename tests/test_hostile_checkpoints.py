"""Checkpoints made to do harm; see test_hostile_files.py."""

from __future__ import annotations

import io
import json
import struct
import sys

import numpy as np
import pytest
from test_hostile_files import npy

from mlx_headpose.errors import InputError
from mlx_headpose.readers import isolated
from mlx_headpose.readers.checkpoint_file import read_tensors
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.training.checkpoint import read_run


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04r\xff\xff\xff\x0f.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b".",
        b"\x80\x04cbuiltins\nbytearray\nI20000000000\n\x85R.",
    ],
    ids=["memo", "bytearray", "call"],
)
def test_pickles_that_fill_the_memory(untrusted, bomb):
    header = "{'descr': '|O', 'fortran_order': False, 'shape': ()}"
    with pytest.raises(InputError):
        read_tensors(untrusted("a.npy", npy(header, bomb)))


def test_an_npz_bomb(untrusted):
    out = io.BytesIO()
    np.savez_compressed(out, a=np.zeros(1 << 23))
    with pytest.raises(InputError, match="claims to hold 64 MB"):
        read_tensors(untrusted("a.npz", out.getvalue()))


CONFIG = {"config": json.dumps({"model_type": "hopenet"})}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [1 << 50, (1 << 50) + 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4]}},
        {"a": 5},
    ],
    ids=["shape", "offsets", "negative", "dtype", "missing", "number"],
)
def test_safetensors_that_lie(untrusted, header):
    with pytest.raises(InputError, match="damaged safetensors"):
        load_tensors(untrusted("a.safetensors", safetensors(header, bytes(16))))


def test_deep_configs(untrusted):
    deep = "[" * 100_000
    with pytest.raises(InputError, match="holds no mlx-headpose config"):
        read_config(untrusted("a.safetensors", safetensors({"__metadata__": {"config": deep}})))


@pytest.mark.parametrize(
    "bad",
    [
        {"progress": {"epoch": "x"}},
        {"progress": {"epoch": -1}},
        {"progress": {"sums": [1]}},
        {"progress": {"best_mae": None}},
        {"progress": []},
        {"run": 3},
    ],
)
def test_training_states_of_a_wrong_kind(untrusted, bad):
    state = {"model_type": "training_state", "model": {}, "run": {}, "progress": {}} | bad
    content = safetensors({"__metadata__": {"config": json.dumps(state)}})
    with pytest.raises(InputError, match="no training to go on with"):
        read_run(untrusted("last.safetensors", content))


class TestH5:
    """HDF5's library reads in a process of its own."""

    @pytest.fixture
    def weights(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            names = {"dtype": h5py.string_dtype()}  # they lie in the file's heap
            file.attrs.create("layer_names", ["dense", "conv"], **names)
            for layer in ("dense", "conv"):
                group = file.create_group(layer)
                group.attrs.create("weight_names", [f"{layer}/kernel:0"], **names)
                group.create_dataset(f"{layer}/kernel:0", data=np.ones((2, 3), np.float32))
        return tmp_path / "a.h5"

    def test_whole(self, weights):
        tensors = read_tensors(weights)
        assert list(tensors) == ["dense/kernel:0", "conv/kernel:0"]
        np.testing.assert_array_equal(tensors["conv/kernel:0"], np.ones((2, 3)))

    def test_a_heap_without_end(self, weights, monkeypatch):
        content = bytearray(weights.read_bytes())
        heap = content.index(b"GCOL")
        content[heap + 16 : heap + 40] = bytes(24)
        weights.write_bytes(content)
        monkeypatch.setattr(isolated, "CPU_SECONDS", 1)
        with pytest.raises(InputError, match="crashes or finds no end"):
            read_tensors(weights)

    @pytest.mark.parametrize(
        ("length", "message"),
        [
            (70_001, "the names in layer_names are too long"),
            pytest.param(
                300_007, "damaged",
                marks=pytest.mark.skipif(sys.platform != "linux", reason="limits no memory"),
            ),
        ],
    )  # fmt: skip
    def test_names_that_fill_the_memory(self, tmp_path, length, message):
        """Of a name that the file holds once, 280 MB or 1.2 GB."""
        h5py = pytest.importorskip("h5py")
        path, count = tmp_path / "a.h5", 4000
        with h5py.File(path, "w") as file:
            names = ["x" * length, *["y"] * (count - 1)]
            file.attrs.create("layer_names", names, dtype=h5py.string_dtype())
        content = bytearray(path.read_bytes())
        first = content.index(struct.pack("<I", length))  # a reference of 16 bytes
        content[first : first + 16 * count] = content[first : first + 16] * count
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_tensors(path)

    def test_a_crash(self, weights, monkeypatch):
        monkeypatch.setattr(isolated, "CODE", "import os; os.abort()")
        with pytest.raises(InputError, match="crashes or finds no end"):
            read_tensors(weights)

    def test_modules_in_the_working_folder_do_not_run(self, weights, monkeypatch):
        proof = weights.parent / "ran"
        (weights.parent / "h5py.py").write_text(f"open({str(proof)!r}, 'w')")
        monkeypatch.chdir(weights.parent)
        assert len(read_tensors(weights)) == 2
        assert not proof.exists()

    def test_what_is_refused(self, weights):
        weights.write_bytes(weights.read_bytes()[:900])
        with pytest.raises(InputError, match="damaged or no HDF5 file"):
            read_tensors(weights)


class TestOnnx:
    def test_no_tensor_anywhere_names_another_file(self, untrusted):
        onnx = pytest.importorskip("onnx")
        from mlx_headpose.readers.onnx_file import load_onnx

        outside = onnx.TensorProto(name="w", data_type=1, dims=[1])
        outside.data_location = onnx.TensorProto.EXTERNAL
        outside.external_data.add(key="location", value="/etc/passwd")
        for place in range(4):
            model = onnx.ModelProto()
            node = model.functions.add().node.add() if place else model.graph.node.add()
            if place == 0:
                model.graph.sparse_initializer.add().values.CopyFrom(outside)
            elif place == 1:
                node.attribute.add().t.CopyFrom(outside)
            elif place == 2:
                node.attribute.add().g.node.add().attribute.add().tensors.append(outside)
            else:
                model.training_info.add().algorithm.initializer.append(outside)
            with pytest.raises(InputError, match="keeps its tensors in other files"):
                load_onnx(untrusted("a.onnx", model.SerializeToString()))

    def test_names_of_classes(self):
        from mlx_headpose.detection.yolo import _names

        assert _names("{0: 'body', 1: 'Head', 'head': 'head', -1: 'head'}") == {
            0: "body",
            1: "Head",
        }
        for text in ("", "{", "[1]", "{[]: 1}", "(" * 9999, "\ud800"):
            assert _names(text) == {}
