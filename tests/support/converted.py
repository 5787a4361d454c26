"""Networks of published checkpoints, without files between."""

from __future__ import annotations

from types import ModuleType

import mlx.core as mx
import numpy as np

from mlx_headpose.convert import Conversion, convert_tensors
from mlx_headpose.methods import Estimator, build, config_from_dict
from mlx_headpose.weights import load_strictly


def network_of(conversion: Conversion) -> Estimator:
    """The network that a conversion fills, in evaluation mode."""
    network = build(config_from_dict(conversion.config))
    tensors = {name: mx.array(value) for name, value in conversion.tensors.items()}
    load_strictly(network, tensors, conversion.description)
    network.eval()
    return network


def converted_network(tensors: dict[str, np.ndarray]) -> Estimator:
    """The network of a published checkpoint's tensors."""
    return network_of(convert_tensors(tensors, "test"))


def seeded_network(seeded: ModuleType, name: str) -> Estimator:
    """The network of one of the reproducible checkpoints behind the golden outputs."""
    return converted_network(seeded.seeded_state_dict(name))
