"""TensorFlow's weights in pickled NumPy files, read without running anything in them."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path

import numpy as np
import pytest

from mlx_headpose.errors import InputError
from mlx_headpose.readers.checkpoint_file import read_tensors


class Harmful:
    """A pickle that runs code when it is loaded the ordinary way."""

    def __reduce__(self):
        return (Path.touch, (Path("harm was done"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array({"stem": Harmful()}, dtype=object), "refused"),
        (np.array([Harmful()], dtype=object), "without a name"),
        (np.array({"stem": np.array(["a", None], dtype=object)}, dtype=object), "refused"),
        (np.array({"stem": {"a": np.zeros(3)}}, dtype=object), "more than named arrays"),
        (np.array([np.zeros(3)] * 2, dtype=object), "without a name"),
        (np.zeros(3), "without a name"),
        (np.array("text", dtype=object), "no dict"),
    ],
)
def test_a_pickled_npy_is_never_trusted(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    np.save("weights.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_tensors(Path("weights.npy"))
    assert not Path("harm was done").exists()


def test_a_truncated_npy_is_damaged(seeded, tmp_path):
    path = tmp_path / "weights.npy"
    np.save(path, np.array({"a": np.arange(100.0)}, dtype=object), allow_pickle=True)
    np.testing.assert_array_equal(read_tensors(path)["a"], np.arange(100.0))
    content = path.read_bytes()
    for length in range(7, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_tensors(path)


def test_every_kind_of_array_survives_the_pickle(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big_endian": np.arange(4, dtype=">f4"),
        "half": np.arange(3, dtype=np.float16),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3)),
    }
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.npy"
        np.save(path, np.array(0))
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            pickle.dump(np.array(arrays, dtype=object), file, protocol=protocol)
        read = read_tensors(path)
        for name, value in arrays.items():
            np.testing.assert_array_equal(read[name], value)
            assert read[name].dtype == value.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    ("operation", "content"),
    [
        ("LONG_BINPUT", b"\x80\x02}r\xff\xff\xff\x7f."),  # to be remembered under a huge number
        ("PUT", b"}p2147483647\n."),
        ("BYTEARRAY8", b"\x80\x05}\x96\x01\x00\x00\x00\x00\x00\x00\x00a."),
    ],
)
def test_a_pickle_that_could_fill_the_memory_is_refused(tmp_path, operation, content):
    path = tmp_path / "large.npy"
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(content)
    with pytest.raises(InputError, match=rf"large\.npy: refused.*an impossible {operation}"):
        read_tensors(path)


class Encoded:
    """Bytes that a pickle makes of a text, which it holds once."""

    def __reduce__(self):
        return codecs.encode, (TEXT, "latin1")


class Rebuilt:
    """An array that a pickle makes of bytes, which it holds once."""

    def __reduce__(self):
        function, arguments, _ = np.zeros(1).__reduce__()
        return function, arguments, STATE


TEXT = "x" * 100_000
STATE = np.zeros(100_000, np.uint8).__reduce__()[2]


@pytest.mark.parametrize("made", [Encoded, Rebuilt])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_makes_much_of_little_is_refused(tmp_path, made, protocol):
    path = tmp_path / "large.npy"
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump({str(n): made() for n in range(9)}, file, protocol)
    with pytest.raises(InputError, match="more bytes than the file has"):
        read_tensors(path)
