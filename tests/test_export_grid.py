"""Every method in every format, in float32, float16, and with quantised weights."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from support.coreml import Package
from support.exported import SMALL, angles, crops, difference, small_network

from mlx_headpose.errors import InputError
from mlx_headpose.export.mlxfn import export_mlxfn
from mlx_headpose.methods import METHODS, Estimator
from mlx_headpose.quantization import quantize_int8, quantize_weights

BATCHES = (1, 3, 16)
SCHEMES = ("float32", "float16", "int8", "mlx8", "mlx4")


def network(method: str, scheme: str, inputs: np.ndarray, shared: Path) -> Estimator:
    """A small network, quantised where the scheme says so."""
    model = small_network(method, shared)
    if scheme == "int8":
        return quantize_int8(model, inputs)
    if scheme.startswith("mlx"):
        return quantize_weights(model, int(scheme[-1]), inputs)
    return model


def test_every_method_is_here():
    assert set(SMALL) == set(METHODS)


# Degrees that exports may differ by from Python, on crops of AFLW2000. Arithmetic in 8 bits jumps
# where rounding makes one of an input's 255 levels the next: single crops moved by 0.1° to 0.51°,
# depending on the last bits of what calibrated them.
TOLERANCES = {"float32": 1e-3, "float16": 0.1, "int8": 1.0, "mlx8": 1e-3, "mlx4": 1e-3}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", SMALL)
def test_exports_give_pythons_angles(method, scheme, shared, tmp_path):
    pytest.importorskip("onnx", reason="exporting ONNX needs onnx")
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    from mlx_headpose.export.onnx import export_onnx

    inputs = crops(small_network(method, shared).config, shared, max(BATCHES))
    model = network(method, scheme, inputs, shared)
    wanted = angles(model, inputs)
    half = scheme == "float16"
    tolerance = TOLERANCES[scheme]
    assert np.ptp(wanted, axis=0).min() > min(1, 10 * tolerance)  # 4 bits leave pyramid 0.4°
    if not half:
        export_mlxfn(model, tmp_path / "net.mlxfn", (3,), device="cpu")
        function = mx.import_function(str(tmp_path / "net.mlxfn"))
        found = np.array(function(mx.array(inputs[:3]))[0])
        assert difference(found, wanted[:3]) < tolerance
    path = tmp_path / "net.onnx"
    if half and model.config.inputs.landmarks:
        with pytest.raises(InputError, match="landmarks"):
            export_onnx(model, path, dtype=mx.float16)
        return
    dtype = mx.float16 if half else mx.float32
    export_onnx(model, path, dtype=dtype)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == "batch"
    for count in BATCHES:
        found = session.run(None, {session.get_inputs()[0].name: inputs[:count]})
        assert {len(output) for output in found} == {count}
        assert {output.dtype for output in found} == {np.dtype(np.float32)}
        assert difference(found[0], wanted[:count]) < tolerance
    if scheme == "mlx4":  # is written as mlx8 is
        return
    pytest.importorskip("coremltools", reason="exporting Core ML needs coremltools")
    from mlx_headpose.export.coreml import export_coreml

    export_coreml(model, tmp_path / "net.mlpackage", dtype=dtype)
    package = Package(tmp_path / "net.mlpackage")
    count = 8 if half else 3
    found = np.concatenate([package(one)["pose"] for one in inputs[:count]])
    assert difference(found, wanted[:count]) < tolerance
