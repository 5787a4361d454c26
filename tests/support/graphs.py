"""Graphs of networks as a GPU would get them, traced without computing anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from support.gpu_operations import VIEWS

COMPUTE = mx.eval
OPERATION = re.compile(r'label ?= ?"([^"]+)", shape ?= ?rectangle')


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Inside, the package takes the paths of a GPU, and MLX is asked for nothing but graphs."""
    with (
        mock.patch.object(mx, "default_device", return_value=mx.Device(mx.gpu)),
        mock.patch.object(mx, "async_eval"),
        mock.patch.object(mx, "eval"),
    ):
        yield


def hollow(module: Any) -> None:
    """Take a network's values away: only their shapes count, and making them is in no graph."""
    module.update(
        tree_map(lambda v: mx.array(np.zeros(v.shape)).astype(v.dtype), module.parameters())
    )
    COMPUTE(module.parameters())


def operations(*arrays: mx.array) -> Counter[str]:
    """How often each operation comes up in the graph that computes some arrays."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), *arrays)
        return Counter(OPERATION.findall(path.read_text()))


def launches(found: Counter[str]) -> int:
    """Kernels that a GPU launches; views are none."""
    return sum(count for name, count in found.items() if name not in VIEWS)


def traced(function: Callable[..., Any], *inputs: mx.array) -> tuple[Counter[str], set[str]]:
    """Operations of a function made of MLX's own ones, and the types of all arrays in it."""
    names: Counter[str] = Counter()
    dtypes: set[str] = set()

    def receive(part: dict[str, Any]) -> None:
        if part["type"] == "primitive":
            names[part["name"]] += 1
            dtypes.update(str(array[2]) for array in (*part["inputs"], *part["outputs"]))

    mx.export_function(receive, function, *inputs)
    return names, {dtype.removeprefix("mlx.core.") for dtype in dtypes}
