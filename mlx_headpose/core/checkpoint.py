"""What a foreign format is: how to recognise a published checkpoint, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.nn as nn
import numpy as np

from ..errors import InputError

Tensors = dict[str, np.ndarray]

# Suffix of a protocol's name: heads from behind get a yaw beyond ±90°.
FULL = "-full"
UNSTATED = "not stated here: see the repository"


@dataclass
class Conversion:
    """A published checkpoint in our names and layouts.

    Attributes:
        description: readable name, such as "HopeLessNet SqueezeNet 1.1, PyTorch".
        config: `ModelConfig.to_dict()`, or {"model_type": "backbone", ...} for a backbone alone,
            whose tensors then carry no "backbone." in front.
        tensors: our name → array in MLX's layout.
        left_out: name of each tensor of the source that is not used → why.
        network: the module that the tensors must fill exactly; None means the config's estimator.
        variants: name of another normalisation → the conversion for a network that has it.
        protocols: name of a protocol → `config` for the networks that are used by it, where several
            publishers share the layout; the first is taken unless the file's name (see `hints`)
            or an option chooses another.
        hints: pattern in a file's name → key of `protocols`.
        protocol: the key of `protocols` that was taken, with `FULL` if it was asked for.
    """

    description: str
    config: dict[str, Any]
    tensors: Tensors
    left_out: dict[str, str] = field(default_factory=dict)
    network: nn.Module | None = None
    variants: dict[str, Callable[[], Conversion]] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    protocol: str = ""

    def choose(self, protocol: str | None, source: str | Path) -> None:
        """Take a protocol's config.

        Args:
            protocol: key of `protocols`, optionally followed by `FULL`; None goes by the
                file's name.
            source: path of the file.

        Raises:
            InputError: the network is used by no such protocol.
        """
        name = Path(source).name
        hinted = [key for pattern, key in self.hints.items() if re.search(pattern, name, re.I)]
        wanted = protocol or next(iter([*hinted, *self.protocols]), "")
        chosen = wanted.removesuffix(FULL)
        if not wanted:
            return
        if chosen not in self.protocols:
            names = ", ".join(self.protocols) or "none"
            raise InputError(
                f"{source}: {self.description} has no protocol {wanted}; its protocols: {names}"
            )
        self.config = dict(self.protocols[chosen])
        if wanted != chosen:
            self.config["full_yaw"] = True
        self.protocol = wanted


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    Attributes:
        name: its name in `convert.py --weight`.
        what: method or backbone, as `convert.py --list` shows it.
        url: direct link; None where the file is only on an interactive page.
        page: that page.
        digest: (kind, hex digits): "sha256", "sha256_prefix" (its first digits) or "git_blob"
            (SHA-1 of "blob <size>\\0" and the content); None where nobody published one.
        licence: licence of the weights.
        figure: the publisher's own figure.
        protocol: the one of `Conversion.protocols` that it is used by.
        mirrors: other direct links to the same file.
    """

    name: str
    what: str
    url: str | None = None
    digest: tuple[str, str] | None = None
    licence: str = UNSTATED
    figure: str = ""
    page: str | None = None
    protocol: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the downloaded file: unlike the link's own, it is unique."""
        assert self.url is not None
        return f"{self.name}.{self.url.rsplit('.', 1)[-1]}"


@dataclass(frozen=True)
class Format:
    """One published layout.

    Attributes:
        name: readable name, for messages.
        matches: whether tensors (by name and shape alone) are in this layout.
        convert: tensors → ours. Every tensor of the source is used or in `left_out`.
    """

    name: str
    matches: Callable[[Tensors], bool]
    convert: Callable[[Tensors], Conversion]


def conv_weight(weight: np.ndarray) -> np.ndarray:
    """PyTorch's (out, in, kh, kw) → MLX's (out, kh, kw, in)."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def in_mlx_layout(value: np.ndarray) -> np.ndarray:
    """A tensor of PyTorch's, in MLX's layout if it is a convolution's weight."""
    return conv_weight(value) if value.ndim == 4 else value


def counters(tensors: Tensors) -> dict[str, str]:
    """The names of PyTorch's step counters among tensors → why they are left out."""
    why = "PyTorch's step counter of a batch norm"
    return {name: why for name in tensors if name.endswith("num_batches_tracked")}


def torch_conv_weight(weight: np.ndarray) -> np.ndarray:
    """MLX's (out, kh, kw, in) → PyTorch's (out, in, kh, kw)."""
    return np.ascontiguousarray(weight.transpose(0, 3, 1, 2))


def renamed(name: str, rules: list[tuple[str, str]]) -> str:
    """A tensor's name in another naming: every (pattern, replacement) applied, in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
