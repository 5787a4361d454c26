"""Our networks → Core ML's packages, from MLX's own trace; `mil.py` translates its operations.

coremltools builds the program, moves the transpositions around convolutions to where they cancel,
and writes the package. It does so on any system; only Apple's can run the result.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx

from ..errors import InputError
from ..files import atomic_folder
from ..methods import Estimator
from .graph import trace
from .metadata import NO_LICENCE
from .mil import MILWriter
from .mlxfn import metadata, pose_function, require_one_graph

INSTALL = "exporting Core ML needs a package; run `pip install coremltools`"
# What the package needs at least: iOS 16, macOS 13.
TARGET = "iOS16"
SUFFIX = ".mlpackage"
# What Apple's Neural Engine computes in float16 from the M1 on. Apple publishes no list; this is
# what https://ane-guide.readthedocs.io (Appendix A, operation-by-device matrix) measured.
# `slice_by_index` has no code of its own there but becomes part of its neighbours.
NEURAL_ENGINE = {
    *("abs", "add", "atan", "avg_pool", "batch_norm", "cast", "ceil", "clip", "concat", "conv"),
    *("conv_transpose", "equal", "erf", "exp", "expand_dims", "floor", "gelu", "greater"),
    *("greater_equal", "identity", "layer_norm", "less", "less_equal", "linear", "log"),
    *("logical_not", "matmul", "max_pool", "maximum", "minimum", "mul", "pad", "pow", "real_div"),
    *("reduce_argmax", "reduce_max", "reduce_mean", "reduce_min", "reduce_sum", "relu", "relu6"),
    *("reshape", "reverse", "round", "rsqrt", "select", "sigmoid", "sign", "silu"),
    *("slice_by_index", "softmax", "split", "sqrt", "square", "squeeze", "sub", "tanh", "tile"),
    "transpose",
}
# coremltools' passes that these programs need; each of the others costs time and finds nothing.
PASSES = (
    *("noop_elimination", "const_elimination", "fuse_linear_bias", "reduce_transposes"),
    *("fuse_conv_bias", "merge_consecutive_relus", "remove_redundant_ops"),
    *("dedup_op_and_var_names", "dead_code_elimination"),
)


def export_coreml(
    model: Estimator,
    path: str | Path,
    name: str = "network",
    licence: str = NO_LICENCE,
    dtype: mx.Dtype | None = None,
) -> dict[str, Any]:
    """Write a network as a Core ML package: one RGB image (or landmarks) in, angles out.

    The metadata are the package's own, one entry a key; what is no text is JSON.

    Args:
        model: the network; it stays as it is.
        path: `.mlpackage` to write, a folder.
        name: name of the network.
        licence: licence of its weights.
        dtype: in which the backbone computes, float32 or float16; None takes float16 where the
            network can have it.

    Returns:
        The metadata.

    Raises:
        InputError: coremltools is not installed, an operation has no translation, or the network
            cannot be exported in float16.
    """
    require_one_graph(model, path)
    if dtype is None:
        narrow = not model.config.inputs.landmarks and model.quantization is None
        dtype = mx.float16 if narrow else mx.float32
    about = metadata(model, (1,), name, licence, dtype)
    with TemporaryDirectory() as folder:
        try:
            function = pose_function(model, dtype)
            example, outputs = model.config.inputs.example, about["outputs"]
            package = translate(function, example, outputs, Path(folder) / f"network{SUFFIX}")
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        package.short_description = f"Head pose by mlx-headpose: {about['signs']}"
        package.license = licence
        package.version = about["version"]
        for key, value in about.items():
            text = value if isinstance(value, str) else json.dumps(value)
            package.user_defined_metadata[key] = text
        with atomic_folder(path) as temporary:
            package.save(str(temporary))
    return about


def translate(
    function: Callable[[mx.array], list[mx.array]],
    example: Callable[[int], mx.array],
    output_names: list[str],
    path: Path,
) -> Any:
    """Write the Core ML package of any function of one image, or of one array of numbers.

    Args:
        function: (1, ...) array → arrays. A uint8 input is (1, H, W, 3), an RGB image.
        example: N → an input.
        output_names: a name for each of the arrays.
        path: `.mlpackage` to write, of which nothing is there yet. Without one, coremltools would
            leave the package in the system's temporary folder until the process exits.

    Returns:
        coremltools' model of it.

    Raises:
        InputError: coremltools is not installed, or the function cannot be translated.
    """
    tools = _coremltools()
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import Function, Program, types

    graph = trace(function, example, 1)
    (array,) = graph.inputs
    image = array.dtype == mx.uint8
    batch, *sizes = array.shape
    shape = (batch, sizes[-1], *sizes[:-1]) if image else array.shape
    name = "image" if image else "landmarks"
    target = getattr(tools.target, TARGET)
    with Function(
        {name: Builder.placeholder(shape=shape, dtype=types.fp32)}, opset_version=target
    ) as body:
        given = body.inputs[name]
        writer = MILWriter(Builder, graph.constants)
        # Core ML hands over an image channels first, its pixels 0 to 255 in floats.
        writer.values[array.name] = (
            Builder.transpose(x=given, perm=[0, 2, 3, 1]) if image else given
        )
        writer.write(graph.operations, "Core ML")
        outputs = zip(graph.outputs, output_names, strict=True)
        body.set_outputs([Builder.identity(x=writer.values[a.name], name=n) for a, n in outputs])
    program = Program()
    program.add_function("main", body)
    layout = tools.colorlayout.RGB
    fed = tools.ImageType(name=name, shape=shape, color_layout=layout) if image else None
    # Progress is for people: a pipe gets none.
    quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    with quiet, warnings.catch_warnings():
        # coremltools leaves a temporary folder to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return tools.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            inputs=[fed or tools.TensorType(name=name, shape=shape)],
            minimum_deployment_target=target,
            # The trace says itself what is float16.
            compute_precision=tools.precision.FLOAT32,
            pass_pipeline=tools.PassPipeline([f"common::{name}" for name in PASSES], "head pose"),
            skip_model_load=True,
            package_dir=str(path),
        )


def outside_neural_engine(package: str | Path) -> Counter[str]:
    """How many of which operations of a package the Neural Engine is not known to compute.

    Operations on float32 numbers are counted as such, whatever they are: it has float16 only.
    """
    tools = _coremltools()
    from coremltools.proto import MIL_pb2

    program = tools.models.utils.load_spec(str(package)).mlProgram
    found: Counter[str] = Counter()
    for block in program.functions["main"].block_specializations.values():
        for op in block.operations:
            if op.type == "const":
                continue
            wide = any(o.type.tensorType.dataType == MIL_pb2.FLOAT32 for o in op.outputs)
            if op.type not in NEURAL_ENGINE:
                found[op.type] += 1
            elif wide:
                found["in float32"] += 1
    return found


def _coremltools() -> Any:
    """The package, without what it logs on systems other than Apple's.

    Raises:
        InputError: it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        import coremltools
    except ImportError:
        raise InputError(INSTALL) from None
    return coremltools
