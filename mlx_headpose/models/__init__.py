"""The methods by name. Adding one is a file here and a line in `METHODS`."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InputError
from ..preprocessing import Preprocessing
from .base import Estimator, ModelConfig, Outputs, PoseHead, Recipe

# method → module that defines `Config` (its ModelConfig) and `build(config) -> Estimator`.
METHODS = {
    "hopenet": "hopenet",
    "whenet": "whenet",
    "nlml": "nlml",
    "pyramid": "pyramid",
    "tokenhpe": "tokenhpe",
    "rotation9d": "rotation9d",
}

# What files may hold besides: it is fitted, not trained, so no command offers it by name.
FITTED = {"nlml_manifold": "nlml_manifold"}

__all__ = [
    "METHODS",
    "Estimator",
    "ModelConfig",
    "Outputs",
    "PoseHead",
    "Preprocessing",
    "Recipe",
    "build",
    "config_class",
    "config_from_dict",
]


def _module(method: str) -> Any:
    modules = METHODS | FITTED
    if method not in modules:
        raise InputError(f"unknown method {method!r}; choose one of: {', '.join(METHODS)}")
    return importlib.import_module(f".{modules[method]}", __name__)


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
