"""Files made to do harm, each found by bench/robustness/fuzz.py or by reading the code.

The only right answers are a result and an InputError of one printable line.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from support.commands import assert_refused, run

from mlx_headpose import files
from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.data.annotated import read_annotation
from mlx_headpose.data.biwi import PackedBiwi
from mlx_headpose.data.dad3dheads import DAD3DHeads
from mlx_headpose.data.listing import cached_table, read_list
from mlx_headpose.data.panoptic import read_list as read_panoptic
from mlx_headpose.data.panoptic_labels import read_cameras, read_heads
from mlx_headpose.errors import InputError
from mlx_headpose.files import write_lines
from mlx_headpose.inference import video
from mlx_headpose.inference.landmark_files import read_landmarks
from mlx_headpose.inference.pictures import open_picture
from mlx_headpose.inference.video import VideoReader, VideoWriter
from mlx_headpose.readers import npy as npz
from mlx_headpose.readers import pictures
from mlx_headpose.readers.makehuman import read_target
from mlx_headpose.synthetic import rendered
from mlx_headpose.weights import from_pretrained


def damaged(content: bytes, step: int = 1):
    """A file cut off at many places, and with many bytes changed."""
    for at in range(0, len(content), step):
        yield content[:at]
        for change in (0xFF, 0x80, 0x01):
            yield content[:at] + bytes([content[at] ^ change]) + content[at + 1 :]


# The message.


def test_messages_are_one_printable_line():
    error = InputError("a.mat: \x1b[2Jgone\nand\u202egone; " + "x" * 10_000)
    assert str(error).startswith("a.mat: \N{REPLACEMENT CHARACTER}[2Jgone and")
    assert str(error).isprintable()
    assert len(str(error)) <= 600


def test_the_command_says_one_line(untrusted):
    path = untrusted(
        "a.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}", b"cos\n\x1b")
    )
    done = run("convert.py", "--weight", path, "--output", path.with_suffix(".safetensors"))
    assert_refused(done, "a.npy")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.strip().isprintable()


# MATLAB: scipy's reader ends the process on a file with a few wrong bytes.

FIELDS = ("Pose_Para", "pt2d")


def annotation(**options: object) -> bytes:
    out = io.BytesIO()
    pose = np.arange(7.0)[None]
    savemat(out, {"Pose_Para": pose, "pt2d": np.ones((2, 3)), "other": "x"}, **options)
    return out.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_matlab_files(untrusted, compressed):
    content = annotation(do_compression=compressed)
    whole = loadmat(io.BytesIO(content))
    found = read_annotation(untrusted("a.mat", content), *FIELDS)
    for name in FIELDS:
        np.testing.assert_array_equal(found[name], whole[name])
    for bad in damaged(content[124:], 3):
        path = untrusted("a.mat", content[:124] + bad)
        try:
            read_annotation(path, *FIELDS)
        except InputError:
            continue


@pytest.mark.parametrize("kind", ["i1", "u1", "<i2", ">u2", "i4", "u4", "f4", "i8", "u8", ">f8"])
def test_every_type_of_number_is_read_from_matlab(untrusted, kind):
    out = io.BytesIO()
    savemat(out, {"pt2d": np.arange(12).reshape(3, 4).astype(kind)})
    np.testing.assert_array_equal(
        read_annotation(untrusted("a.mat", out.getvalue()), "pt2d")["pt2d"],
        np.arange(12).reshape(3, 4),
    )


def test_matlab_files_of_other_versions_are_called_so(untrusted):
    old = annotation(format="4")
    with pytest.raises(InputError, match="a MATLAB 4 file; save it again"):
        read_annotation(untrusted("a.mat", old), *FIELDS)
    new = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(384) + b"\x89HDF"
    with pytest.raises(InputError, match=r"a MATLAB 7\.3 \(HDF5\) file; save it again"):
        read_annotation(untrusted("a.mat", new), *FIELDS)


def test_absolute_names_inside_the_data_folder_are_accepted(tmp_path):
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    names = tmp_path / "list.txt"
    names.write_text(f"{folder}/a.jpg\n{folder}/sub/b.jpg\nc\n")
    assert read_list(names, folder) == ["a", "sub/b", "c"]
    names.write_text(f"{folder}2/a.jpg\n")
    with pytest.raises(InputError, match="outside the data folder"):
        read_list(names, folder)
    names.write_text(f"{folder}/../a.jpg\n")
    with pytest.raises(InputError, match="outside the data folder"):
        read_list(names, folder)


def test_a_missing_list_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(InputError, match=r"create_filename_list\.py --root_dir"):
        read_list(tmp_path / "none.txt")


def test_a_matlab_bomb_is_refused(untrusted):
    body = zlib.compress(bytes(1 << 27), 9)
    content = annotation()[:128] + struct.pack("<II", 15, len(body)) + body
    with pytest.raises(InputError, match="too large for an annotation"):
        read_annotation(untrusted("a.mat", content), "pt2d")


# Pictures.


def test_damaged_pictures(untrusted):
    for form in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        out = io.BytesIO()
        Image.new("RGB", (9, 7), "red").save(out, form)
        for bad in damaged(out.getvalue(), 5):
            path = untrusted("a.png", bad)
            for read in (pictures.open_upright, open_picture):
                try:
                    read(path)
                except InputError:
                    continue


def test_threads_that_open_pictures_leave_the_filters_of_warnings_alone(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    before = list(warnings.filters)
    first, second = pictures.opened(path), pictures.opened(path)
    for picture in (first, second):
        picture.__enter__()
    for picture in (first, second):
        picture.__exit__(None, None, None)
    assert warnings.filters == before


def test_pictures_that_other_programs_would_draw_are_refused(untrusted):
    postscript = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InputError, match="no picture that can be read"):
        open_picture(untrusted("a.jpg", postscript))


def test_a_picture_that_claims_a_huge_size(untrusted):
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", 12_001, 9_001, 8, 2, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    path = untrusted("a.png", content)
    for read in (pictures.open_upright, open_picture):
        with pytest.raises(InputError, match="over 108 megapixels"):
            read(path)


def test_a_progressive_jpeg_of_many_scans(untrusted):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "JPEG", progressive=True)
    content = out.getvalue()
    path = untrusted("a.jpg", content)
    assert open_picture(path).shape == (16, 16, 3)
    last = content[content.rindex(b"\xff\xda") : -2]
    for read in (pictures.open_upright, open_picture):
        with pytest.raises(InputError, match="over 100 scans"):
            read(untrusted("a.jpg", content[:-2] + 100 * last + content[-2:]))


class TestVideo:
    @pytest.fixture
    def film(self, tmp_path):
        pytest.importorskip("cv2")
        path = tmp_path / "a.mp4"
        with VideoWriter(path, 25, lambda image, _: image) as writer:
            for _ in range(6):
                writer.put(np.zeros((48, 64, 3), np.uint8), [])
        return path

    def test_frames_of_a_huge_size(self, film, monkeypatch):
        monkeypatch.setattr(video, "MAX_FRAME_PIXELS", 64 * 48 - 1)
        with pytest.raises(InputError, match="frames of over"):
            VideoReader(film)

    def test_large_frames_do_not_pile_up(self, film, monkeypatch):
        monkeypatch.setattr(video, "MAX_WAITING_BYTES", 2 * 64 * 48 * 3)
        with VideoReader(film) as reader:
            assert reader._queue.maxsize == 2
            assert len(list(reader)) == 6


# Lists and tables.


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\etc\\passwd", "a\0b", "\\\\x\\y"],
)
def test_no_list_leads_out_of_its_folder(untrusted, name):
    with pytest.raises(InputError, match=r"lies outside the data folder|is no text in UTF-8"):
        read_list(untrusted("list.txt", f"good.jpg\n{name}\n"))
    front = [[1, 0, 0], [0, -1, 0], [0, 0, -1]]
    entry = {"img_path": name.replace("\\", "/"), "bbox": [1, 2, 3, 4], "R": front}
    path = untrusted("train.json", json.dumps([entry]))
    with pytest.raises(InputError, match="lies outside the data folder"):
        DAD3DHeads(path.parent, path, AROUND_LANDMARKS, train=False, skip_bad=False)


def test_no_table_leads_out_of_its_folder(untrusted):
    for name in ("../a.jpg", "/etc/passwd", "a\0.jpg"):
        table = f"image,x,y,width,height,yaw,pitch,roll\n{name},1,2,3,4,5,6,7\n"
        with pytest.raises(InputError, match="row 1 is broken"):
            read_panoptic(untrusted("a.csv", table))


def test_names_in_a_list_may_be_bytes_that_are_no_text(untrusted):
    name = os.fsdecode(b"caf\xe9")
    assert read_list(untrusted("list.txt", b"caf\xe9.jpg\n")) == [name]
    table = b"image,x,y,width,height,yaw,pitch,roll\ncaf\xe9.jpg,1,2,3,4,5,6,7\n"
    assert read_panoptic(untrusted("a.csv", table))[0][0] == f"{name}.jpg"
    write_lines(untrusted("again.txt", ""), [name, "b"])
    assert untrusted("x", "").with_name("again.txt").read_bytes() == b"caf\xe9\nb\n"
    for content in (b"PK\3\4\0\0", "a.jpg\n".encode("utf-16")):
        with pytest.raises(InputError, match="is no text in UTF-8"):
            read_list(untrusted("list.txt", content))


def test_a_list_from_a_windows_editor(untrusted):
    assert read_list(untrusted("list.txt", b"\xef\xbb\xbfAFW\\a.jpg\r\nb\r\n")) == ["AFW/a", "b"]
    columns = ", ".join(rendered.COLUMNS)
    table = f"\ufeff{columns}\r\n\r\na.jpg, 1,2,3,4,5,6,7,8,9,10,11\r\n,,,,,,,,,,,\r\n"
    assert rendered.read_list(untrusted("heads.csv", table))[0] == ["a.jpg"]
    points = read_landmarks(untrusted("points.txt", "\ufeff1 2 3\r\n\r\n4,5,6\r\n"))
    np.testing.assert_array_equal(points, [[1, 2, 3], [4, 5, 6]])
    assert files.read_json(untrusted("a.json", "\ufeff[1]")) == [1]


# JSON.

HUGE = 10**400


@pytest.mark.parametrize(
    "entry",
    [
        {"img_path": "a", "bbox": [HUGE, 1, 2, 3], "R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
        {"img_path": "a", "bbox": [0, 1, 2, 3], "R": [[HUGE] * 3] * 3},
    ],
)
def test_numbers_beyond_floats_in_annotations(untrusted, entry):
    path = untrusted("train.json", json.dumps([entry]))
    with pytest.raises(InputError, match="entry 0 is broken"):
        DAD3DHeads(path.parent, path, AROUND_LANDMARKS, train=False, skip_bad=False)


def test_numbers_beyond_floats_in_calibrations(untrusted):
    eye = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    camera = {"panel": 0, "node": 1, "resolution": [9, 9], "K": eye, "R": eye, "t": [0, 0, 0]}
    for bad in ({"distCoef": [HUGE] * 5}, {"distCoef": [0] * 5, "panel": float("inf")}):
        path = untrusted("c.json", json.dumps({"cameras": [camera | bad]}))
        with pytest.raises(InputError, match="no calibration"):
            read_cameras(path)
    face = {"landmarks": [HUGE] * 210, "averageScore": [1] * 70}
    path = untrusted("f.json", json.dumps({"people": [{"face70": face}]}))
    with pytest.raises(InputError, match="no hdFace3d"):
        read_heads(path)


def test_json_that_would_fill_the_memory(untrusted, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON", 1 << 10)
    path = untrusted("config.json", "[" + "[]," * 999 + "[]]")
    for read in (read_cameras, read_heads, lambda p: from_pretrained(p.parent)):
        with pytest.raises(InputError, match="over 0 MB"):
            read(path)
    with pytest.raises(InputError, match="over 0 MB"):
        DAD3DHeads(tmp_path, path, AROUND_LANDMARKS, train=False, skip_bad=False)


@pytest.mark.parametrize("value", [HUGE, "1", None, [1.0], {"a": 1}, True])
def test_configs_of_a_wrong_kind(untrusted, tmp_path, value):
    untrusted("config.json", json.dumps({"model_type": "hopenet", "alpha": value}))
    with pytest.raises(InputError, match="malformed"):
        from_pretrained(tmp_path)


# NumPy.


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 3)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([print])),
        b"PK\x05\x06" + bytes(18),
        b"",
    ],
    ids=["huge", "negative", "cut off", "objects", "zip", "empty"],
)
def test_arrays_that_lie(untrusted, content):
    with pytest.raises(InputError):
        read_landmarks(untrusted("a.npy", content))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("image.npy", content)
        file.writestr("pose.npy", content)
    with pytest.raises(InputError):
        PackedBiwi(untrusted("a.npz", archive.getvalue()), None)


def test_a_bomb_among_archives(untrusted, monkeypatch):
    monkeypatch.setattr(npz, "MAX_BYTES", 1 << 20)
    images = np.zeros((30, 256, 256, 3), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, image=images, pose=np.zeros((30, 3)))
    with pytest.raises(InputError, match="too large to hold; save it again"):
        PackedBiwi(untrusted("a.npz", out.getvalue()), None)


def test_a_large_archive_is_read_row_by_row(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 6, 7, 3), np.uint8)
    np.savez(tmp_path / "a.npz", first=np.zeros(3), image=images, pose=rng.normal(size=(5, 3)))
    monkeypatch.setattr(npz, "MAX_BYTES", 600)
    dataset = PackedBiwi(tmp_path / "a.npz", None)
    assert isinstance(dataset.images, npz.StoredRows)
    for index in range(5):
        np.testing.assert_array_equal(np.asarray(dataset.image(index)), images[index, ..., ::-1])
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:900])
    with pytest.raises(InputError, match="cannot be read"):
        dataset.image(4)


def test_a_cache_that_unpacks_to_more_than_it_has_is_made_anew(tmp_path):
    (tmp_path / "x").write_text("x")
    made = {"poses": np.zeros((1, 3), np.float32)}
    for _ in range(2):
        cached_table(tmp_path, "t", [tmp_path / "x"], lambda: made)
    cache = tmp_path / ".mlx_headpose" / "t.npz"
    with np.load(cache) as archive:
        key = archive["key"]
    np.savez_compressed(cache, key=key, poses=np.ones((1 << 16, 3)))
    assert cached_table(tmp_path, "t", [tmp_path / "x"], lambda: made)["poses"].shape == (1, 3)


def test_a_head_models_part_that_unpacks_without_end(tmp_path):
    with gzip.open(tmp_path / "a.target.gz", "wb") as file:
        file.write(bytes(65 << 20))
    with pytest.raises(InputError, match="unpacks to over 64 MB"):
        read_target(tmp_path / "a.target.gz", 5)


def test_a_head_models_part_with_impossible_numbers(untrusted):
    for number in ("1e300", "nan", "-inf"):
        with pytest.raises(InputError, match="impossible number"):
            read_target(untrusted("a.target", f"{number} 0 0 0\n"), 5)
