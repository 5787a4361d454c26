"""predict.py as a user types it: outputs, odd inputs, and the sentence when something is wrong."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import ROOT, assert_refused, run

from mlx_headpose import cli
from mlx_headpose.convert import convert_file
from mlx_headpose.detection.yunet import ONNX_NAME
from mlx_headpose.inference.estimator import Head
from mlx_headpose.inference.sources import find_sources
from mlx_headpose.inference.table import COLUMNS, table
from mlx_headpose.weights import from_pretrained, save_pretrained

pytest.importorskip("onnx")
cv2 = pytest.importorskip("cv2")


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def read_results(path: Path) -> list[dict]:
    return json.loads(path.read_text())["results"]


def fails(predict, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence with which the command refuses."""
    with pytest.raises(SystemExit) as stopped:
        predict(*arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_a_photo(predict, photos, capsys, tmp_path: Path) -> None:
    predict(photos[1], "--json", "o.json", "--csv", "o.csv")
    printed = capsys.readouterr().out
    assert "2 faces" in printed
    assert "yaw   pitch    roll" in printed
    drawn = read_picture(tmp_path / "output" / "image00006.jpg")
    assert drawn.shape == (450, 450, 3)
    assert np.abs(drawn.astype(int) - read_picture(photos[1])).max() > 100
    (result,) = read_results(tmp_path / "o.json")
    assert (result["width"], result["height"], len(result["heads"])) == (450, 450, 2)
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert len(rows) == 2
    for row, head in zip(rows, result["heads"], strict=True):
        assert float(row["yaw"]) == pytest.approx(head["yaw"], abs=1e-3)
        assert float(row["x"]) == pytest.approx(head["box"][0], abs=1e-2)
        assert float(row["x"]) + float(row["width"]) == pytest.approx(head["box"][2], abs=2e-2)
        assert 0.5 <= float(row["score"]) <= 1
        assert row["track"] == ""


def test_folder_pattern_and_broken_files(predict, photos, capsys, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos[:2]:
        (folder / photo.name).write_bytes(photo.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_text("no picture")
    predict(folder, folder / "*2.jpg", "--save", "a", "--draw", "cube")
    names = ["image00002-2.jpg", "image00002.jpg", "image00006.jpg"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == names
    capsys.readouterr()

    (folder / "broken.jpg").write_bytes(b"broken")
    with pytest.raises(SystemExit) as stopped:
        predict(folder, "--save", "b", "--json", "b.json")
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert "broken.jpg" in printed.err
    assert "1 of 3 inputs" in printed.err
    assert len(read_results(tmp_path / "b.json")) == 2


def test_options(predict, photos, capsys, tmp_path: Path) -> None:
    predict(photos[1], "--max_faces", 1, "--draw", "none", "--csv", "one.csv")
    assert "1 face\n" in capsys.readouterr().out
    assert not (tmp_path / "output").exists()
    predict(photos[1], "--min_score", 0.99, "--save", "x.png")
    assert "no face found" in capsys.readouterr().out
    assert read_picture(tmp_path / "x.png").shape == (450, 450, 3)
    yaws = []
    for name, margin in (("a.json", ()), ("b.json", ("--crop_margin", 0))):
        predict("--source", photos[1], "--bbox=185,137,138,233", "--json", name, *margin)
        yaws.append(read_results(tmp_path / name)[0]["heads"][0]["yaw"])
    assert yaws[0] != yaws[1]
    predict(photos[1], "--bbox=185,137,138,233", "--bbox", "5,9,99,99", "--json", "two.json")
    boxes = [head["box"] for head in read_results(tmp_path / "two.json")[0]["heads"]]
    assert boxes == [[185, 137, 323, 370], [5, 9, 104, 108]]


def test_a_closed_pipe_loses_no_results(predict, photos, monkeypatch, tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            if "face" in text:
                raise BrokenPipeError
            return len(text)

        def fileno(self) -> int:
            return os.open(os.devnull, os.O_WRONLY)

    monkeypatch.setattr("sys.stdout", Gone())
    with pytest.raises(SystemExit) as stopped:
        predict(photos[0], photos[1], "--draw", "none", "--json", "r.json")
    assert stopped.value.code == 0
    assert (tmp_path / "r.json").is_file()


def test_a_trailing_slash_is_a_folder(predict, photos, tmp_path: Path) -> None:
    predict(photos[0], photos[1], "--save", "year.2026/")
    assert sorted(p.name for p in (tmp_path / "year.2026").iterdir()) == sorted(
        photo.name for photo in photos[:2]
    )


def test_names_that_are_no_text(predict, photos, tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    try:
        (tmp_path / name).write_bytes(photos[0].read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    predict(name, "--csv", "all.csv", "--json", "all.json")
    assert b"caf\xe9.jpg," in (tmp_path / "all.csv").read_bytes()


def test_a_network_that_predicts_nan_is_named(predict, photos, tmp_path: Path, weights, capfd):
    model = from_pretrained(weights)
    model.head.yaw.bias = model.head.yaw.bias * math.nan
    save_pretrained(model, tmp_path / "broken.safetensors")
    given = ("--snapshot", tmp_path / "broken.safetensors", "--bbox=185,137,138,233")
    for draw in ("axis", "none"):
        with pytest.raises(SystemExit) as stop:
            predict(photos[1], *given, "--draw", draw, "--json", "all.json")
        assert stop.value.code == 2
        error = capfd.readouterr().err
        assert "broken.safetensors: predicts angles that are no numbers" in error
        assert "weights head.yaw.bias are none either; get it again" in error
        assert "Traceback" not in error
    assert not (tmp_path / "all.json").exists()


def test_grey_and_turned_pictures_are_drawn_upright(predict, photos, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos[0]).crop((0, 0, 450, 400)).save(tmp_path / "turned.jpg", exif=exif)
    Image.open(photos[0]).convert("L").save(tmp_path / "grey.tiff")
    predict(tmp_path / "turned.jpg", tmp_path / "grey.tiff")
    assert read_picture(tmp_path / "output" / "turned.jpg").shape == (450, 400, 3)
    assert read_picture(tmp_path / "output" / "grey.png").shape == (450, 450, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--help"),
        (("missing.jpg",), "no such picture"),
        (("empty",), "holds no pictures"),
        (("*.tiff",), "matches no pictures"),
        (("broken.jpg",), "no picture that can be read"),
        (("broken.mp4",), "no video"),
        (("97",), "camera 97 cannot be opened"),
        (("20240131123456",), "no such camera"),
        (("a" * 300,), "File name too long"),
        (("~nobody/x.jpg",), "no such picture"),
        (("PHOTO", "--save", "one.ppm.gz"), "no picture format"),
        (("PHOTO", "--bbox", "1,2,3"), "x,y,width,height"),
        (("PHOTO", "--bbox", "1,2,0,9"), "x,y,width,height"),
        (("PHOTO", "--bbox", "450,2,9,9"), "outside the image of 450×450"),
        (("PHOTO", "--json", "empty"), "empty: is a folder"),
        (("PHOTO", "--csv", "broken.jpg/o.csv"), "cannot be written"),
        (("PHOTO", "--csv", "o", "--json", "o"), "name two files"),
        (("PHOTO", "--min_score", "2"), "between 0 and 1"),
        (("PHOTO", "--crop_margin", "-1"), "between 0 and 10"),
        (("",), "an input is empty; name a picture"),
        (("--source", ""), "an input is empty; name a picture"),
        (("PHOTO", "--max_faces", "0"), "at least 1"),
        (("PHOTO", "--draw", "stars"), "invalid choice"),
        (("PHOTO", "PHOTO", "--save", "one.png"), "give a folder"),
        (("PHOTO", "--landmarks", "a.npy"), "takes the place of images"),
        (("--landmarks", "a.npy", "--draw", "cube"), "--draw: has no use with --landmarks"),
        (("PHOTO", "--raw"), "--raw: is for videos"),
        (("PHOTO", "--draw", "none", "--save", "x"), "--save: has no use with --draw none"),
        (("--demo", "--save", "x"), "--save: is for images and videos"),
        (("PHOTO", "--no_perspective"), "--no_perspective: needs the camera"),
        (("PHOTO", "--bbox", "1,2,3,4", "--max_faces", "1"), "--max_faces: has no use with --bbox"),
        (("PHOTO", "--save", "-"), "drawings go to files"),
        (("PHOTO", "--json", "-", "--csv", "-"), "two results"),
        (("PHOTO", "--carry", "1"), "--carry: is for videos"),
        (("PHOTO", "--no_window"), "--no_window: is for cameras"),
        (("PHOTO", "--record", "r.avi", "--seconds", "1"), "--seconds: is for cameras"),
        (("broken.mp4", "--carry", "-1"), "below 0"),
        (("broken.mp4", "--bbox", "1,2,3,4"), "for images"),
        (("PHOTO", "--save", "one.xyz"), "no picture format"),
        (("PHOTO", "--save", "broken.jpg/sub"), "cannot be written"),
        (("PHOTO", "--detector", "broken.onnx"), "broken.onnx"),
        (("PHOTO", "--snapshot", "broken.safetensors"), "broken.safetensors"),
        (("PHOTO", "--snapshot", "whenet"), "python convert.py --weight whenet"),
    ],
)
def test_refusals(predict, photos, capfd, tmp_path: Path, arguments, words: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("broken.jpg", "broken.mp4", "broken.onnx", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"broken")
    given = [photos[0] if argument == "PHOTO" else argument for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        predict(*given)
    assert stopped.value.code == 2
    # OpenCV writes lines of its own about broken videos.
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]


def test_the_source_is_never_overwritten(
    predict, photos, weights: Path, capsys, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(photos[0].read_bytes())
    assert "overwrite" in fails(predict, capsys, "a.jpg", "--save", ".")
    for given in (["--json", "a.jpg"], ["--csv", "./a.jpg"], ["--csv", "{net}"]):
        words = [word.format(net=weights) for word in given]
        assert "would overwrite" in fails(predict, capsys, "a.jpg", *words)
    assert "two results" in fails(predict, capsys, "a.jpg", "--json", "r.txt", "--csv", "./r.txt")
    assert "two results" in fails(predict, capsys, "a.jpg", "--save", "r.png", "--csv", "r.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.jpg").write_bytes(photos[0].read_bytes())
    assert "overwrite" in fails(predict, capsys, "a.jpg", "b/a.jpg", "--save", "b")
    assert (tmp_path / "a.jpg").read_bytes() == photos[0].read_bytes()
    assert (tmp_path / "b" / "a.jpg").read_bytes() == photos[0].read_bytes()


def test_folders_inside_a_folder_are_named(predict, photos, capsys, tmp_path: Path) -> None:
    (tmp_path / "album" / "more").mkdir(parents=True)
    shutil.copy(photos[0], tmp_path / "album" / "a.jpg")
    shutil.copy(photos[1], tmp_path / "album" / "more" / "b.jpg")
    predict("album", "--draw", "none")
    assert 'album: 1 folder inside not searched; "album/**/*" finds all' in capsys.readouterr().out
    predict("album/**/*", "--draw", "none")
    assert "b.jpg: 2 faces" in capsys.readouterr().out


def test_a_box_may_begin_left_of_the_picture(predict, photos, capsys) -> None:
    predict(photos[0], "--bbox", "-9,100,220,280", "--bbox", "-9.5,-3,220,280", "--draw", "none")
    assert "2 faces" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["json", "csv"])
def test_results_on_the_standard_output_are_alone_there(
    predict, photos, capfd, tmp_path: Path, form: str
) -> None:
    predict(photos[0], f"--{form}", "-", "--draw", "none")
    out, err = capfd.readouterr()
    if form == "json":
        assert len(json.loads(out)["results"][0]["heads"]) == 1
    else:
        assert [row["file"] for row in csv.DictReader(out.splitlines())] == [str(photos[0])]
    assert "1 face" in err
    assert not list(tmp_path.iterdir())


def test_a_device_takes_results_and_stays(predict, photos) -> None:
    predict(photos[0], "--json", os.devnull, "--draw", "none")
    assert Path(os.devnull).is_char_device()


def test_a_folder_holds_what_its_files_contain(tmp_path: Path, shared: Path) -> None:
    for name in ("film.ts", "film.mp4", "film"):
        shutil.copy(shared / "faults" / "cut.mp4", tmp_path / name)
    (tmp_path / "code.ts").write_text("export const x = 1")
    (tmp_path / "notes").write_text("text")
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.jpg")
    found = {(source.kind, Path(source.name).name) for source in find_sources([str(tmp_path)])}
    films = {("video", name) for name in ("film.ts", "film.mp4", "film")}
    assert found == {*films, ("picture", "photo.jpg")}


def test_results_follow_their_schema(predict, photos, shared: Path, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    predict(*photos, shared / "faults" / "cut.mp4", "--json", "o.json", "--draw", "none")
    results = json.loads((tmp_path / "o.json").read_text())
    jsonschema.validate(results, schema)
    del results["results"][0]["heads"][0]["box"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(results, schema)


def test_the_door(weights: Path, tmp_path: Path) -> None:
    photo = ROOT / "docs" / "images" / "astronaut.jpg"
    given = (photo, "--bbox", "178,63,90,114")
    ran = run("predict.py", *given, "--snapshot", weights, folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "1 face" in ran.stdout
    assert_refused(run("predict.py", *given, "--snapshot", "none", folder=tmp_path), "none")


def test_the_network_in_the_box(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = str(ROOT / "docs" / "images" / "astronaut.jpg")
    monkeypatch.setattr("mlx_headpose.weights.BUNDLED", weights)
    cli.main("predict", [photo, "--bbox", "178,63,90,114"])
    assert f"network: {weights}\n" in capsys.readouterr().out
    monkeypatch.setattr("mlx_headpose.weights.BUNDLED", tmp_path / "headpose.safetensors")
    error = fails(lambda *given: cli.main("predict", [*given]), capsys, photo)
    assert "python convert.py --weight hopelessnet-resnet18" in error


def test_photos_need_neither_opencv_nor_the_converters(
    weights: Path, photos: list[Path], shared: Path, tmp_path: Path
) -> None:
    detector = tmp_path / "yunet.safetensors"
    convert_file(shared / "weights" / ONNX_NAME, detector)
    blocked = "cv2", "torch", "onnx", "onnxruntime", "h5py", "matplotlib"
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}));"
        "from mlx_headpose.cli import main; main('predict', sys.argv[1:])"
    )
    given = [str(photos[0]), "--snapshot", str(weights), "--detector", str(detector)]
    ran = subprocess.run(
        [sys.executable, "-c", program, *given],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLX_HEADPOSE_BLAS": "0"},
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "1 face" in ran.stdout
    assert (tmp_path / "output" / photos[0].name).is_file()


def test_later_frames_of_an_animation_are_named(predict, photos, capsys, tmp_path: Path) -> None:
    frames = [Image.open(photos[0]).convert("RGB"), Image.new("RGB", (50, 50))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    predict(tmp_path / "still.gif", "--bbox", "0,0,40,40")
    assert capsys.readouterr().err == ""
    predict(tmp_path / "moving.gif", "--bbox", "0,0,40,40")
    assert "moving.gif: has 2 frames, of which only the first is read" in capsys.readouterr().err


def test_every_header_names_the_convention_of_boxes() -> None:
    header, row = table([Head((10, 20, 40, 70), 1, 2, 3)]).splitlines()
    assert header.split()[:4] == ["x", "y", "width", "height"]
    assert row.split()[:4] == ["10", "20", "30", "50"]
    assert header.index("yaw") == row.index("1.0")
    assert {"x", "y", "width", "height"} <= set(COLUMNS)
    page = " ".join((ROOT / "docs" / "predict.md").read_text(encoding="utf-8").split())
    assert "`x, y, width, height` in the printed table, the CSV's columns and `--bbox`" in page
