"""predict.py on many pictures: in order, each with its own error, in memory that does not grow."""

from __future__ import annotations

import errno
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_headpose import cli
from mlx_headpose.cli import predict_pictures
from mlx_headpose.errors import InputError
from mlx_headpose.inference import record as record_module
from mlx_headpose.inference.estimator import Head, HeadPoseEstimator
from mlx_headpose.inference.record import Record
from mlx_headpose.inference.video import Frame

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small pictures, each of one colour, in each of which there is one head."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "photos"
    place.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (24, 16), (number, 0, 0)).save(place / f"{number:03}.png")

    def found(_: HeadPoseEstimator, image: np.ndarray, *__: object) -> list[Head]:
        return [Head((2, 2, 12, 12), float(image[0, 0, 0]), 0, 0)]

    monkeypatch.setattr(HeadPoseEstimator, "__call__", found)
    return place


def yaws(path: Path) -> list[float]:
    return [r["heads"][0]["yaw"] for r in json.loads(path.read_text())["results"]]


def test_results_and_lines_come_in_order(folder: Path, tmp_path: Path, capsys) -> None:
    cli.main("predict", [str(folder), "--json", "all.json", "--save", "drawn/"])
    assert yaws(tmp_path / "all.json") == list(range(COUNT))
    lines = [line for line in capsys.readouterr().out.splitlines() if ".png" in line]
    want = []
    for number in range(COUNT):
        want += [f"{folder}/{number:03}.png: 1 face", f"wrote drawn/{number:03}.png"]
    assert lines == want
    assert len(list((tmp_path / "drawn").iterdir())) == COUNT


def test_few_pictures_are_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most = set(), 0
    plain = predict_pictures.open_picture

    def watched(name: str) -> np.ndarray:
        nonlocal most
        image = plain(name).copy()
        alive.add(name)
        weakref.finalize(image, alive.discard, name)
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(predict_pictures, "open_picture", watched)
    cli.main("predict", [str(folder), "--save", "drawn/"])
    # Waiting, being read, looked at, and behind that.
    bound = predict_pictures.AHEAD + predict_pictures.READERS + 1 + predict_pictures.BEHIND + 1
    assert 2 < most <= bound
    assert bound < 10


def test_what_cannot_be_read_or_written_is_named_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "005.png").write_bytes(b"no picture")
    plain = predict_pictures.draw_heads

    def drawn(image: np.ndarray, heads: list[Head], style: str) -> np.ndarray:
        if heads[0].yaw == 9:
            raise InputError("drawn/009.png: the disk is full")
        return plain(image, heads, style)

    monkeypatch.setattr(predict_pictures, "draw_heads", drawn)
    with pytest.raises(SystemExit) as ended:
        cli.main("predict", [str(folder), "--json", "all.json", "--save", "drawn/"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "005.png" in said
    assert "009.png: the disk is full" in said
    assert f"2 of {COUNT} inputs could not be used" in said
    assert yaws(tmp_path / "all.json") == [i for i in range(COUNT) if i != 5]
    assert len(list((tmp_path / "drawn").iterdir())) == COUNT - 2


def test_what_pillow_cannot_write_is_named(tmp_path: Path) -> None:
    wide = np.zeros((2, 17_000, 3), np.uint8)
    drawings = predict_pictures.Drawings("axis")
    with drawings, pytest.raises(InputError, match=r"wide\.webp: cannot be written .* as \.png"):
        drawings.write(tmp_path / "wide.webp", wide, []).result()
    assert not list(tmp_path.iterdir())


def test_a_damaged_second_page_leaves_the_first(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((60, 60, 3), 80 * i, np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "pages.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * 2 // 3])
    counts = [read[1] for read in predict_pictures.decoded(map(str, sorted(tmp_path.iterdir())))]
    assert counts == [1, 3]


def test_a_full_disk_leaves_no_half_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    record = Record(str(tmp_path / "r.json"), str(tmp_path / "r.csv"), "network")
    record.__enter__()
    record.add({"file": "a.jpg", "heads": []})
    monkeypatch.setattr(record, "_json", Full())
    with pytest.raises(InputError, match="disk is full"):
        record.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_before_the_first_result_leaves_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("earlier")
    with pytest.raises(KeyboardInterrupt), Record(str(tmp_path / "r.json"), None, "network"):
        raise KeyboardInterrupt
    assert (tmp_path / "r.json").read_text() == "earlier"


@pytest.mark.parametrize("stop_at", range(1, 8))
def test_ctrl_c_amid_a_result_leaves_a_readable_file(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = record_module.dumps, []

    def interrupted(value: object) -> str:
        calls.append(value)
        if len(calls) == stop_at + 1:  # the first is the file's head
            raise KeyboardInterrupt
        return plain(value)

    monkeypatch.setattr(record_module, "dumps", interrupted)
    image = np.zeros((8, 8, 3), np.uint8)
    (tmp_path / "r.json").write_text("[]")

    def write() -> None:
        with Record(str(tmp_path / "r.json"), None, "network") as record:
            record.add({"file": "a.jpg", "heads": []})
            for index in range(3):
                record.frame("clip.mp4", Frame(index, index / 30, image), [])
            record.end(fps=30.0)

    with pytest.raises(KeyboardInterrupt):
        write()
    found = json.loads((tmp_path / "r.json").read_text())
    assert found == [] if stop_at == 1 else found["results"][0] == {"file": "a.jpg", "heads": []}


def test_ctrl_c_keeps_what_was_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = HeadPoseEstimator.__call__

    def interrupted(self: HeadPoseEstimator, image: np.ndarray, *more: object) -> list[Head]:
        if image[0, 0, 0] == 7:
            raise KeyboardInterrupt
        return plain(self, image, *more)

    monkeypatch.setattr(HeadPoseEstimator, "__call__", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main("predict", [str(folder), "--json", "all.json", "--save", "drawn/"])
    assert ended.value.code == 130
    assert yaws(tmp_path / "all.json") == list(range(7))
    assert len(list((tmp_path / "drawn").iterdir())) == 7


def test_names_that_differ_in_case_alone_get_drawings_of_their_own(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "more"
    other.mkdir()
    Image.new("RGB", (24, 16), (1, 0, 0)).save(other / "PHOTO.png")
    Image.new("RGB", (24, 16), (2, 0, 0)).save(folder / "photo.png")
    cli.main("predict", [str(other / "PHOTO.png"), str(folder / "photo.png"), "--save", "drawn/"])
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"PHOTO.png", "photo-2.png"}
