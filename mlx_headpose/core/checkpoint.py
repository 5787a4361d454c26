"""What a foreign format is: how to recognise a published checkpoint, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.nn as nn
import numpy as np

Tensors = dict[str, np.ndarray]


@dataclass
class Conversion:
    """A published checkpoint in our names and layouts.

    Attributes:
        description: what it was, for people: "HopeLessNet SqueezeNet 1.1, PyTorch".
        config: `ModelConfig.to_dict()`, or {"model_type": "backbone", ...} for a backbone alone,
            whose tensors then carry no "backbone." in front.
        tensors: our name → array in MLX's layout.
        left_out: name of each tensor of the source that is not used → why.
        network: the module that the tensors must fill exactly; None means the config's estimator.
    """

    description: str
    config: dict[str, Any]
    tensors: Tensors
    left_out: dict[str, str] = field(default_factory=dict)
    network: nn.Module | None = None


@dataclass(frozen=True)
class Format:
    """One published layout.

    Attributes:
        name: for messages.
        matches: whether tensors (by name and shape alone) are in this layout.
        convert: tensors → ours. Every tensor of the source is used or in `left_out`.
    """

    name: str
    matches: Callable[[Tensors], bool]
    convert: Callable[[Tensors], Conversion]


def conv_weight(weight: np.ndarray) -> np.ndarray:
    """PyTorch's (out, in, kh, kw) → MLX's (out, kh, kw, in)."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def torch_conv_weight(weight: np.ndarray) -> np.ndarray:
    """MLX's (out, kh, kw, in) → PyTorch's (out, in, kh, kw)."""
    return np.ascontiguousarray(weight.transpose(0, 3, 1, 2))


def renamed(name: str, rules: list[tuple[str, str]]) -> str:
    """A tensor's name in another naming: every (pattern, replacement) applied, in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
