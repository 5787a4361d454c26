"""Conversion of 6DRepNet's, yakhyo's, OPAL's and SemiUHPE's published files, of every layout."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from support.commands import run
from test_peers import difference, golden_of

from mlx_headpose.backbones.repvgg import ARCHS, layout
from mlx_headpose.convert import convert_file, convert_tensors
from mlx_headpose.convert.published import PUBLISHED
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build, config_class
from mlx_headpose.methods.sixdrepnet.checkpoint import slots_of
from mlx_headpose.readers.onnx_file import read_layers
from mlx_headpose.weights import from_pretrained


@pytest.mark.parametrize("arch", ["repvgg_a0", "repvgg_b1g4"])
def test_convert_and_export_fold(tmp_path, arch):
    source = tmp_path / "trained.npz"
    np.savez(source, **published_repvgg(arch, np.random.default_rng(0)))
    convert_file(source, tmp_path / "net.safetensors")
    folded = convert_file(source, tmp_path / "folded.safetensors", fold=True)
    assert folded.config["deploy"]
    arguments = ("--snapshot", "net.safetensors", "--fold", "--output", "x")
    assert run("export.py", *arguments, folder=tmp_path).returncode == 0
    image = mx.random.normal((1, 64, 64, 3), key=mx.random.key(0))
    paths = tmp_path / "net.safetensors", tmp_path / "folded.safetensors", tmp_path / "x"
    plain, by_convert, by_export = (np.array(from_pretrained(p)(image)[0]) for p in paths)
    assert difference(by_convert, plain) < 1e-5
    assert difference(by_export, plain) < 1e-5


def published_repvgg(arch, rng, deploy=False):
    """A RepVGG checkpoint of 6DRepNet's with random numbers, small enough not to explode."""
    tensors, inputs = {}, 3
    for stage, (widths, groups) in enumerate(zip(*layout(arch), strict=True)):
        for i, (width, group) in enumerate(zip(widths, groups, strict=True)):
            name = "layer0" if stage == 0 else f"layer{stage}.{i}"
            each = inputs // group
            if deploy:
                tensors[f"{name}.rbr_reparam.weight"] = np.zeros((width, each, 3, 3), "f4")
                tensors[f"{name}.rbr_reparam.bias"] = np.zeros(width, "f4")
            else:
                for branch, side in (("rbr_dense", 3), ("rbr_1x1", 1)):
                    scale = 1 / np.sqrt(each * side * side)
                    weight = scale * rng.standard_normal((width, each, side, side), "f4")
                    tensors[f"{name}.{branch}.conv.weight"] = weight
                    tensors |= random_norm(f"{name}.{branch}.bn", width, rng)
                if i > 0:
                    tensors |= random_norm(f"{name}.rbr_identity", width, rng)
            inputs = width
    tensors["linear_reg.weight"] = rng.standard_normal((6, inputs), "f4")
    tensors["linear_reg.bias"] = np.zeros(6, "f4")
    return tensors


def random_norm(name, width, rng):
    return {
        f"{name}.weight": 0.5 + 0.1 * rng.standard_normal(width, "f4"),
        f"{name}.bias": 0.1 * rng.standard_normal(width, "f4"),
        f"{name}.running_mean": 0.1 * rng.standard_normal(width, "f4"),
        f"{name}.running_var": 1 + 0.1 * rng.random(width, "f4"),
        f"{name}.num_batches_tracked": np.array(1),
    }


def zeros(rows):
    return {name: np.zeros(shape, dtype) for name, shape, dtype in rows}


