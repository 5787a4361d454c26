"""The methods by name. Adding one is a folder here.

A folder's `network.py` defines `Config` (its `ModelConfig`) and `build(config) -> Estimator`. A
folder with `fitted.py` instead holds what is fitted, not trained: files may hold it, but no command
offers it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.estimator import Estimator, ModelConfig, Outputs, PoseHead, Recipe
from ..core.preprocessing import Preprocessing
from ..errors import InputError


def _folders_with(module: str) -> tuple[str, ...]:
    here = Path(__file__).parent
    return tuple(sorted(path.parent.name for path in here.glob(f"*/{module}.py")))


METHODS = _folders_with("network")
FITTED = _folders_with("fitted")

__all__ = [
    "METHODS",
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
]


def _module(method: str) -> ModuleType:
    # Only names of folders here are ever imported, whatever a file says.
    if method not in METHODS + FITTED:
        raise InputError(f"unknown method {method!r}; choose one of: {', '.join(METHODS)}")
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
    return config_class(method).from_dict(values)


def build(config: ModelConfig) -> Estimator:
    """A network with random weights."""
    return _module(config.model_type).build(config)
