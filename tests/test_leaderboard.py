"""The table of all networks: figures, resuming, files."""

from __future__ import annotations

import argparse
import csv
import json
import shutil

import numpy as np
import pytest
from support.commands import assert_refused, installed
from test_detector import head_model

from mlx_headpose import places, weights
from mlx_headpose.cli import leaderboard
from mlx_headpose.convert import convert_file
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.evaluate import Evaluation
from mlx_headpose.evaluation.leaderboard import (
    Network,
    as_csv,
    as_markdown,
    make_row,
    split_licence,
)
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.pose import matrix_to_pose, pose_to_matrix
from mlx_headpose.weights import save_pretrained


def evaluation(predicted, true):
    ids = [str(i) for i in range(len(true))]
    return Evaluation("AFLW2000", "", ids, list(range(len(ids))), true, predicted, {}, 1.0)


def test_a_constant_rotation_is_removed_and_nothing_else():
    rng = np.random.default_rng(0)
    true = rng.uniform(-60, 60, (50, 3))
    turn = pose_to_matrix(np.array([10.0, -5.0, 3.0]))
    predicted = matrix_to_pose(turn @ pose_to_matrix(true))
    row = make_row("net", "AFLW2000", "6drepnet", evaluation(predicted, true))
    assert row.geodesic > 9
    assert row.aligned_geodesic < 1e-6
    assert row.aligned_mae < 1e-6
    # No angle is wrong by more than 90°, so that the shifts change nothing.
    assert row.legacy == pytest.approx(row.mae)
    assert row.published == pytest.approx(row.mae)


def test_the_legacy_count_hides_an_error_of_180():
    true = np.zeros((2, 3))
    predicted = np.array([[0.0, 0.0, 180.0], [0.0, 0.0, 0.0]])
    row = make_row("net", "AFLW2000", "the network's own", evaluation(predicted, true))
    assert (row.mae, row.legacy) == (pytest.approx(30.0), pytest.approx(0.0))
    assert row.published is None
    turned = np.array([[0.0, 0.0, 0.0], [170.0, 0.0, 0.0]])
    assert make_row("net", "rendered", "x", evaluation(predicted, turned)).legacy is None


def test_tables_hold_every_row():
    rng = np.random.default_rng(1)
    true = rng.uniform(-60, 60, (20, 3))
    rows = [
        make_row("a", "AFLW2000", crop, evaluation(true + error, true))
        for crop, error in (("opal", 9.0), ("the network's own", 2.0))
    ]
    networks = [Network("a", "hopenet resnet18", 11_000_000, 45.0, 100.0, "MIT", "300W-LP")]
    text = as_markdown(networks, rows)
    best, worst = (text.index(f"| a | {row.crop} ") for row in reversed(rows))
    assert best < worst
    lines = list(csv.DictReader(as_csv(networks, rows).splitlines()))
    assert [line["crop"] for line in lines] == [row.crop for row in rows]
    assert float(lines[0]["mae"]) == pytest.approx(9.0)
    assert lines[0]["licence"] == "MIT"


def test_a_network_that_predicts_nan_comes_last():
    true = np.zeros((2, 3))
    rows = [
        make_row(name, "AFLW2000", "opal", evaluation(true + error, true))
        for name, error in (("a", 9.0), ("b", np.nan), ("c", 2.0))
    ]
    networks = [Network(n, "hopenet", 1, 1.0, 1.0, "MIT", "300W-LP") for n in "abc"]
    found = [line[2] for line in as_markdown(networks, rows).splitlines() if "| opal |" in line]
    assert found == ["c", "a", "b"]


def test_licences_say_what_the_weights_were_trained_on():
    assert split_licence("MIT (trained on BIWI: research use)") == ("MIT", "BIWI: research use")
    assert split_licence("MIT") == ("MIT", "not stated")


@pytest.fixture
def folder(shared, tmp_path):
    (tmp_path / "nets").mkdir()
    convert_file(
        shared / "weights" / "squeezenet_1_1.pkl",
        tmp_path / "nets" / "hopelessnet-squeezenet1_1.safetensors",
    )
    names = (shared / "data" / "AFLW2000" / "aflw2000_list.txt").read_text().split()[:6]
    (tmp_path / "list.txt").write_text("\n".join(names))
    return tmp_path


def test_a_folder_without_networks_names_the_command_of_this_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "none")
    monkeypatch.setattr(places, "_ENTRY_SCRIPTS", tmp_path)
    with pytest.raises(InputError, match="see `mlx-headpose convert --list`"):
        leaderboard.find_networks(tmp_path)


@pytest.mark.parametrize("option", ["--detector", "--filename_list"])
def test_options_of_aflw2000_are_refused_without_it(tmp_path, option):
    with pytest.raises(InputError, match=f"{option}: is for AFLW2000, which needs --data_dir"):
        leaderboard.run("leaderboard", ["--rendered", "1", option, "x"])


