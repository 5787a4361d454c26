"""A switch between our functions with their own gradients and MLX's operations alone.

A traced graph that leaves Python may hold nothing but MLX's own operations, and it will run on a
machine other than this one, where MLX's own convolutions are the fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import mlx.core as mx

_plain: ContextVar[bool] = ContextVar("plain_operations", default=False)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, the layers of this room compute by MLX's own operations, to be exported."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def use_mlx_kernels() -> bool:
    """Whether MLX's own convolutions are wanted: on a GPU, and in an exported graph."""
    return _plain.get() or mx.default_device() != mx.Device(mx.cpu)


def without_gradient_if_plain(custom: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    """`custom`, an `mx.custom_function` of `forward`; `forward` itself in plain operations."""

    @wraps(forward)
    def choose(*arrays: mx.array) -> Any:
        return forward(*arrays) if _plain.get() else custom(*arrays)

    return choose
