"""The methods by name. Adding one is a folder here.

A folder's `network.py` defines `Config` (its `ModelConfig`) and `build(config) -> Estimator`. A
folder with `fitted.py` instead holds what is fitted, not trained: files may hold it, but no command
offers it.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.crop import AROUND_HEAD, Crop
from ..core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe
from ..core.preprocessing import Preprocessing
from ..errors import InputError


def _folders_with(module: str) -> tuple[str, ...]:
    here = Path(__file__).parent
    return tuple(sorted(path.parent.name for path in here.glob(f"*/{module}.py")))


METHODS = _folders_with("network")
DEFAULT = "hopenet"
# The published checkpoint to name to someone who has none.
SUGGESTION = "hopelessnet-resnet18"
# Networks that find heads: they train as the methods do, and estimate no pose.
DETECTORS = {"headdetector": "..detection.heads.network"}
FITTED = _folders_with("fitted")

__all__ = [
    "DEFAULT",
    "DETECTORS",
    "FITTED",
    "METHODS",
    "SUGGESTION",
    "Estimator",
    "ModelConfig",
    "Outputs",
    "PoseHead",
    "Preprocessing",
    "Recipe",
    "build",
    "commands",
    "config_class",
    "config_from_dict",
    "crop_named",
]


def _module(method: str) -> ModuleType:
    # Only names of folders here are ever imported, whatever a file says.
    if method in DETECTORS:
        return importlib.import_module(DETECTORS[method], __name__)
    if method not in METHODS + FITTED:
        names = ", ".join((*METHODS, *DETECTORS))
        raise InputError(f"unknown method {method!r}; choose one of: {names}")
    module = "fitted" if method in FITTED else "network"
    return importlib.import_module(f".{method}.{module}", __name__)


def commands() -> dict[str, tuple[str, str]]:
    """Commands that one method adds: name → (module with its `run`, line for --help)."""
    packages = [importlib.import_module(f".{method}", __name__) for method in METHODS]
    return {
        name: (f"{package.__name__}.{name}", line)
        for package in packages
        for name, line in getattr(package, "COMMANDS", {}).items()
    }


def config_class(method: str) -> type[ModelConfig]:
    """The config class of a method."""
    return _module(method).Config


def config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The config that `ModelConfig.to_dict` wrote."""
    method = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(method, str):
        raise InputError("the config names no model_type")
    preprocessing = values.get("preprocessing")
    if isinstance(preprocessing, dict):
        # Files that do not say it were written before there was a choice.
        preprocessing = {"standardize": False, **preprocessing}
        if isinstance(preprocessing.get("crop"), str):
            # Files of versions before 2 name a crop where later ones hold its values.
            preprocessing["crop"] = dataclasses.asdict(crop_named(preprocessing["crop"]))
        values = {**values, "preprocessing": preprocessing}
    return config_class(method).from_dict(values)


def crop_named(name: str) -> Crop:
    """A method's crop by the method's name; "box" is the whole head's.

    Raises:
        InputError: there is none of that name.
    """
    if name == "box":
        return AROUND_HEAD
    if name not in METHODS:
        raise InputError(f"unknown crop rule {name!r}; choose one of: box, {', '.join(METHODS)}")
    return config_class(name)().preprocessing.crop


def build(config: ModelConfig) -> Estimator:
    """A network with random weights."""
    return _module(config.model_type).build(config)