def test_a_file_named_bundled_is_another_network(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "package" / "headpose.safetensors")
    monkeypatch.setattr(leaderboard, "measure", lambda *_: dict.fromkeys(leaderboard.MEASURED, 0))
    options, state = argparse.Namespace(batch_size=1), {"networks": {}}
    names = [
        leaderboard.known_network(path, str(path), state, options).name
        for path in (weights.BUNDLED, tmp_path / "bundled.safetensors", tmp_path / "a.safetensors")
    ]
    assert names == ["bundled", "bundled.safetensors", "a"]


def test_the_command_goes_on_where_it_stopped(shared, folder):
    arguments = [
        *("leaderboard", "--data_dir", shared / "data" / "AFLW2000"),
        *("--filename_list", "list.txt", "--snapshots", "nets", "--rendered", "4"),
        *("--detector", shared / "weights" / "face_detection_yunet_2023mar.onnx"),
    ]
    done = installed(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    output = folder / "leaderboard"
    text = (output / "leaderboard.md").read_text()
    count = 2 if weights.BUNDLED.is_file() else 1
    assert text.count("| detected faces |") == count
    assert "| Apache-2.0 | 300W-LP: research use |" in text
    assert "## synthetic" in text
    state = json.loads((output / "leaderboard.json").read_text())
    key = next(iter(state["rows"]))
    del state["rows"][key]
    (output / "leaderboard.json").write_text(json.dumps(state))
    (output / "leaderboard.md").unlink()
    again = installed(*arguments, folder=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("] ") == 1  # only what is missing is evaluated
    assert (output / "leaderboard.md").read_text() == text
    (output / "leaderboard.json").write_text("[]")
    assert_refused(installed(*arguments, folder=folder), "leaderboard.json", "--output")


def test_rows_are_evaluated_anew_where_the_files_changed(folder):
    options = argparse.Namespace(data_dir=str(folder), filename_list=None, biwi=None)
    (folder / "a.jpg").write_bytes(b"1")
    before = leaderboard.place("AFLW2000", options)
    (folder / ".mlx_headpose").mkdir()
    (folder / ".mlx_headpose" / "cache.npz").touch()
    leaderboard.files_digest.cache_clear()  # as in another run
    assert leaderboard.place("AFLW2000", options) == before
    (folder / "a.jpg").write_bytes(b"22")
    leaderboard.files_digest.cache_clear()
    assert leaderboard.place("AFLW2000", options) != before


def test_names_are_those_of_now_and_copies_are_left_out(folder, capsys):
    nets = folder / "nets"
    published = nets / "hopelessnet-squeezenet1_1.safetensors"
    copy = nets / "a.safetensors"
    shutil.copyfile(published, copy)
    shutil.copyfile(published, nets / ".mlx-headpose-x.part.safetensors")
    (nets / "._a.safetensors").write_bytes(b"of a Mac")
    assert leaderboard.find_networks(nets)[-1] == published
    assert f"{copy}: left out, for {published}" in capsys.readouterr().out
    options, state = argparse.Namespace(batch_size=1), {"networks": {}}
    first, again = (leaderboard.known_network(p, "x", state, options) for p in (copy, published))
    assert (first.name, first.licence) == ("a", "not stated")
    assert (again.name, again.licence) == (published.stem, "Apache-2.0")
    assert again.speed == first.speed  # measured once


def test_a_network_that_cannot_read_a_set_is_left_out(folder):
    model = build(config_from_dict({"model_type": "nlml", "landmarks": 68}))
    save_pretrained(model, folder / "nets" / "nlml.safetensors")
    done = installed("leaderboard", "--rendered", "2", "--snapshots", "nets", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "left out: synthetic has 468 landmarks and the network reads 68" in done.stdout
    assert "| hopelessnet-squeezenet1_1 |" in (folder / "leaderboard/leaderboard.md").read_text()


def test_nothing_to_evaluate_is_one_sentence(folder):
    shutil.rmtree(folder / "nets")
    done = installed("leaderboard", "--rendered", "0", "--snapshots", "nets", folder=folder)
    assert_refused(done, "--data_dir")


def test_the_bundled_detector_gives_boxes_of_its_own(shared, folder):
    arguments = [
        *("leaderboard", "--data_dir", shared / "data" / "AFLW2000"),
        *("--filename_list", "list.txt", "--rendered", "0", "--snapshots", "none"),
    ]
    yunet = shared / "weights" / "face_detection_yunet_2023mar.onnx"
    for detector in ("bundled", yunet):  # rows of one are not taken for the other's
        done = installed(*arguments, "--detector", detector, folder=folder)
        assert done.returncode == 0, done.stderr
        assert "bundled: AFLW2000, detected faces" in done.stdout
    assert len(list((folder / "leaderboard").glob("faces-*.npy"))) == 2
    names = (folder / "list.txt").read_text().split()
    (folder / "list.txt").write_text("\n".join(names[1:]))  # other samples under the same name
    done = installed(*arguments, "--detector", "bundled", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "bundled: AFLW2000, detected faces" in done.stdout


def test_a_detector_of_whole_heads_is_refused(tmp_path):
    head_model(tmp_path / "heads.onnx", np.zeros((1, 5, 8)))
    done = installed(
        *("leaderboard", "--data_dir", tmp_path, "--detector", "heads.onnx"), folder=tmp_path
    )
    assert done.returncode == 2
    assert "heads.onnx: finds whole heads" in done.stderr
