"""A batch in parts, one for each core.

MLX's CPU back end computes one operation after the other on one core, and only BLAS uses the
others. Operations of different streams overlap, though. So here a batch is cut into parts, the
operations of each part go to a stream (a shard) of its own, and BLAS multiplies with one thread in
each. The result is the whole batch's: batch norms take their statistics over all shards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from itertools import pairwise
from typing import Any

import mlx.core as mx

from . import blas as _blas

# One thread sends off the operations of all shards, so small parts would wait for it.
MAX_SHARDS = 8
MIN_SAMPLES = 2  # in a shard

_count: ContextVar[int] = ContextVar("shards", default=1)
_shard: ContextVar[int] = ContextVar("shard", default=0)
_streams: list[mx.Stream] = []


@contextmanager
def shards_on_cores(samples: int) -> Iterator[None]:
    """Inside, networks on the CPU compute a batch in one shard for each of BLAS's threads.

    OPENBLAS_NUM_THREADS therefore says how many cores a process may use. What is computed inside
    must be evaluated there. Nothing changes on a GPU, on macOS, without an OpenBLAS, for batches
    too small for two shards, and in threads other than the main one, whose streams MLX does
    not end.

    Args:
        samples: in a batch.
    """
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    in_main_thread = threading.current_thread() is threading.main_thread()
    threads = _blas.threads() if on_cpu and in_main_thread else 1
    count = min(threads, MAX_SHARDS, samples // MIN_SAMPLES)
    if count <= 1:
        yield
        return
    with _blas.one_thread(), shards(count):
        yield


@contextmanager
def shards(count: int) -> Iterator[None]:
    """Inside, networks compute a batch in so many shards, or in fewer if it is small."""
    token = _count.set(count)
    try:
        yield
    finally:
        _count.reset(token)


def shard_count() -> int:
    """In how many shards a large batch is computed here."""
    return _count.get()


def shards_for(samples: int) -> int:
    """In how many shards a batch of so many samples is computed here."""
    return max(1, min(shard_count(), samples // MIN_SAMPLES))


@contextmanager
def shard(number: int) -> Iterator[None]:
    """Inside, operations belong to a shard. Shard 0 is the stream outside of shards."""
    token = _shard.set(number)
    try:
        if number == 0:
            yield
        else:
            with mx.stream(_stream(number)):
                yield
    finally:
        _shard.reset(token)


def current_shard() -> int:
    """The shard to which operations belong here."""
    return _shard.get()


def _stream(number: int) -> mx.Stream:
    while len(_streams) < number:
        _streams.append(mx.new_stream(mx.Device(mx.cpu)))
    return _streams[number - 1]


def in_each_shard(function: Callable[..., Any], *lists: list[Any]) -> list[Any]:
    """`function` of the lists' first entries in shard 0, of their second in shard 1, and so on.

    A single entry is computed in the current shard.
    """
    if len(lists[0]) == 1:
        return [function(*(entries[0] for entries in lists))]
    results = []
    for number, entries in enumerate(zip(*lists, strict=True)):
        with shard(number):
            results.append(function(*entries))
    return results


class Shards:
    """An (N, ...) array in parts, one in each shard, with what networks do to whole ones.

    Attributes:
        parts: (N₀, ...), (N₁, ...) and so on, in the order of the batch.
    """

    def __init__(self, parts: list[mx.array]):
        self.parts = parts

    @classmethod
    def split(cls, x: mx.array, count: int) -> Shards:
        """Cut an (N, ...) array, N at least `count`, into parts of almost equal sizes."""
        edges = [len(x) * i // count for i in range(count + 1)]
        return cls([x[a:b] for a, b in pairwise(edges)])

    def join(self) -> mx.array:
        """The whole (N, ...) array."""
        return mx.concatenate(self.parts)

    def map(self, function: Callable[[mx.array], mx.array]) -> Shards:
        """`function` of each part, in its shard."""
        return Shards(in_each_shard(function, self.parts))

    @property
    def shape(self) -> tuple[int, ...]:
        """The whole array's."""
        return (sum(map(len, self.parts)), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> mx.Dtype:
        """Of every part."""
        return self.parts[0].dtype

    def __add__(self, other: Any) -> Shards:
        return self._with(other, mx.add)

    def __mul__(self, other: Any) -> Shards:
        return self._with(other, mx.multiply)

    __radd__, __rmul__ = __add__, __mul__

    def _with(self, other: Any, function: Callable[..., mx.array]) -> Shards:
        if isinstance(other, mx.array) and other.ndim == len(self.shape) and len(other) > 1:
            other = Shards.split(other, len(self.parts))  # one value or more for each sample
        others = other.parts if isinstance(other, Shards) else [other] * len(self.parts)
        return Shards(in_each_shard(function, self.parts, others))

    def astype(self, dtype: mx.Dtype) -> Shards:
        """See `mx.array.astype`."""
        return self.map(lambda part: part.astype(dtype))

    def squeeze(self, axes: tuple[int, ...]) -> Shards:
        """See `mx.array.squeeze`; the batch's axis stays."""
        return self.map(lambda part: part.squeeze(axes))


def each_shard(function: Callable[..., mx.array]) -> Callable[..., Any]:
    """Let a function or a layer that looks at each sample alone take `Shards` in place of a batch.

    The batch is the only array among the arguments that can be in shards.
    """

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        place = next((i for i, a in enumerate(arguments) if isinstance(a, Shards)), None)
        if place is None:
            return function(*arguments, **options)
        before, after = arguments[:place], arguments[place + 1 :]
        return arguments[place].map(lambda part: function(*before, part, *after, **options))

    return run
