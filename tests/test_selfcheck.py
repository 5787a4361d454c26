"""`mlx-headpose selfcheck`: it agrees here, says what does not, and writes what it found."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.commands import assert_refused, installed

from mlx_headpose import InputError, cli, process
from mlx_headpose.methods import DETECTORS, METHODS, build, config_class
from mlx_headpose.nn import Conv2d, ConvTranspose2d, MaxPool2d, conv
from mlx_headpose.nn.grid import pair
from mlx_headpose.selfcheck import numbers
from mlx_headpose.selfcheck.cases import all_cases
from mlx_headpose.selfcheck.check import Check, all_checks
from mlx_headpose.selfcheck.layers import CONVOLUTIONS, DEPTHWISE, POOLS
from mlx_headpose.selfcheck.values import Short, Values, distances, read_stored

# Backbones that an option names and no `choices`.
BACKBONES = {
    "hopenet": ("resnet18", "resnet50", "squeezenet1_0", "squeezenet1_1", "mobilenetv2"),
    "semiuhpe": ("resnet18", "resnet50", "efficientnetv2_s"),
    "sixdrepnet": (
        *("repvgg_a0", "repvgg_b1g2", "repvgg_b1g4", "resnet18", "resnet50"),
        *("mobilenetv2", "mobilenetv3_small", "mobilenetv3_large"),
    ),
    "rotation9d": ("resnet18", "mobilenetv2"),
}


@pytest.fixture(scope="module")
def stored():
    return read_stored()


def checks(name: str, stored) -> list[Check]:
    return list(all_checks(stored)[name]())


def test_the_command_agrees_and_writes_what_it_found(tmp_path: Path) -> None:
    done = installed("selfcheck", "--json", "report.json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("everything agrees")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == "mlx-headpose selfcheck 1"
    assert report["agrees"]
    assert report["disagree"] == []
    assert {"chip", "device", "system", "python", "memory_gb", "packages"} <= set(report["machine"])
    assert "mlx" in report["machine"]["packages"]
    found = {(one["name"], one["quantity"]) for one in report["checks"]}
    for name in (*METHODS, *DETECTORS, "bundled network"):
        for quantity in ("outputs", "loss", "gradients", "moved"):
            assert (name, quantity) in found
    assert ("picture to angles in a thread", "angles") in found
    rows = {(row["what"], row["dtype"], row["batch"]) for row in report["speed"]}
    floats = {("inference", dtype, b) for dtype in ("float32", "float16") for b in (1, 32)}
    assert rows == floats | {("training", "float32", 32)}
    assert all(row["images_per_second"] > 0 for row in report["speed"])


def test_a_disagreement_is_the_last_line_and_the_exit_code(tmp_path, monkeypatch, capsys) -> None:
    wrong = Check("whenet", "angles", "stored values", "float32", 1.0, 0.5, True)
    monkeypatch.setattr("mlx_headpose.selfcheck.check.all_checks", lambda _: {"x": lambda: [wrong]})
    monkeypatch.setattr("mlx_headpose.selfcheck.speed.networks", dict)
    path = tmp_path / "report.json"
    with pytest.raises(SystemExit) as stop:
        cli.main("selfcheck", ["--json", str(path)])
    assert stop.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 of the checks DISAGREE, see above"
    assert "DISAGREES: whenet, angles in float32 against stored values: 1° apart" in "".join(lines)
    report = json.loads(path.read_text())
    assert not report["agrees"]
    assert len(report["disagree"]) == 1


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    assert_refused(installed("selfcheck", "--json", tmp_path), "is a folder")


def test_stored_values_are_of_the_cases_that_are_checked(stored) -> None:
    assert set(stored) == set(all_cases())


STRIDED = "convolution 3×3, stride 2, padding same, depthwise"


@pytest.mark.parametrize("name", [STRIDED, "batch norm", "relu", "attention"])
def test_layers_agree(name: str, stored) -> None:
    for check in checks(name, stored):
        assert check.agrees, check


def test_a_wrong_padding_is_seen(monkeypatch, stored) -> None:
    right = conv._paddings

    def shifted(padding, *sizes):
        pads = right(padding, *sizes)
        return [(after, before) for before, after in pads] if padding == "same" else pads

    monkeypatch.setattr(conv, "_paddings", shifted)
    wrong = [c for c in checks("convolution 3×3, stride 2, padding same", stored) if not c.agrees]
    assert {"outputs", "gradients"} <= {check.quantity for check in wrong}


@pytest.mark.skipif(mx.default_device() == mx.Device(mx.gpu), reason="GPUs use MLX's gradients")
def test_a_wrong_gradient_is_seen_and_named(monkeypatch, stored) -> None:
    right = conv._weight_gradient
    monkeypatch.setattr(conv, "_weight_gradient", lambda *given: 1.01 * right(*given))
    (wrong,) = [c for c in checks("convolution 3×3, stride 1, padding 1", stored) if not c.agrees]
    assert (wrong.quantity, wrong.note) == ("gradients", "layer.weight")


@pytest.mark.skipif(mx.default_device() == mx.Device(mx.gpu), reason="GPUs use MLX's gradients")
def test_a_wrong_gradient_in_a_network_is_seen(monkeypatch, stored) -> None:
    right = conv._weight_gradient
    monkeypatch.setattr(conv, "_weight_gradient", lambda *given: 1.03 * right(*given))
    wrong = {check.quantity for check in checks("hopenet", stored) if not check.agrees}
    assert wrong == {"gradients", "moved"}


def test_a_wrong_loss_in_bfloat16_is_seen(stored) -> None:
    loss, change = stored["hopenet"].bfloat16
    wrong = dataclasses.replace(stored["hopenet"], bfloat16=(1.02 * loss, change))
    (check,) = [c for c in checks("hopenet", {"hopenet": wrong}) if not c.agrees]
    assert (check.quantity, check.dtype) == ("loss", "bfloat16")


def test_a_wrong_layer_in_a_network_is_seen(monkeypatch, stored) -> None:
    assert all(check.agrees for check in checks("hopenet", stored))
    right = MaxPool2d.__call__
    monkeypatch.setattr(MaxPool2d, "__call__", lambda self, x: right(self, 1.01 * x))
    wrong = {check.quantity for check in checks("hopenet", stored) if not check.agrees}
    assert {"outputs", "loss"} <= wrong


def test_what_cannot_be_computed_is_a_disagreement(monkeypatch, stored) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(mx, "quantized_matmul", fails)
    (check,) = checks("quantised products", stored)
    assert not check.agrees
    assert "RuntimeError: no kernel for this" in str(check)
    json.dumps(check.to_dict())


def test_quantised_products_and_the_exported_network_agree(stored) -> None:
    for name in ("quantised products", "exported network", "picture to angles"):
        for check in checks(name, stored):
            assert check.agrees, check


def test_nan_is_never_right() -> None:
    right = Values([np.ones(3)], 1.0, {"w": np.ones(4)})
    wrong = Values([np.array([1, np.nan, 1])], np.nan, {"w": np.full(4, np.nan)})
    for distance in distances(Short.of(wrong), Short.of(right), False):
        error, tolerance, _ = distance.worst(np.full(len(distance.errors), 1e9))
        assert not Check("", "", "", "", error, tolerance).agrees


def test_seeded_numbers_never_change() -> None:
    assert numbers.pixels("inputs", (2, 3)).tolist() == [[252, 250, 26], [65, 229, 48]]
    assert (32768 * numbers.uniform("a", (3,))).tolist() == [28224, -24879, 7329]
    assert set(numbers.signs("a", 100).tolist()) == {-1.0, 1.0}


def geometries(method: str) -> tuple[set, set, set]:
    """Of a method's convolutions, transposed convolutions and pools, as the lists have them."""
    convolutions, transposed, pools = set(), set(), set()
    config = config_class(method)
    choices = BACKBONES.get(method, (None,))
    for arch in choices:
        for _, module in build(config(**({"arch": arch} if arch else {}))).named_modules():
            if isinstance(module, Conv2d):
                kernel, stride = module.weight.shape[1], module.stride[0]
                assert module.weight.shape[2] == kernel
                depthwise = module.groups > 1 and module.weight.shape[3] == 1
                groups = DEPTHWISE if depthwise else module.groups
                padding = module.padding if module.padding == "same" else module.padding[0]
                convolutions.add((kernel, stride, padding, module.dilation[0], groups))
            elif isinstance(module, ConvTranspose2d):
                transposed.add((module.weight.shape[1], module.stride[0], module.padding[0]))
            elif isinstance(module, MaxPool2d):
                kernel, stride, padding = (
                    pair(v)[0] for v in (module.kernel_size, module.stride, module.padding)
                )
                pools.add((kernel, stride, padding, module.ceil_mode))
    return convolutions, transposed, pools


@pytest.mark.parametrize("method", [*METHODS, *DETECTORS])
def test_every_geometry_in_use_is_checked(method: str) -> None:
    convolutions, transposed, pools = geometries(method)
    assert convolutions <= set(CONVOLUTIONS)
    assert transposed <= {(2, 2, 0)}
    assert pools <= set(POOLS)


def test_backbones_without_choices_are_looked_at() -> None:
    for method in METHODS:
        fields = {field.name for field in dataclasses.fields(config_class(method))}
        assert ("arch" not in fields) or method in {*BACKBONES, "pyramid"}


@pytest.mark.parametrize(("machine", "system"), [("x86_64", "darwin")])
def test_pythons_for_intel_macs_are_refused(machine, system, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(process.platform, "machine", lambda: machine)
    with pytest.raises(InputError, match="Apple silicon"):
        process.require_apple_silicon()
    with pytest.raises(SystemExit) as stop:
        cli.main("selfcheck", [])
    assert stop.value.code == 2
    assert "arch -arm64" in capsys.readouterr().err
