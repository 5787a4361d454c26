"""`train.py` as people type it, the published command lines included."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_headpose import places
from mlx_headpose.cli import datasets, main
from mlx_headpose.cli.options import make_config
from mlx_headpose.cli.train import (
    closing_sentence,
    command_to_go_on,
    parse,
    training_options,
    with_config_file,
    workdir_path,
)
from mlx_headpose.cli.train_options import make_parser
from mlx_headpose.cli.train_start import (
    _as_asked,
    _sized,
    chosen_dataset,
    make_model,
    open_sets,
    rate_warning,
)
from mlx_headpose.methods import config_from_dict
from mlx_headpose.methods.hopenet.network import Config
from mlx_headpose.readers.safetensors_file import read_config
from mlx_headpose.training.checkpoint import Progress, Workdir
from mlx_headpose.weights import from_pretrained, save_pretrained, save_tensors


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write into the folder they are started in."""
    monkeypatch.chdir(tmp_path)


def command(line: str) -> None:
    """Run a command as a user types it."""
    words = shlex.split(line)
    main(words[0].removesuffix(".py"), words[1:])


def refused(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a command exits."""
    with pytest.raises(SystemExit) as stop:
        command(line)
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


PUBLISHED = {
    "--dataset 300W_LP --data_dir datasets/300W_LP --filename_list datasets/300wlp_files.txt "
    "--num_epochs 25 --batch_size 32 --input_size 224 --output_string resnet50 --lr 0.00001": {
        "dataset": "300W_LP",
        "data_dir": "datasets/300W_LP",
        "filename_list": "datasets/300wlp_files.txt",
        "num_epochs": 25,
        "batch_size": 32,
        "input_size": 224,
        "output_string": "resnet50",
        "lr": 1e-5,
    },
    "--dataset Pose_300W_LP --num_epoch 5 --target_size 128 --gpu 0 --alpha 2 --arch ResNet18": {
        "dataset": "300W_LP",
        "num_epochs": 5,
        "input_size": 128,
        "model_alpha": 2.0,
        "model_arch": "ResNet18",
    },
    "--augment 0.3 --flip 1 --val_dataset AFLW2000 --val_data_dir datasets/AFLW2000 "
    "--val_filename_list datasets/aflw2000_list.txt --arch Squeezenet_1_0": {
        "augment": 0.3,
        "flip": True,
        "val_dataset": "AFLW2000",
        "val_data_dir": "datasets/AFLW2000",
        "val_filename_list": "datasets/aflw2000_list.txt",
    },
    "--flip 0 --weights backbone.safetensors --transfer 1": {
        "flip": False,
        "snapshot": "backbone.safetensors",
        "transfer": 1,
    },
}


@pytest.mark.parametrize("line", PUBLISHED)
def test_published_command_lines_mean_what_they_say(line: str) -> None:
    args, state = parse("train.py", line.split())
    assert state is None
    assert {name: getattr(args, name) for name in PUBLISHED[line]} == PUBLISHED[line]


def test_help_groups_by_subject_and_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command("train.py --help")
    assert stop.value.code == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for subject in ("data:", "augmentation:", "network (hopenet):", "where to start:"):
        assert subject in text
    assert "learning rate (default: 1e-05 from pretrained weights, 0.001 from random ones)" in text
    assert "backbone: resnet18," in text
    assert "--num_epoch " not in text  # an alias
    assert "None)" not in text


def test_the_dataset_is_300w_lp_where_it_is() -> None:
    args = make_parser("train.py", "hopenet").parse_args([])
    assert chosen_dataset(args) == "synthetic"
    Path("datasets/300W_LP").mkdir(parents=True)
    assert chosen_dataset(args) == "300W_LP"


@pytest.fixture
def few_validation_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate on 12 synthetic heads instead of 1000."""
    whole = datasets.open_dataset

    def small(*arguments: Any, train: bool, **options: Any) -> Any:
        return whole(*arguments, train=train, **({} if train else {"samples": 12}) | options)

    monkeypatch.setattr(datasets, "open_dataset", small)


@pytest.mark.usefixtures("few_validation_heads")
def test_without_a_dataset_it_trains_on_synthetic_heads_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command("train.py --input_size 64 --samples 16 --num_epochs 1 --batch_size 8")
    output = capsys.readouterr().out
    assert "Trains on built-in synthetic heads, because datasets/300W_LP is not there" in output
    assert "16 training and 12 validation samples" in output
    assert "epoch 1/1" in output
    # A network that learns in minutes, unless options say otherwise.
    quick = ", ".join(f"{name} {value}" for name, value in Config.quick.items())
    assert quick
    assert quick in output.replace("norm batch, ", "")
    best = Path("workdirs_hopenet_synthetic_64/best.safetensors")
    # Tested by the margins that it saw, not by HopeNet's threefold ones.
    assert read_config(best)["preprocessing"]["crop"]["box"] == "landmarks"
    assert "python test.py --dataset synthetic --snapshot workdirs_hopenet" in output


@pytest.fixture
def faces(shared: Path) -> str:
    """Options that train on three real faces and validate on four."""
    data = shared / "data"
    names = (data / "AFLW2000" / "aflw2000_list.txt").read_text().split()[:4]
    Path("val.txt").write_text("\n".join(names))
    return (
        f"--dataset 300W_LP --data_dir {data / '300W_LP'} --filename_list "
        f"{data / '300W_LP' / '300wlp_list.txt'} --val_dataset AFLW2000 --val_data_dir "
        f"{data / 'AFLW2000'} --val_filename_list val.txt --arch squeezenet1_1 --input_size 64"
    )


def test_real_faces_from_start_to_test(faces: str, capsys: pytest.CaptureFixture[str]) -> None:
    command(f"train.py {faces} --num_epochs 1 --output_string run")
    output = capsys.readouterr().out
    assert "3 training and 4 validation samples, 1 epochs" in output
    closing = output.strip().splitlines()[-1]
    best, tested = closing.split("Test it: python ")
    mae = re.search(r"Best: epoch 1, validation MAE ([\d.]+)°", best)
    assert mae is not None
    command(tested)
    assert f"MAE {mae[1]}" in capsys.readouterr().out

    sentence = refused(f"train.py {faces} --num_epochs 2 --output_string run", capsys)
    assert "add --resume" in sentence
    # The options of the training that goes on need not be given again.
    command("train.py --output_string run --resume --num_epochs 2")
    output = capsys.readouterr().out
    assert "Goes on after epoch 1, step 0" in output
    assert "epoch 2/2" in output
    assert "epoch 1/2" not in output
    command(
        f"train.py {faces} --transfer 0 --snapshot workdirs_run --num_epochs 3 --output_string run"
    )
    assert "epoch 3/3" in capsys.readouterr().out
    command("train.py --transfer 0 --snapshot workdirs_run --num_epochs 4 --output_string next")
    output = capsys.readouterr().out
    assert "epoch 4/4" in output
    assert "Best: epoch 4" in output
    assert Path("workdirs_next/best.safetensors").is_file()
    # A script that always passes --resume goes on with the same training the first time.
    line = "train.py --resume --transfer 0 --snapshot workdirs_run --output_string script"
    command(f"{line} --num_epochs 4")
    output = capsys.readouterr().out
    assert "nothing to resume yet; goes on from workdirs_run/last.safetensors" in output
    assert "epoch 4/4" in output
    assert "epoch 3/4" not in output
    command(f"{line} --num_epochs 5")
    assert "Goes on after epoch 4, step 0 (workdirs_script" in capsys.readouterr().out
    again = f"train.py {faces} --transfer 0 --snapshot workdirs_run --output_string next"
    assert "workdirs_next: holds a training already" in refused(again, capsys)
    assert sorted(p.name for p in Path("workdirs_run/snapshots").iterdir()) == [
        f"{epoch}.safetensors" for epoch in (1, 2, 3)
    ]


def test_what_a_set_leaves_out_is_said(shared: Path) -> None:
    folder = shared / "data" / "AFLW2000"
    args, _ = parse("train.py", ["--dataset", "AFLW2000", "--data_dir", str(folder)])
    said: list[str] = []
    open_sets(args, make_config(args, "hopenet"), Path("run"), said.append)
    assert "Trains on AFLW2000: 1969 of 2000 images; 31 have an angle outside ±99°." in said


def test_held_out_samples_can_be_tested(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shared / "data" / "AFLW2000"
    names = (data / "aflw2000_list.txt").read_text().split()[:24]
    Path("all.txt").write_text("\n".join(names))
    Path("few.txt").write_text("\n".join(names[20:]))
    line = (
        f"train.py --dataset AFLW2000 --data_dir {data} --filename_list all.txt --num_epochs 1 "
        "--batch_size 8 --arch squeezenet1_1 --input_size 64"
    )
    command(f"{line} --output_string held")
    output = capsys.readouterr().out
    assert "23 training and 1 validation samples" in output
    best, tested = output.strip().splitlines()[-1].split("Test it: python ")
    command(tested)
    assert re.search(r"MAE ([\d.]+)°", best)[1] in capsys.readouterr().out
    command(f"{line} --val_filename_list few.txt --output_string listed")
    assert "24 training and 4 validation samples" in capsys.readouterr().out


def test_what_goes_on_keeps_its_network_and_takes_new_options(
    faces: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command(f"train.py {faces} --num_epochs 1 --output_string run")
    again = "train.py --resume --output_string run --num_epochs 2"
    assert "is a training of hopenet" in refused(f"{again} --model whenet", capsys)
    assert "leave --snapshot out" in refused(f"{again} --snapshot x.safetensors", capsys)
    assert "does not fit" in refused(f"{again} --arch resnet18", capsys)
    assert "unrecognized arguments: --nose" in refused(f"{again} --nose", capsys)
    done = f"train.py {faces} --num_epochs 1 --transfer 0 --snapshot workdirs_run"
    assert "has 1 epochs" in refused(f"{done} --output_string next", capsys)
    assert not Path("workdirs_next").exists()
    command(f"{again} --alpha 5 --input_size 96")
    stored = read_config(Path("workdirs_run/last.safetensors"))["model"]
    assert (stored["alpha"], stored["preprocessing"]["size"]) == (5.0, 96)
    command(f"train.py {faces} --num_epochs 1 --snapshot workdirs_run/last.safetensors")


def test_untrusted_states_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    progress = {"epoch": 1, "step": 0, "best_epoch": 1, "best_mae": 2.0, "sums": {}}
    state = {"model_type": "training_state", "model": {}, "progress": progress}
    for run in ({}, {"arguments": [1]}, {"arguments": {"model": ["hopenet"]}}):
        save_tensors("workdirs_x/last.safetensors", {"x": mx.zeros(1)}, {**state, "run": run})
        assert "train.py did not write it" in refused("train.py --resume --output_string x", capsys)
    error = refused("train.py --snapshot workdirs_x/last.safetensors", capsys)
    assert "workdirs_x/last.safetensors: " in error


def test_transfer_takes_the_weights_alone(faces: str) -> None:
    command(f"train.py {faces} --num_epochs 1 --output_string run")
    line = f"{faces} --snapshot workdirs_run --transfer 1 --output_string next"
    args, state = parse("train.py", line.split())
    assert state is None
    model, pretrained = make_model(args, state)
    assert pretrained
    before = dict(tree_flatten(from_pretrained("workdirs_run/best.safetensors").parameters()))
    for name, value in tree_flatten(model.parameters()):
        assert mx.array_equal(value, before[name])
    # Pretrained weights learn slower.
    assert training_options(args, model.config, True).lr == Config.recipe.lr
    assert training_options(args, model.config, False).lr == Config.recipe.lr_scratch


def test_a_published_line_finds_its_weights_or_says_what_is_missing() -> None:
    line = "--dataset 300W_LP --arch squeezenet1_1 --input_size 64 --lr 0.00001"
    args, state = parse("train.py", shlex.split(line))
    model, pretrained = make_model(args, state)
    assert not pretrained
    options = training_options(args, model.config, pretrained)
    warning = rate_warning(model.config, options.lr)
    assert warning is not None
    assert "python convert.py --weight imagenet-squeezenet1_1" in warning
    assert "--lr 0.001" in warning
    assert rate_warning(model.config, 1e-3) is None
    path = Path("weights/imagenet-squeezenet1_1.safetensors")
    backbone = {"model_type": "backbone", "arch": "squeezenet1_1", "norm": "batch"}
    save_tensors(path, dict(tree_flatten(model.backbone.parameters())), backbone)
    found, pretrained = make_model(*parse("train.py", shlex.split(line)))
    assert pretrained
    for name, value in tree_flatten(model.backbone.parameters()):
        assert mx.array_equal(value, dict(tree_flatten(found.backbone.parameters()))[name])
    # Rendered heads are learned from random weights, as their figures say.
    rendered = "--dataset synthetic --arch squeezenet1_1 --input_size 64"
    assert not make_model(*parse("train.py", shlex.split(rendered)))[1]


def test_a_converted_backbone_is_a_start() -> None:
    args = make_parser("train.py", "hopenet").parse_args(["--arch", "squeezenet1_1"])
    args.dataset = "300W_LP"
    model, _ = make_model(args, None)
    tensors = {k: v + 1 for k, v in tree_flatten(model.backbone.parameters())}
    config = {"model_type": "backbone", "arch": "squeezenet1_1", "norm": "batch"}
    save_tensors("backbone.safetensors", tensors, config)
    args = make_parser("train.py", "hopenet").parse_args(["--snapshot", "backbone.safetensors"])
    args.dataset = "300W_LP"
    filled, pretrained = make_model(args, None)
    assert pretrained
    assert filled.config.arch == "squeezenet1_1"
    for name, value in tree_flatten(filled.backbone.parameters()):
        assert np.array_equal(np.array(value), np.array(tensors[name]))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--lr -1", "--lr -1.0: give a positive number"),
        ("--augment 2", "--augment 2.0: give a probability"),
        ("--dataset nowhere", "unknown dataset 'nowhere'"),
        ("--snapshot missing.safetensors", "missing.safetensors: no such checkpoint"),
        ("--resume --transfer 0", "--transfer 0 goes on with a training; say which"),
        ("--transfer 0", "--transfer 0 goes on with a training; say which"),
        ("--transfer 0 --snapshot .", "no training to go on with"),
        ("--freeze backbone.nose", "--freeze backbone.nose: the network has no such module"),
        ("--num_epochs 0", "not a whole number of at least 1"),
        ("--dataset 300W_LP --data_dir nowhere", "nowhere"),
        (
            "--dataset AFLW2000 --samples 9",
            "--samples is for synthetic, rendered, scenes, not for AFLW",
        ),
        ("--dataset rendered --mesh m.npz", "--mesh is for synthetic, not for rendered"),
        ("--seed -1", "--seed: '-1' is not a whole number of at least 0"),
        ("--workers -1", "not a whole number of at least 0"),
        ("--clip_norm -1", "--clip_norm -1.0: give a number of 0 or more"),
        ("--yaw 500", "'500' is not an angle above 0 and up to 180"),
        ("--freeze backbone head", "leaves nothing to train"),
        ("--head_parameters heed. --head_lr_scale 2", "heed.: no parameter that trains"),
        ("--head_parameters head.", "no use while --head_lr_scale is 1; leave it out"),
        ("--turn 100", "--turn 100: hopenet can answer no roll beyond 99 degrees; give a smaller"),
        ("--model whenet --turn 100", "whenet can answer no roll beyond 99 degrees"),
        ("--model pyramid --turn 101", "pyramid can answer no roll beyond 100 degrees"),
        ("--crop_size 48", "--crop_size: is for --crop 1; leave it out"),
        ("--crop_margin 0.3 0.1", "--crop_margin 0.3 0.1: the first is the smaller one"),
        ("--crop 0 --crop_size 48", "--crop_size: is for --crop 1; leave it out"),
        ("--snapshot", "--snapshot/--weights: expected one argument; see `train.py --help`"),
        ("--config", "--config: expected one argument; see `train.py --help`"),
        ("--model foo", "unknown method 'foo'; choose one of: hopenet, "),
        ("--model foo", ", headdetector"),
        ("--optimizer adam --weight_decay 1", "--weight_decay is not for --optimizer adam"),
        ("--momentum 0.5", "--momentum is not for --optimizer adam"),
        ("--alpha nan", "'nan' is not a number"),
        ("--identities 5", "give its file as --mesh"),
        ("--dataset synthetic --data_dir x", "leave --data_dir and --filename_list out"),
        ("--split sequence", "--split is for BIWI, not for synthetic"),
        ("--val_dataset AFLW2000 --boxes a.csv", "not for synthetic and AFLW2000; leave it out"),
    ],
)
def test_mistakes_are_one_sentence(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "" if line.startswith(("--model whenet", "--model pyramid")) else "--arch squeezenet1_1"
    given = f"train.py {own} --input_size 64 {line}"
    assert sentence in refused(given, capsys)


def test_a_batch_norm_of_single_values_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = "train.py --model pyramid --input_size 64 --batch_size 1 --samples 4"
    assert "give a larger --batch_size" in refused(line, capsys)


def test_the_command_that_goes_on_finds_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("run", "runs/a", "my runs/it's one"):
        args = make_parser("train.py", "hopenet").parse_args(["--output_string", given])
        args.dataset = "synthetic"
        shown = command_to_go_on(Workdir(workdir_path(args)))
        words = shlex.split(shown.removeprefix("python train.py "))
        assert words == ["--output_string", given, "--resume"]
    monkeypatch.setattr(places, "_ENTRY_SCRIPTS", Path("in a wheel"))
    assert command_to_go_on(Workdir(Path("workdirs_a"))) == (
        "mlx-headpose train --output_string a --resume"
    )
    done = Progress(epoch=2, best_epoch=1, best_mae=4.0)
    closing = closing_sentence(done, Workdir(Path("workdirs_a")), "--dataset synthetic")
    assert "Test it: mlx-headpose test --dataset synthetic --snapshot workdirs_a/best" in closing


def test_a_finished_training_with_another_validation_set_has_no_best_epoch(
    faces: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command(f"train.py {faces} --num_epochs 1 --output_string run")
    Path("other.txt").write_text("\n".join(Path("val.txt").read_text().split()[:3]))
    capsys.readouterr()
    command("train.py --output_string run --resume --val_filename_list other.txt")
    output = capsys.readouterr().out
    assert "No epoch has an error on this validation set: 1 were done before" in output
    assert "Best: " not in output
    assert "inf" not in output


def test_the_suggested_test_skips_what_the_training_skipped(shared: Path) -> None:
    folder = shared / "data" / "AFLW2000"
    for more in ([], ["--skip_bad"]):
        args, _ = parse("train.py", ["--dataset", "AFLW2000", "--data_dir", str(folder), *more])
        sets = open_sets(args, make_config(args, "hopenet"), Path("run"), lambda line: None)
        assert sets.test is not None
        assert ("--skip_bad" in sets.test) == bool(more)


def test_outputs_have_names_of_their_own() -> None:
    args = make_parser("train.py", "hopenet").parse_args(["--input_size", "96"])
    args.dataset = chosen_dataset(args)
    assert workdir_path(args) == Path("workdirs_hopenet_synthetic_96")


def test_a_file_of_options_comes_first(tmp_path, capsys):
    (tmp_path / "recipe.txt").write_text(
        "--model rotation9d  # the small one\n--lr 0.5 --flip no\n"
    )
    args, _ = parse("train.py", ["--lr", "0.25", "--config", "recipe.txt", "--seed", "3"])
    assert (args.model, args.lr, args.flip, args.seed) == ("rotation9d", 0.25, False, 3)
    (tmp_path / "words.txt").write_text(
        "\ufeff--output_string set#1 # don't\n#--lr 2\n--data_dir 'a #b'\\ c \"# '\"\n"
    )
    words = ["--output_string", "set#1", "--data_dir", "a #b c", "# '"]
    assert with_config_file("train.py", ["--config", "words.txt"]) == [
        *words,
        "--config",
        "words.txt",
    ]
    (tmp_path / "nested.txt").write_text("--config recipe.txt")
    assert "nested.txt: names another" in refused("train.py --config nested.txt", capsys)
    (tmp_path / "broken.txt").write_text("--output_string 'open")
    for name, reason in [("none.txt", "No such file or directory"), ("broken.txt", "quotation")]:
        error = refused(f"train.py --config {name}", capsys)
        assert name in error
        assert reason in error


@pytest.mark.parametrize(
    ("method", "given", "sizes"),
    [
        ("hopenet", {"input_size": 240}, (224, 240)),
        ("pyramid", {"input_size": 256}, (224, 256)),
        ("pyramid", {"input_size": 240, "crop_size": 192}, (192, 240)),
        ("tokenhpe", {"input_size": 240}, (224, 240)),
        ("tokenhpe", {}, (224, 250)),
        ("hopenet", {"crop_size": 192}, (192, 224)),
    ],
)
def test_the_middle_of_a_scaled_crop_is_the_same_when_a_training_goes_on(method, given, sizes):
    args = argparse.Namespace(model=method, dataset="AFLW2000", crop=True, **given)
    fresh = _sized(args, make_config(args, method))
    resumed = _as_asked(args, config_from_dict(fresh.to_dict()))
    for config in (fresh, resumed):
        assert (config.preprocessing.size, config.preprocessing.resize_to) == sizes


@pytest.mark.parametrize("begins_with_a_file", [False, True])
def test_margins_in_training_are_the_methods_the_files_or_those_given(begins_with_a_file, tmp_path):
    line, own = ["--dataset", "rendered", "--model", "rotation9d"], (0.1, 0.3)
    if begins_with_a_file:
        given, own = parse("train.py", [*line, "--crop_margin", "0.2", "0.4"])[0], (0.2, 0.4)
        save_pretrained(make_model(given, None)[0], tmp_path / "earlier.safetensors")
        line += ["--snapshot", str(tmp_path / "earlier.safetensors")]
    for words, k in [([], own), (["--crop_margin", "0.05", "0.25"], (0.05, 0.25))]:
        args, _ = parse("train.py", [*line, *words])
        model, _ = make_model(args, None)
        crop = model.config.preprocessing.crop
        assert crop.around("rendered", ["landmarks"], train=True).margins.k == k
        assert crop.test.k != k
