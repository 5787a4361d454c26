"""NLML-HPE's published files through the converter."""

from __future__ import annotations

import shutil

import mlx.core as mx
import numpy as np
import pytest
from test_nlml import read_npz

from bench.speed import nlml as bench
from mlx_headpose.convert import convert_file, convert_tensors
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.nlml.network import Config
from mlx_headpose.methods.nlml_manifold.fitted import manifold_of
from mlx_headpose.readers.safetensors_file import read_config
from mlx_headpose.readers.torch_file import read_torch
from mlx_headpose.readers.torch_writer import write_torch_file
from mlx_headpose.weights import BUNDLED, from_pretrained, save_pretrained

NETWORKS = ("yaw_network.pth", "pitch_network.pth", "roll_network.pth")


@pytest.fixture(scope="module")
def encoder(seeded, tmp_path_factory):
    path = tmp_path_factory.mktemp("nlml") / "Encoder.pth"
    write_torch_file(path, seeded.seeded_state_dict("nlml_encoder"))
    return path


def test_a_folder_of_the_four_networks_becomes_the_estimator(shared, encoder, tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    shutil.copy(encoder, folder)
    for name in (*NETWORKS, "Factor_Matrices.npz"):
        shutil.copy(shared / "weights" / "nlml" / name, folder)
    conversion = convert_file(folder, tmp_path / "nlml.safetensors")
    assert all(name.startswith("Factor_Matrices.") for name in conversion.left_out)
    assert conversion.left_out
    model = from_pretrained(tmp_path / "nlml.safetensors")
    golden = read_npz(shared / "golden" / "nlml.npz")
    angles, factors = model(mx.array(golden["encoder_input"]))
    np.testing.assert_allclose(np.array(factors), golden["encoder_output"], atol=1e-4)
    np.testing.assert_allclose(np.array(angles), golden["combined_output_rad"], atol=1e-4)


def test_a_combined_state_dict_is_recognised(shared, encoder):
    state = {f"encoder.{n}": v for n, v in read_torch(encoder).items()}
    for name in NETWORKS:
        path = shared / "weights" / "nlml" / name
        state |= {f"{path.stem}.{n}": v for n, v in read_torch(path).items()}
    conversion = convert_tensors(state, "combined.pth")
    assert conversion.config["model_type"] == "nlml"
    assert not conversion.left_out


def test_each_network_alone_becomes_that_part(shared, encoder, tmp_path):
    convert_file(encoder, tmp_path / "encoder.safetensors")
    assert read_config(tmp_path / "encoder.safetensors")["model_type"] == "backbone"
    for name in NETWORKS:
        conversion = convert_file(shared / "weights" / "nlml" / name, tmp_path / "a.safetensors")
        assert conversion.config == {"model_type": "nlml_angle_network"}
        assert len(conversion.tensors) == 10


@pytest.mark.parametrize("source", ["Trained_data.npz", "."])
def test_the_tucker_files_become_a_manifold_that_finds_the_published_poses(
    shared, tmp_path, source
):
    conversion = convert_file(shared / "weights" / "nlml" / source, tmp_path / "m.safetensors")
    assert any(name.endswith("CoreTensor") for name in conversion.left_out)
    model = from_pretrained(tmp_path / "m.safetensors")
    golden = read_npz(shared / "golden" / "nlml.npz")
    found = model.decode(model(mx.array(golden["manifold_landmarks"])))
    answers = golden["manifold_powell_yaw_pitch_roll_deg"]
    np.testing.assert_allclose(np.array(found), answers, atol=0.01)
    if source == ".":
        manifold = manifold_of(model)
        assert manifold.factors["identity"].shape == (1620, 5)
        np.testing.assert_allclose(manifold.grid["roll"], np.arange(-30, 31, 10))


def test_what_is_no_manifold_is_refused(shared):
    with pytest.raises(InputError, match="no manifold"):
        manifold_of(build(Config()))
    data = read_npz(shared / "weights" / "nlml" / "Trained_data.npz")
    data["W"] = data["W"][0]
    with pytest.raises(InputError, match="cannot have ranks"):
        convert_tensors(data, "Trained_data.npz")


def test_networks_of_other_kinds_end_the_comparison_in_one_sentence(tmp_path, capsys, monkeypatch):
    many, network = tmp_path / "many.safetensors", tmp_path / "network.safetensors"
    save_pretrained(build(Config(landmarks=468)), many)
    save_pretrained(build(Config(landmarks=68)), network)
    lists = ["--data_dir", "-", "--train_list", "-", "--test_list", "-"]
    for first, second, wrong in (
        (BUNDLED, network, BUNDLED),
        (many, network, many),
        (network, network, network),
    ):
        words = [*lists, "--network", str(first), "--manifold", str(second)]
        monkeypatch.setattr("sys.argv", ["nlml", *words])
        with pytest.raises(SystemExit, match="2"):
            bench.main()
        *_, sentence = capsys.readouterr().err.splitlines()
        assert f"{wrong}: no network of nlml" in sentence
