"""The pyramid network's commands: its publication's word for word, and its files to and fro."""

from __future__ import annotations

import shutil

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.converted import converted_network

from mlx_headpose.cli import main
from mlx_headpose.convert import convert_file
from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.methods import build, config_class
from mlx_headpose.methods.pyramid.network import Config
from mlx_headpose.readers.safetensors_file import load_tensors
from mlx_headpose.readers.torch_writer import write_torch_file
from mlx_headpose.weights import from_pretrained, load_strictly, save_pretrained


def test_convert_reads_a_trained_pickle_and_the_network_predicts(seeded, tmp_path, capsys):
    state = seeded.seeded_state_dict("pyramid_pfas_efficientnet_v2_s")
    content = {"epoch": 3, "model": state, "optimizer": {"state": {}}}
    write_torch_file(tmp_path / "3.pkl", content)
    main("convert", ["--weight", f"{tmp_path}/3.pkl", "--output", f"{tmp_path}/3.safetensors"])
    assert "PFAS form" in capsys.readouterr().out
    model = from_pretrained(tmp_path / "3.safetensors")
    image = mx.array(seeded.seeded_image(64))
    expected = converted_network(state)(image)
    np.testing.assert_array_equal(np.array(model(image)[0]), np.array(expected[0]))


@pytest.mark.parametrize("form", ["pyramid", "pyramid_pfas"])
def test_export_writes_what_the_published_code_loads(torch_pyramid, form, tmp_path, capsys):
    import torch

    mx.random.seed(1)
    model = build(
        Config(form=form, preprocessing=Preprocessing(64, "squash", crop=AROUND_LANDMARKS))
    )
    model.eval()
    save_pretrained(model, tmp_path / "best.safetensors")
    arguments = ["--snapshot", f"{tmp_path}/best.safetensors", "--format", "torch"]
    main("export", [*arguments, "--output", f"{tmp_path}/best.pkl"])
    assert "wrote" in capsys.readouterr().out
    saved = torch.load(tmp_path / "best.pkl", weights_only=True)
    theirs = torch_pyramid.TorchPyramid(form=form)
    theirs.load_state_dict(saved["model"])  # strictly: every name, every shape
    theirs.eval()
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    for ours, output in zip(model(mx.array(images)), expected, strict=True):
        largest = output.abs().max().item()
        np.testing.assert_allclose(np.array(ours), output.numpy(), rtol=0, atol=1e-4 * largest)
    main("convert", ["--weight", f"{tmp_path}/best.pkl", "--output", f"{tmp_path}/2.safetensors"])
    again = from_pretrained(tmp_path / "2.safetensors")
    for (name, a), (_, b) in zip(
        tree_flatten(model.parameters()), tree_flatten(again.parameters()), strict=True
    ):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=name)


def test_methods_without_a_pytorch_form_say_so(tmp_path, capsys):
    save_pretrained(build(config_class("whenet")()), tmp_path / "w.safetensors")
    with pytest.raises(SystemExit):
        main("export", ["--snapshot", f"{tmp_path}/w.safetensors", "--format", "torch"])
    assert "whenet cannot be written for PyTorch" in capsys.readouterr().err


def test_tensorflow_file_becomes_a_backbone_to_train_from(seeded, tmp_path):
    path = tmp_path / "efficientnetv2-s-21k.npy"
    seeded.write_tf_npy("imagenet21k_efficientnetv2_s_npy", path)
    conversion = convert_file(path, tmp_path / "s.safetensors")
    assert conversion.config == {"model_type": "backbone", "arch": "efficientnetv2_s"}
    backbone = build(Config()).backbone
    load_strictly(backbone, load_tensors(tmp_path / "s.safetensors"), path)


def test_the_published_training_command_word_for_word(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    datasets = tmp_path / "datasets"
    shutil.copytree(shared / "data/300W_LP", datasets / "300W_LP")
    (datasets / "AFLW2000").mkdir()
    for name in ("image00002.jpg", "image00002.mat", "image00004.jpg", "image00004.mat"):
        shutil.copy(shared / "data/AFLW2000" / name, datasets / "AFLW2000")
    (datasets / "AFLW2000/aflw2000_list.txt").write_text("image00002\nimage00004\n")
    config = Config(preprocessing=Preprocessing(32, "squash", crop=AROUND_LANDMARKS))
    save_pretrained(build(config), tmp_path / "X.safetensors")
    command = (
        "--dataset 300W_LP --data_dir datasets/300W_LP/ --filename_list "
        "datasets/300W_LP/300wlp_list.txt --num_epoch 2 --batch_size 32 --lr 0.00001 --augment 0.5 "
        "--flip 0 --output_string 300W_LP --val_dataset AFLW2000 --val_data_dir datasets/AFLW2000 "
        "--val_filename_list datasets/AFLW2000/aflw2000_list.txt --transfer 1 --snapshot "
        "X.safetensors --target_size 64 --crop_size 32 --crop 1"
    )
    main("train", command.split())
    shown = capsys.readouterr().out
    assert "3 training and 2 validation samples, 2 epochs" in shown
    assert "lr 1e-05" in shown
    snapshots = sorted(path.name for path in (tmp_path / "workdirs_300W_LP/snapshots").iterdir())
    assert snapshots == ["1.safetensors", "2.safetensors"]
    trained = from_pretrained(tmp_path / "workdirs_300W_LP/best.safetensors").config.preprocessing
    assert (trained.size, trained.resize_to) == (32, 64)
    command = (
        "--dataset AFLW2000 --val_data_dir datasets/AFLW2000 --ad 0.3 --val_filename_list "
        "datasets/AFLW2000/aflw2000_list.txt --snapshot workdirs_300W_LP --start 2 --num_epoch 2"
    )
    main("test", command.split())
    assert "k = 0.3" in capsys.readouterr().out
