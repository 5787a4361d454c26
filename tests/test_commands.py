"""convert.py and test.py as a user types them."""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.commands import assert_refused, installed, run
from test_biwi import prepare

from mlx_headpose.cli import COMMANDS, main
from mlx_headpose.cli import test as evaluating
from mlx_headpose.cli.train_start import _sized
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.weights import BUNDLED, save_pretrained, save_tensors

ANGLES = ("yaw", "pitch", "roll")


@pytest.fixture(scope="module")
def workplace(shared, tmp_path_factory):
    """A folder where the published SqueezeNet has been converted, with a short list."""
    folder = tmp_path_factory.mktemp("work")
    done = run("convert.py", "--weight", shared / "weights" / "squeezenet_1_1.pkl", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "recognised: HopeLessNet squeezenet1_1" in done.stdout
    assert (folder / "weights" / "squeezenet_1_1.safetensors").is_file()
    names = (shared / "data" / "AFLW2000" / "aflw2000_list.txt").read_text().split()
    # Four boxes whose sides fall on whole pixels, where rounding in float32 shows.
    chosen = [*names[::40], "image02282", "image00925", "image02747", "image04124"]
    (folder / "list.txt").write_text("\n".join(chosen))
    return folder


def evaluate(workplace, shared, *more):
    return run(
        "test.py",
        *("--dataset", "AFLW2000", "--data_dir", shared / "data" / "AFLW2000"),
        *("--filename_list", "list.txt", "--snapshot", "squeezenet_1_1"),
        *more,
        folder=workplace,
    )


def test_every_image_agrees_with_the_published_code(shared, workplace):
    done = evaluate(workplace, shared, "--csv", "out.csv", "--json", "out.json", "--batch_size", 7)
    assert done.returncode == 0, done.stderr
    with (workplace / "out.csv").open() as file:
        found = {row["name"]: row for row in csv.DictReader(file)}
    with (shared / "golden" / "aflw2000_squeezenet_1_1.csv").open() as file:
        golden = {row["name"]: row for row in csv.DictReader(file)}
    assert len(found) == 54
    errors = [
        abs(float(row[angle]) - float(golden[name][angle]))
        for name, row in found.items()
        for angle in ANGLES
    ]
    assert max(errors) < 0.01
    report = json.loads((workplace / "out.json").read_text())
    assert {*ANGLES, "mae", "geodesic", "vmae", "used", "dropped"} <= set(report)
    assert report["used"] == 54
    for angle in ANGLES:
        expected = np.mean(
            [abs(float(row[angle]) - float(row[f"true_{angle}"])) for row in found.values()]
        )
        assert report[angle] == pytest.approx(expected, abs=1e-3)
    assert f"54 images  Yaw {report['yaw']:.2f}" in done.stdout
    assert list(report["bands"]) == ["yaw 0-30", "yaw 30-60", "yaw 60-99"]
    assert sum(band["used"] for band in report["bands"].values()) == 54
    assert f"geodesic {report['bands']['yaw 60-99']['geodesic']:.2f}\n" in done.stdout


def worse(snapshot, target):
    """A copy whose outputs are all the same."""
    tensors = load_tensors(snapshot)
    zeros = {k: v * 0 if k.startswith("head.") else v for k, v in tensors.items()}
    save_tensors(target, zeros, read_config(snapshot))


def test_a_folder_of_snapshots_names_the_best_epoch(shared, workplace):
    training = workplace / "training"  # as train.py leaves it
    snapshots = training / "snapshots"
    snapshots.mkdir(parents=True)
    published = workplace / "weights" / "squeezenet_1_1.safetensors"
    save_tensors(
        training / "last.safetensors", {"x": mx.zeros(1)}, {"model_type": "training_state"}
    )
    shutil.copyfile(published, snapshots / "2.safetensors")
    worse(published, snapshots / "10.safetensors")
    (workplace / "two.txt").write_text("image00002\nimage00004\n")
    for folder in (training, snapshots):
        done = run(
            "test.py",
            *("--data_dir", shared / "data" / "AFLW2000", "--filename_list", "two.txt"),
            *("--snapshot", folder, "--csv", "best.csv"),
            folder=workplace,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.index("2.safetensors:") < done.stdout.index("10.safetensors:")
        assert "best: 2.safetensors" in done.stdout
        results = json.loads((folder / "results_AFLW2000.json").read_text())
        assert results["best"] == "2.safetensors"
        assert list(results["snapshots"]) == ["2.safetensors", "10.safetensors"]
    with (workplace / "best.csv").open() as file:
        rows = list(csv.DictReader(file))
    error = np.mean([abs(float(r["yaw"]) - float(r["true_yaw"])) for r in rows])
    assert results["snapshots"]["2.safetensors"]["yaw"] == pytest.approx(error, abs=1e-3)
    assert results["snapshots"]["10.safetensors"]["yaw"] != pytest.approx(error, abs=0.1)


def test_without_a_snapshot_the_bundled_network_is_tested(shared, tmp_path):
    photos = shared / "data" / "AFLW2000"
    (tmp_path / "list.txt").write_text("image00002\nimage00004\n")
    listed = ("--data_dir", photos, "--filename_list", "list.txt", "--json", "r.json")
    done = run("test.py", *listed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["snapshot"] == str(BUNDLED)
    assert report["mae"] < 15


def test_a_broken_photo_is_named_or_counted(shared, workplace, tmp_path):
    for name in ("image00002", "image00004"):
        for suffix in (".jpg", ".mat"):
            shutil.copyfile(
                shared / "data" / "AFLW2000" / f"{name}{suffix}", tmp_path / f"{name}{suffix}"
            )
    photo = tmp_path / "image00004.jpg"
    photo.chmod(0o644)
    photo.write_bytes(photo.read_bytes()[:5000])
    snapshot = workplace / "weights" / "squeezenet_1_1.safetensors"
    arguments = ("--data_dir", tmp_path, "--snapshot", snapshot)
    assert_refused(run("test.py", *arguments, folder=tmp_path), "image00004.jpg", "--skip_bad")
    done = run("test.py", *arguments, "--skip_bad", "--json", "r.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["used"] == 1
    assert "left out: 1 broken images" in done.stdout
    assert report["dropped"] == {"picture broken": 1}


@pytest.fixture
def epochs(tmp_path, monkeypatch):
    """A folder with crops of BIWI and two snapshots, the first of which predicts NaN."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crops").mkdir()
    prepare(tmp_path / "crops", [0, 1])
    mx.random.seed(0)
    small = {"model_type": "hopenet", "arch": "squeezenet1_1", "preprocessing": {"size": 64}}
    model = build(config_from_dict(small))
    save_pretrained(model, tmp_path / "nets" / "2.safetensors")
    model.head.yaw.bias = model.head.yaw.bias * math.nan
    save_pretrained(model, tmp_path / "nets" / "1.safetensors")
    return tmp_path


CROPS = ["--dataset", "BIWI", "--data_dir", "crops", "--snapshot", "nets"]


def test_a_snapshot_that_predicts_nan_is_not_the_best(epochs, capsys):
    main("test", [*CROPS, "--json", "all.json"])
    assert "best: 2.safetensors" in capsys.readouterr().out

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((epochs / "all.json").read_text(), parse_constant=refused)
    assert found["snapshots"]["1.safetensors"]["yaw"] is None
    assert found["snapshots"]["2.safetensors"]["yaw"] > 0


def test_what_was_asked_for_is_written_before_the_folders_results(epochs, monkeypatch, capsys):
    main("test", [*CROPS, "--json", "mine.json"])
    results = epochs / "nets" / "results_BIWI.json"
    assert results.read_text() == (epochs / "mine.json").read_text()
    results.unlink()
    results.mkdir()
    with pytest.raises(SystemExit):
        main("test", CROPS)
    assert "results_BIWI.json: is a folder" in capsys.readouterr().err
    monkeypatch.setattr(evaluating, "require_writable", lambda path: None)
    (epochs / "mine.json").unlink()
    with pytest.raises(SystemExit):
        main("test", [*CROPS, "--json", "mine.json"])
    assert (epochs / "mine.json").exists()


def test_an_output_that_fails_keeps_nobody_from_the_others(epochs, monkeypatch, capsys):
    def fails(*_: object) -> None:
        raise InputError("worst.png: cannot be drawn")

    monkeypatch.setattr(evaluating, "draw_worst", fails)
    monkeypatch.setattr(evaluating, "draw_error_curve", fails)
    words = ["--json", "a.json", "--worst", "worst.png", "--curve", "curve.png"]
    with pytest.raises(SystemExit) as stop:
        main("test", [*CROPS, *words, "--csv", "a.csv"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("error: worst.png: cannot be drawn\n")
    for name in ("a.json", "a.csv", "nets/results_BIWI.json"):
        assert (epochs / name).is_file()


def test_hidden_files_are_no_snapshots(tmp_path):
    whole = tmp_path / "1.safetensors"
    save_tensors(whole, {"x": mx.zeros(1)}, {"model_type": "hopenet"})
    (tmp_path / "._1.safetensors").write_bytes(b"of a Mac")
    shutil.copyfile(whole, tmp_path / ".mlx-headpose-2.part.safetensors")
    assert evaluating.find_snapshots(tmp_path) == [whole]


def test_what_is_no_network_in_a_folder_is_named_before_any_is_evaluated(epochs, capsys):
    save_tensors(epochs / "nets" / "b.safetensors", {"x": mx.zeros(1)}, {"model_type": "backbone"})
    with pytest.raises(SystemExit):
        main("test", CROPS)
    shown = capsys.readouterr()
    assert "b.safetensors: is a backbone" in shown.err
    assert "images" not in shown.out


def test_networks_of_other_sizes_get_sets_of_their_own(epochs, monkeypatch):
    large = {"model_type": "hopenet", "arch": "squeezenet1_1", "preprocessing": {"size": 96}}
    save_pretrained(build(config_from_dict(large)), epochs / "nets" / "3.safetensors")
    sizes = []
    opened = evaluating.open_set

    def open_set(options, crop, config):
        sizes.append(config.preprocessing.size)
        return opened(options, crop, config)

    monkeypatch.setattr(evaluating, "open_set", open_set)
    main("test", CROPS)
    assert sizes == [64, 96]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, (64, 72)),
        ({"input_size": 64}, (64, 72)),
        ({"input_size": 96}, (96, 108)),
        ({"input_size": 96, "crop": True, "crop_size": 80}, (80, 96)),
    ],
)
def test_an_input_size_means_the_same_in_training_and_evaluation(given, sizes):
    stored = {"model_type": "hopenet", "arch": "resnet18"}
    stored["preprocessing"] = {"size": 64, "resize_to": 72}
    config = config_from_dict(stored)
    nothing = dict.fromkeys(("model", "input_size", "crop", "crop_size", "protocol", "ad"))
    options = argparse.Namespace(**{**nothing, **given})
    tested = evaluating.preprocessing_for(config, options, Path("x.safetensors"))
    trained = _sized(argparse.Namespace(**given), config).preprocessing
    assert tested == trained
    assert (tested.size, tested.resize_to) == sizes


def test_each_of_a_folders_networks_is_built_once_for_its_size(epochs, monkeypatch):
    built = []

    def counted(config):
        built.append(config.preprocessing.size)
        return build(config)

    monkeypatch.setattr(evaluating, "build", counted)
    for name in ("2", "1"):
        config = {"model_type": "hopenet", "arch": "resnet18", "preprocessing": {"size": 64}}
        save_pretrained(build(config_from_dict(config)), epochs / "nets" / f"{name}.safetensors")
    main("test", [*CROPS, "--input_size", "96"])
    assert built == [64, 96, 64, 96]


@pytest.mark.parametrize(
    ("config", "given", "word"),
    [
        (None, {"input_size": 128}, "its weights read images of 64 pixels alone"),
        ({"model_type": "tokenhpe"}, {"input_size": 232}, "no multiple of the patch size"),
        (
            {"model_type": "nlml"},
            {"input_size": 64},
            "there is no --input_size; leave",
        ),
        ({"model_type": "nlml"}, {"crop": True}, "there is no --crop"),
        ({"model_type": "nlml"}, {"ad": 0.0}, "there is no --ad; leave it out"),
        ({"model_type": "hopenet", "arch": "resnet18"}, {"input_size": 96}, None),
    ],
)
def test_an_input_size_that_the_weights_cannot_read_is_refused(config, given, word):
    config = config_from_dict(config or read_config(BUNDLED))
    nothing = dict.fromkeys(("model", "input_size", "crop", "crop_size", "protocol", "ad"))
    options = argparse.Namespace(**{**nothing, **given})
    if word is None:
        assert evaluating.preprocessing_for(config, options, Path("x.safetensors")).size == 96
        return
    with pytest.raises(InputError, match=rf"x.safetensors: .*{word}"):
        evaluating.preprocessing_for(config, options, Path("x.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--snapshot", "none.safetensors"], "none.safetensors"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--data_dir", "nowhere"], "nowhere"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors"], "--data_dir"),
        (["--dataset", "AFLW3000", "--snapshot", "weights/squeezenet_1_1.safetensors"], "AFLW3000"),
        (["--snapshot", "list.txt"], "list.txt"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--worst", "worst.txt"], ".png"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--mesh", "m.npz"], "--mesh"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--crop_size", "9"], "--crop 1"),
        (["--snapshot", "x", "--crop", "0", "--crop_size", "9"], "--crop 1"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--start", "1"], "--start"),
        (["--snapshot", "owner/name", "--num_epochs", "2"], "owner/name: is one network; leave"),
        (["--snapshot", "weights/squeezenet_1_1.safetensors", "--ad", "nan"], "--ad"),
        (["--filename_list", "list.txt", "--csv", "list.txt", "--snapshot", "x"], "overwrite"),
        (["--snapshot", "hopelessnet-resnet18"], "convert.py --weight hopelessnet-resnet18`"),
        (["--batch_size", "0", "--snapshot", "x"], "batch_size"),
    ],
)
def test_bad_input_is_one_sentence(workplace, arguments, word):
    assert_refused(run("test.py", *arguments, folder=workplace), word)


def test_convert_overwrites_and_ignores_nothing(shared, workplace):
    converted = "weights/squeezenet_1_1.safetensors"
    again = run("convert.py", "--weight", converted, folder=workplace)
    assert_refused(again, "would overwrite")
    published = shared / "weights" / "squeezenet_1_1.pkl"
    group = ("--weight", published, "--norm", "group", "--output", "g.safetensors")
    assert_refused(run("convert.py", *group, folder=workplace), "is for ImageNet backbones")


def test_convert_refuses_in_one_sentence(tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"junk")
    assert_refused(run("convert.py", "--weight", "x.pkl", folder=tmp_path), "x.pkl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pkl"]


def test_the_console_command_knows_all_doors():
    done = installed("--help")
    assert done.returncode == 0, done.stderr
    for command in ("train", "test", "predict", "convert", "export"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", [*COMMANDS, "tokens"])
def test_help_shows_no_default_where_there_is_none(command, capsys):
    with pytest.raises(SystemExit):
        main(command, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert not re.search(
        r"default: (None|False|\[\])|\(default[^()]*(\([^()]*\))?\) \(default", shown
    )


def test_a_list_is_refused_for_a_folder_that_is_missing_by_the_options_own_name(tmp_path):
    done = run("create_filename_list.py", "--root_dir", "nodir", folder=tmp_path)
    assert_refused(done, "nodir: no such folder; check --root_dir")
