"""NLML-HPE's `.pth` networks and the `.npz` files of its Tucker decomposition.

The published method lies in several files. A folder that holds `Encoder.pth`, `yaw_network.pth`,
`pitch_network.pth` and `roll_network.pth` becomes the whole network; each of them alone becomes
that part. `Trained_data.npz` becomes the manifold, and, where the folder has
`Factor_Matrices.npz` too, with its factors.
"""

from __future__ import annotations

import numpy as np

from ...core.checkpoint import Conversion, Format, Published, Tensors
from ..nlml_manifold import ANGLES, Manifold
from ..nlml_manifold.fitted import config_of, tensors_of
from .network import AngleNetwork, Config, Encoder

# The angles of the published factors' rows, in degrees: −50 to 50, −40 to 40, −30 to 30 by 10.
ROWS = {"yaw": 50, "pitch": 40, "roll": 30}


def _layers(tensors: Tensors, prefix: str) -> Tensors:
    """PyTorch's `<prefix>.<i>.weight` of a linear stack, activations counted → `layers.<i / 2>`."""
    ours = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, leaf = name.removeprefix(prefix).split(".")
            ours[f"layers.{int(index) // 2}.{leaf}"] = value
    return ours


def _config(encoder: Tensors) -> Config:
    return Config(landmarks=encoder["layers.0.weight"].shape[1] // 3)


def _lower(tensors: Tensors) -> Tensors:
    return {name.lower(): value for name, value in tensors.items()}


def _matches_network(tensors: Tensors) -> bool:
    names = _lower(tensors)
    return "encoder.encoder.0.weight" in names and "yaw_network.model.0.weight" in names


def _convert_network(tensors: Tensors) -> Conversion:
    lower = _lower(tensors)
    encoder = _layers(lower, "encoder.encoder.")
    ours = {f"backbone.{name}": value for name, value in encoder.items()}
    for angle in ANGLES:
        network = _layers(lower, f"{angle}_network.model.")
        ours |= {f"head.{angle}.{name}": value for name, value in network.items()}
    # The cosines that taught these networks are not published with them; only training reads any.
    ours["head.cosines"] = np.zeros((3, 3, 4), np.float32)
    parts = ("encoder.", *(f"{angle}_network." for angle in ANGLES))
    left_out = {
        name: "no part of the network; a folder of only these files gives the manifold"
        for name in tensors
        if not name.lower().startswith(parts)
    }
    return Conversion("NLML-HPE, PyTorch", _config(encoder).to_dict(), ours, left_out)


def _convert_encoder(tensors: Tensors) -> Conversion:
    ours = _layers(tensors, "encoder.")
    config = _config(ours)
    return Conversion(
        "NLML-HPE's encoder alone, PyTorch",
        {**config.to_dict(), "model_type": "backbone", "arch": "nlml"},
        ours,
        network=Encoder(config),
    )


def _convert_angle_network(tensors: Tensors) -> Conversion:
    return Conversion(
        "one of NLML-HPE's angle networks, PyTorch",
        {"model_type": "nlml_angle_network"},
        _layers(tensors, "model."),
        network=AngleNetwork(),
    )


def _matches_manifold(tensors: Tensors) -> bool:
    leaves = {name.rsplit(".", 1)[-1] for name in tensors}
    return {"W", *(f"optimized_{angle}" for angle in ANGLES)} <= leaves


def _convert_manifold(tensors: Tensors) -> Conversion:
    leaves = {name.rsplit(".", 1)[-1]: value for name, value in tensors.items()}
    factors = {"identity": leaves["U_id"]} if "U_id" in leaves else {}
    factors |= {angle: leaves[f"U_{angle}"] for angle in ROWS if f"U_{angle}" in leaves}
    grid = {a: np.linspace(-end, end, len(factors[a])) for a, end in ROWS.items() if a in factors}
    cosines = np.stack([leaves[f"optimized_{angle}"] for angle in ANGLES])
    manifold = Manifold(leaves["W"], cosines, factors, grid)
    used = {"W", "U_id", *(f"{kind}_{angle}" for kind in ("optimized", "U") for angle in ANGLES)}
    reasons = {"CoreTensor": "W before the factor of the landmarks is multiplied in"}
    left_out = {
        name: reasons.get(leaf, "a network of another run than the manifold beside it")
        for name in tensors
        if (leaf := name.rsplit(".", 1)[-1]) not in used
    }
    config = config_of(manifold, "nose").to_dict()
    return Conversion("NLML-HPE's manifold, NumPy", config, tensors_of(manifold), left_out)


FORMATS = [
    Format("NLML-HPE (PyTorch)", _matches_network, _convert_network),
    Format("NLML-HPE's manifold (NumPy)", _matches_manifold, _convert_manifold),
    Format(
        "NLML-HPE's encoder (PyTorch)",
        lambda tensors: "encoder.0.weight" in tensors and "encoder.10.weight" in tensors,
        _convert_encoder,
    ),
    Format(
        "NLML-HPE's angle network (PyTorch)",
        lambda tensors: {"model.0.weight", "model.8.weight"} <= tensors.keys(),
        _convert_angle_network,
    ),
]


PUBLISHED = [
    Published(
        "nlml-encoder",
        "nlml",
        "https://github.com/MahdiGhafoorian/NLML_HPE/raw/"
        "8b2fcd862a61d2da6f32898bf9665d3406f4af86/models/Encoder.pth",
        ("git_blob", "d8c9cce9cf9c4937bc60c4ce88b7437984098da7"),
        "MIT",
    ),
]