LAYOUTS = {
    "sixdrepnet_repvgg_b1g2_train": ("sixdrepnet", "repvgg_b1g2"),
    "sixdrepnet_repvgg_b1g2_deploy": ("sixdrepnet", "repvgg_b1g2"),
    "sixdrepnet_repvgg_b1g4_deploy": ("sixdrepnet", "repvgg_b1g4"),
    "sixdrepnet360_resnet50": ("sixdrepnet", "resnet50"),
    "sixdrepnet_yakhyo_resnet18": ("sixdrepnet", "resnet18"),
    "sixdrepnet_yakhyo_resnet34": ("sixdrepnet", "resnet34"),
    "sixdrepnet_yakhyo_resnet50": ("sixdrepnet", "resnet50"),
    "sixdrepnet_yakhyo_mobilenetv2": ("sixdrepnet", "mobilenetv2"),
    "sixdrepnet_yakhyo_mobilenetv3_small": ("sixdrepnet", "mobilenetv3_small"),
    "sixdrepnet_yakhyo_mobilenetv3_large": ("sixdrepnet", "mobilenetv3_large"),
    "opal_300wlp_euler": ("opal", "euler"),
    "opal_300wlp_6d": ("opal", "6d"),
    "opal_panoptic_quaternion": ("opal", "quaternion"),
    "semiuhpe_resnet50": ("semiuhpe", "resnet50"),
    "semiuhpe_effnetv2": ("semiuhpe", "efficientnetv2_s"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_published_layout_is_recognised(seeded, name):
    state = zeros(seeded.manifest(name))
    conversion = convert_tensors(state, name)
    config = conversion.config
    assert (config["model_type"], config.get("arch") or config["rotation"]) == LAYOUTS[name]
    assert config.get("deploy", False) == name.endswith("deploy")
    assert len(conversion.tensors) + len(conversion.left_out) == len(state)
    assert set(conversion.left_out) < set(state)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("deploy", [False, True])
def test_every_repvgg_is_recognised(arch, deploy):
    tensors = published_repvgg(arch, Zeros(), deploy)
    config = convert_tensors(tensors, arch).config
    assert (config["arch"], config["deploy"]) == (arch, deploy)


def test_a_graph_whose_norms_are_not_folded_is_refused():
    config = config_class("sixdrepnet")(arch="mobilenetv3_small")
    tensors = {}
    for number, slot in enumerate(slots_of(build(config))):
        kind = "conv" if len(slot.shape) == 4 else "linear"
        tensors[f"layer{number}.{kind}.weight"] = np.zeros(slot.shape, "f4")
    assert convert_tensors(tensors, "x.onnx").config["arch"] == "mobilenetv3_small"
    tensors["layer1.norm.weight"] = np.ones(16, "f4")
    with pytest.raises(InputError, match="norms are not folded"):
        convert_tensors(tensors, "x.onnx")


class Zeros:
    """A generator of zeros, for what is only recognised."""

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)

    random = standard_normal


def test_a_repvgg_of_another_size_is_refused():
    tensors = published_repvgg("repvgg_a0", Zeros(), deploy=True)
    tensors["layer1.2.rbr_reparam.weight"] = np.zeros((48, 48, 3, 3), "f4")
    with pytest.raises(InputError, match="no published size"):
        convert_tensors(tensors, "x.pth")


@pytest.mark.parametrize("depth", [18, 34, 101, 152])
@pytest.mark.parametrize("method", ["sixdrepnet", "semiuhpe"])
def test_other_resnets_of_the_family_convert(seeded, depth, method):
    tensors = zeros(seeded.manifest(f"imagenet_torchvision_resnet{depth}"))
    channels = tensors.pop("fc.weight").shape[1]
    del tensors["fc.bias"]
    if method == "sixdrepnet":
        tensors["linear_reg.weight"] = np.zeros((6, channels), "f4")
        tensors["linear_reg.bias"] = np.zeros(6, "f4")
        # 6DRepNet's own form of the ResNet has a layer that it never uses.
        tensors["fc_finetune.weight"] = np.zeros((6, channels + 3), "f4")
        tensors["fc_finetune.bias"] = np.zeros(6, "f4")
    else:
        head = zeros(seeded.manifest("semiuhpe_resnet50"))
        tensors |= {name: value for name, value in head.items() if name.startswith("fc.")}
        tensors["fc.1.weight"] = np.zeros((512, channels), "f4")
    config = convert_tensors(tensors, "x.pth").config
    assert (config["model_type"], config["arch"]) == (method, f"resnet{depth}")


def in_torch(seeded, name, network):
    """A PyTorch network with the seeded tensors of a published layout."""
    torch = pytest.importorskip("torch", reason="exports with PyTorch, which is not installed")
    state = {n: torch.from_numpy(v) for n, v in seeded.seeded_state_dict(name).items()}
    network.load_state_dict(state)
    return network.eval()


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_large"])
@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter is deprecated; the releases are older
def test_onnx_releases_convert(shared, seeded, tmp_path, name):
    torch = pytest.importorskip("torch", reason="exports with PyTorch, which is not installed")
    pytest.importorskip("onnx", reason="reads ONNX by onnx, which is not installed")
    from support import torch_sixd

    layout = f"sixdrepnet_yakhyo_{name}"
    made = (
        torch_sixd.ResNet18()
        if name == "resnet18"
        else torch_sixd.MobileNetV3("mobilenetv3_large", 1280)
    )
    network = in_torch(seeded, layout, made)
    path = tmp_path / f"{name}.onnx"
    torch.onnx.export(
        network,
        torch.zeros(1, 3, 224, 224),
        str(path),
        do_constant_folding=True,
        input_names=["input"],
        output_names=["rotation_matrix"],
        dynamo=False,
    )
    conversion = convert_file(path, tmp_path / "net.safetensors")
    assert conversion.config["arch"] == name
    assert "ONNX" in conversion.description
    image = mx.array(seeded.seeded_image(224))
    with golden_of(shared, f"{layout}_224") as golden:
        found = from_pretrained(tmp_path / "net.safetensors")(image)[0]
        assert difference(found, golden["output0"]) < 1e-4


def test_products_and_constants_of_a_graph_are_read(tmp_path):
    onnx = pytest.importorskip("onnx", reason="writes ONNX by onnx, which is not installed")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weight, bias = np.arange(6, dtype="f4").reshape(3, 2), np.arange(2, dtype="f4")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
        helper.make_node("Identity", ["b0"], ["b"]),
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["b", "p"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 3]), ("y", [1, 2]))]
    initializers = [numpy_helper.from_array(bias, "b0")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    onnx.save(helper.make_model(graph), tmp_path / "g.onnx")
    layers = read_layers(tmp_path / "g.onnx")
    assert sorted(layers) == ["layer0.linear.bias", "layer0.linear.weight"]
    assert (layers["layer0.linear.weight"] == weight.T).all()
    assert (layers["layer0.linear.bias"] == bias).all()


def saved(path, content):
    torch = pytest.importorskip("torch", reason="writes PyTorch files, which needs torch")

    def tensors(value):
        if isinstance(value, dict):
            return {name: tensors(item) for name, item in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    torch.save(tensors(content), path)
    return path


def test_wrapped_files_and_their_running_average(seeded, tmp_path):
    state = zeros(seeded.manifest("semiuhpe_resnet50"))
    average = {**state, "fc.7.bias": np.ones(9, "f4")}
    content = {
        "clock": {"epoch": 3, "minibatch": 0, "step": 9},
        "model_state_dict": state,
        "model_state_dict_ema": average,
        "optimizer_state_dict": {"state": {}, "param_groups": []},
    }
    path = saved(tmp_path / "net.pth", content)
    output = tmp_path / "net.safetensors"
    assert convert_file(path, output).tensors["head.fc3.bias"].all()
    plain = convert_file(path, output, state="model_state_dict")
    assert not plain.tensors["head.fc3.bias"].any()
    with pytest.raises(InputError, match="no tensors"):
        convert_file(path, output, state="teacher")


@pytest.mark.parametrize(
    ("layout", "file", "protocol", "expected"),
    [
        ("sixdrepnet360_resnet50", "net.pth", None, ("yakhyo", {"loss": "frobenius"})),
        ("sixdrepnet360_resnet50", "6DRepNet360_300W_LP.pth", None, ("6drepnet360", {})),
        ("sixdrepnet360_resnet50", "x.pt", "6drepnet360", ("6drepnet360", {"loss": "geodesic"})),
        ("sixdrepnet360_resnet50", "x", "6drepnet360-full", ("6drepnet360-full", {"full_yaw": 1})),
        ("sixdrepnet_repvgg_b1g2_deploy", "model.pth", None, ("6drepnet", {"full_yaw": False})),
        ("opal_300wlp_euler", "300wlp_euler.pth", None, ("opal", {"scale": 1.0})),
        ("opal_300wlp_euler", "panoptic_euler.pth", None, ("opal-panoptic", {"scale": 180.0})),
        ("semiuhpe_resnet50", "DAD.pth", None, ("semiuhpe-dad", {"axes": "dad3dheads"})),
        ("semiuhpe_resnet50", "x.pth", "semiuhpe", ("semiuhpe", {"axes": "300wlp"})),
    ],
)
def test_protocols_go_by_option_then_name(seeded, layout, file, protocol, expected):
    conversion = convert_tensors(zeros(seeded.manifest(layout)), file, protocol=protocol)
    assert conversion.protocol == expected[0]
    assert conversion.config.items() >= expected[1].items()
    with pytest.raises(InputError, match="protocols"):
        convert_tensors(zeros(seeded.manifest(layout)), file, protocol="hopenet")


def test_published_peers_are_those_of_the_sources(shared):
    text = (shared / "checkpoints" / "sources_peers.json").read_text()
    for source in json.loads(text)["checkpoints"]:
        entry = PUBLISHED[source["name"]]
        assert (entry.url, entry.page) == (source.get("url"), source.get("page"))
        assert entry.licence == source["licence"]
        assert str(source.get("mae_aflw2000", "")) in entry.figure
        kinds = [kind for kind in ("sha256", "git_blob") if kind in source]
        assert entry.digest == next(((kind, source[kind]) for kind in kinds), None)
        if "onnx" in source:
            exported = PUBLISHED[f"{source['name']}-onnx"]
            assert (exported.url, exported.digest) == (
                source["onnx"],
                ("sha256", source["onnx_sha256"]),
            )
        mirrors = [source[key] for key in ("mirror", "original") if key in source]
        assert list(entry.mirrors) == mirrors


def test_the_command_says_what_names_leave_open(seeded, tmp_path):
    path = saved(tmp_path / "resnet50.pt", zeros(seeded.manifest("sixdrepnet_yakhyo_resnet50")))
    done = run("convert.py", "--weight", path, "--output", "x.safetensors", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "protocol: yakhyo; networks of 6drepnet360 have the same" in done.stdout
