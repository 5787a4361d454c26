"""The reader of PyTorch's files against damaged and hostile ones, made here without PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.readers import torch_file, torch_pickle
from mlx_headpose.readers.torch_file import read_torch


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(number(n) for n in values) + b"t"


def storage(count=4, kind=b"ctorch\nFloatStorage\n", key="0", view=b""):
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + view + b"tQ"


def tensor(offset=0, shape=(4,), strides=(1,), held=None, more=b"\x89N"):
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage() if held is None else held)
        + number(offset) + numbers(shape) + numbers(strides) + more + b"tR"
    )  # fmt: skip


def state(*values):
    items = [text(f"t{i}") + value for i, value in enumerate(values)]
    return b"\x80\x02}(" + b"".join(items) + b"u."


# How a file of the stream form starts, and its storage.
HEAD = (torch_file.MAGIC, torch_file.PROTOCOL, {})
DATA = struct.pack("<q", 4) + bytes(16)


@pytest.fixture
def archived(tmp_path):
    """Writes a file of the zip form around a pickle."""

    def write(pickled, data=bytes(16), method=zipfile.ZIP_STORED, **more):
        path = tmp_path / "a.pth"
        parts = {"data.pkl": pickled, "data/0": data, "version": b"3\n"}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in (parts | more).items():
                archive.writestr(f"archive/{name}", content)
        return path

    return write


@pytest.fixture
def stream(tmp_path):
    """Writes a file of the stream form around a pickle."""

    def write(pickled, keys=("0",), data=DATA, start=HEAD):
        path = tmp_path / "a.pkl"
        path.write_bytes(
            b"".join(pickle.dumps(value, 2) for value in start)
            + pickled + pickle.dumps(list(keys) if isinstance(keys, tuple) else keys, 2) + data
        )  # fmt: skip
        return path

    return write


def test_the_helpers_write_whole_files(archived, stream):
    assert read_torch(archived(state(tensor())))["t0"].tolist() == [0] * 4
    legacy = tensor(held=storage(view=b"N"))
    assert read_torch(stream(state(legacy)))["t0"].tolist() == [0] * 4


def test_views_of_the_oldest_stream_form(stream):
    """Until 2018 a storage could be part of another."""
    view = b"(" + text("v") + number(1) + number(2) + b"t"
    held = storage(view=view)
    data = struct.pack("<q4f", 4, 0, 1, 2, 3)
    read = read_torch(stream(state(tensor(held=held, shape=(2,))), data=data))
    assert read["t0"].tolist() == [1, 2]
    with pytest.raises(InputError, match="larger than its storage"):
        read_torch(stream(state(tensor(held=held, shape=(3,))), data=data))
    held = storage(view=view.replace(number(2), number(4)))
    with pytest.raises(InputError, match="a view is larger"):
        read_torch(stream(state(tensor(held=held)), data=data))


def test_text_of_python_2(archived):
    pairs = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
    made = b"ccollections\nOrderedDict\n(]]U\x01a" + b"a" + tensor(held=pairs) + b"aatR"
    assert list(read_torch(archived(b"\x80\x02" + made + b"."))) == ["a"]


CODE = "refused, it holds Python objects that could run code"
MORE = "refused, it holds more than tensors"
SYSTEM = b"cos\nsystem\n"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (SYSTEM + text("true") + b"\x85R", CODE),
        (SYSTEM, CODE),
        (b"c__builtin__\neval\n", CODE),
        (b"cbuiltins\ngetattr\n", CODE),
        (b"ctorch\nload\n", CODE),
        (b"ctorch.nn.modules.linear\nLinear\n)\x81", CODE),
        (b"cnumpy.core.multiarray\nscalar\n", CODE),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n", CODE),
        (b"ctorch\nfloat8_e4m3fn\n", CODE),
        (text("os") + text("system") + b"\x93", CODE),
        (b"(" + text("true") + b"ios\nsystem\n", CODE),
        (b"\x82\x01", CODE),
        (b"}" + text("x") + b"\x85R", CODE),
        (text("x") + text("y") + b"\x85R", CODE),
        (b"ctorch\nFloatStorage\n)R", CODE),
        (b"ctorch\nTensor\n)R", CODE),
        (b"ccollections\nOrderedDict\n]R", CODE),
        (b"}}b", CODE),
        (b"ccollections\nOrderedDict\n}b", CODE),
        (b"ccollections\nOrderedDict\n)R)b", CODE),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(" + SYSTEM + b"ctorch\nTensor\n)NtR", CODE),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nSize\nctorch\nTensor\n)NtR", CODE),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", MORE),
        (b"c__builtin__\nbytearray\n", MORE),
        (b"c_codecs\nencode\n", MORE),
        (b"\x96" + struct.pack("<Q", 1 << 36), CODE),
    ],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_what_is_refused(archived, stream, value, reason, zipped):
    write = archived if zipped else stream
    with pytest.raises(InputError, match=rf"a\.(pth|pkl): {reason}"):
        read_torch(write(state(value)))


def untyped(dtype, count=16):
    held = storage(count, b"ctorch.storage\nUntypedStorage\n")
    return (
        b"ctorch._utils\n_rebuild_tensor_v3\n(" + held + number(0) + numbers([4]) + numbers([1])
        + b"\x89N" + dtype + b"tR"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (tensor(shape=(5,)), "larger than its storage"),
        (tensor(offset=1), "larger than its storage"),
        (tensor(shape=(2, 2), strides=(3, 1)), "larger than its storage"),
        (tensor(strides=(-1,), offset=3), "no number"),
        (tensor(offset=-1), "no number"),
        (tensor(shape=(-4,)), "no number"),
        (tensor(shape=(1 << 63,)), "no number"),
        (tensor(offset=1 << 100), "no number"),
        (tensor(shape=(4, 1)), "no shape"),
        (tensor(shape=(1,) * 33, strides=(1,) * 33), "no shape"),
        (tensor(shape=(0, 1 << 61), strides=(1, 1)), "no possible shape"),
        (tensor(held=storage(5)), "storage is not as large as its part"),
        (tensor(held=storage(3), shape=(3,)), "storage is not as large as its part"),
        (tensor(held=storage(1 << 60)), "storage is not as large as its part"),
        (tensor(held=storage(-1)), "no number"),
        (tensor(held=storage(key="../../../etc/passwd")), "etc/passwd"),
        (tensor(held=storage(kind=b"}")), "points to what is no storage"),
        (tensor(held=b"K\x00"), "no storage"),
        (tensor(held=b"K\x00Q"), "points to what is no storage"),
        (tensor(held=b"(" + text("module") + b"N" * 4 + b"tQ"), "points to what is no storage"),
        (tensor(held=storage(view=b"N")), "points to what is no storage"),
        (tensor(more=b"\x89N}" + text("neg") + b"\x88s"), "lazy negative"),
        (tensor(more=b""), "unpack"),
        (untyped(b"ctorch\nfloat64\n"), "larger than its storage"),
        (untyped(b"N"), "no storage"),
        (b"ctorch._utils\n_rebuild_parameter\n(N\x88NtR", "a parameter has no tensor"),
        (tensor() + text("x") + storage(16, b"ctorch\nByteStorage\n"), "of two types"),
        (b"N)N", "no names"),
        (b"N" + number(1 << 61) + b"N", "impossible key"),
        (b"NN", "argument 2 is shorter|shorter than"),
        (b"N)NsN", "where there is no dict"),
        (b")Na", "where there is no list"),
        (b"h\x07", "7"),
        (b"j\xff\xff\xff\x7f", "2147483647"),
        (b"t" * 9, "pop from empty list"),
        (b"\xfe", "no pickle"),
        (b"X\xff\xff\xff\xff", "more than a checkpoint needs"),
        (b"X\xff\xff\xff\x00", "ends too early"),
        (b"ctorch", "ends too early"),
        (b"X\x01\x00\x00\x00\xff", "decode"),
    ],
)
def test_what_is_damaged(archived, value, reason):
    with pytest.raises(InputError, match=rf"a\.pth: damaged PyTorch file \(.*({reason})"):
        read_torch(archived(state(value)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"keys": []}, "0"),
        ({"keys": ["1"]}, "1"),
        ({"keys": ["0", "0"]}, "lists a storage twice"),
        ({"keys": [("0",)]}, "no names"),
        ({"data": struct.pack("<q", 5) + bytes(20)}, "not as large as it says"),
        ({"data": struct.pack("<q", -4) + bytes(16)}, "not as large as it says"),
        ({"data": struct.pack("<q", 4) + bytes(15)}, "ends too early"),
        ({"data": bytes(3)}, "ends too early"),
        ({"start": [torch_file.MAGIC + 1, 1001, {}]}, "does not start as torch.save"),
        ({"start": [torch_file.MAGIC, 1002, {}]}, "protocol is unknown"),
        ({"keys": {"0": 1}}, "lists no storages"),
    ],
)
def test_damaged_streams(stream, options, reason):
    with pytest.raises(InputError, match=rf"a\.pkl: damaged PyTorch file \(.*{reason}"):
        read_torch(stream(state(tensor(held=storage(view=b"N"))), **options))


class TestDamagedArchives:
    GOOD = state(tensor())

    def damaged(self, path, reason):
        with pytest.raises(InputError, match=rf"a\.pth: damaged PyTorch file \(.*{reason}"):
            read_torch(path)

    def test_byte_orders(self, archived):
        self.damaged(archived(self.GOOD, byteorder=b"middle"), "byte order is unknown")

    def test_no_pickle_and_two(self, archived, tmp_path):
        path = tmp_path / "a.pth"
        for names in (["x/y"], ["a/data.pkl", "b/data.pkl"], ["data.pkl"]):
            with zipfile.ZipFile(path, "w") as archive:
                for name in names:
                    archive.writestr(name, self.GOOD)
            self.damaged(path, "not one data.pkl")

    def test_a_part_twice(self, archived):
        path = archived(self.GOOD)
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("archive/data/0", bytes(16))
        self.damaged(path, "not one data.pkl")

    def test_a_zip_bomb(self, archived):
        path = archived(self.GOOD, bytes(1 << 20), zipfile.ZIP_DEFLATED)
        with pytest.raises(InputError, match="claim more bytes"):
            read_torch(path)

    def test_compressed_parts(self, archived):
        noise = np.random.default_rng(0).bytes(4096)
        path = archived(self.GOOD, noise, zipfile.ZIP_DEFLATED)
        self.damaged(path, "compressed")

    def test_a_changed_weight(self, archived):
        path = archived(self.GOOD, b"0123456789abcdef")
        path.write_bytes(path.read_bytes().replace(b"0123456789abcdef", b"0123456789abcdeF"))
        self.damaged(path, "a checksum is wrong")

    def test_every_truncation(self, archived):
        content = archived(self.GOOD).read_bytes()
        path = archived(self.GOOD)
        for size in range(2, len(content) - 1, 7):
            path.write_bytes(content[:size])
            self.damaged(path, "")


def test_a_tar_archive(untrusted):
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    with pytest.raises(InputError, match=r"a\.pth: a tar archive"):
        read_torch(untrusted("a.pth", out.getvalue()))


class TestBombs:
    def test_more_operations_than_a_checkpoint_needs(self, archived):
        with pytest.raises(InputError, match="more than a checkpoint needs"):
            read_torch(archived(b"\x80\x02" + b"}" * (torch_pickle.MAX_OPERATIONS + 1)))

    def test_a_list_that_is_copied_again_and_again(self, archived):
        pairs = b"](" + (text("a") + b"N\x86") * 100_000 + b"eq\x00"
        calls = b"ccollections\nOrderedDict\nh\x00\x85R" * 1000
        with pytest.raises(InputError, match="more than a checkpoint needs"):
            read_torch(archived(b"\x80\x02" + pairs + calls + b"."))

    def test_a_long_pickle(self, archived, monkeypatch):
        monkeypatch.setattr(torch_file, "MAX_PICKLE", 100)
        with pytest.raises(InputError, match="more than a checkpoint needs"):
            read_torch(archived(state(tensor())))

    def test_one_number_that_claims_to_be_many(self, archived):
        path = archived(state(tensor(shape=(1 << 20, 1 << 20), strides=(0, 0))))
        with pytest.raises(InputError, match="claims to hold"):
            read_torch(path)
        path = archived(state(*[tensor(shape=(1 << 18,), strides=(0,))] * 9))
        with pytest.raises(InputError, match="claims to hold 9 MB"):
            read_torch(path)

    def test_loops_and_deep_values(self, archived):
        loop = b"}q\x00" + text("model") + b"h\x00s"
        with pytest.raises(InputError, match="holds no tensors"):
            read_torch(archived(b"\x80\x02" + loop + b"."))
        for deep in (b"]" + b"]\x85" * 100_000, b")" + b"\x85" * 300_000):
            with pytest.raises(InputError, match="holds no tensors"):
                read_torch(archived(b"\x80\x02" + deep + b"."))
        with pytest.raises(InputError, match="no names"):
            read_torch(archived(b"\x80\x02})" + b"\x85" * 300_000 + b"Ns."))
