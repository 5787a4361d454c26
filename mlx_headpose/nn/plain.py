"""A switch between our functions with their own gradients and MLX's operations alone.

A traced graph that leaves Python may hold nothing but MLX's own operations, and it will run on a
machine other than this one, where MLX's own convolutions are the fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import mlx.core as mx

from ..cpu.shards import current_shard, shard

_plain: ContextVar[bool] = ContextVar("plain_operations", default=False)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, the layers of this package compute by MLX's own operations, to be exported."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Whether nothing but MLX's own operations is wanted here."""
    return _plain.get()


def use_mlx_kernels() -> bool:
    """Whether MLX's own convolutions are wanted: on a GPU, and in an exported graph."""
    return _plain.get() or mx.default_device() != mx.Device(mx.cpu)


def with_gradient(forward: Callable[..., Any], gradient: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` with a gradient of its own; `forward` alone in plain operations.

    Args:
        forward: arrays → an array or several.
        gradient: (primals, cotangents, outputs) → the primals' cotangents. It is computed in the
            shard in which `forward` was.
    """

    @cache
    def in_shard(number: int) -> Any:
        custom = mx.custom_function(forward)

        @custom.vjp
        def vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
            with shard(number):
                return gradient(primals, cotangents, outputs)

        return custom

    @wraps(forward)
    def choose(*arrays: Any) -> Any:
        return forward(*arrays) if _plain.get() else in_shard(current_shard())(*arrays)

    return choose
