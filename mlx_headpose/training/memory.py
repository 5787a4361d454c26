"""Whether a step fits into the machine's memory, found out before the first.

MLX's CUDA back end raises an error when memory ends. A Mac swaps, and the CPU back end crashes, or
the system kills the process, and nobody is told why.
"""

from __future__ import annotations

import os
import resource
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from ..cpu.shards import MIN_SAMPLES, shard_count
from ..data.augment import UNCHANGED
from ..errors import InputError
from ..methods import Estimator
from .optimizer import Optimizer
from .step import Step

# MLX allocates for operations ahead of those that it computes. On a busy machine it gets less far
# ahead, and a step seems to need less; how far it got in several is nearer to what may happen.
REPETITIONS = 3


def require_memory(
    step: Step, model: Estimator, optimizer: Optimizer, sample: mx.array, batch: int
) -> None:
    """Rehearse a step on a few samples, and refuse a batch that cannot fit by that measure.

    A step's memory is a part for the weights and a part for each sample. The rehearsals double
    their samples until those are the larger part, and the most of a few counts. Network and
    optimizer are left as they were.
    Only the CPU is looked after here; see `beyond_working_set` for GPUs.

    Args:
        step: what `make_step` makes.
        model: the network that it trains.
        optimizer: its optimizer.
        sample: one input, as the loader hands it over.
        batch: samples in one step.

    Raises:
        InputError: a step needs more than all memory that this process may have.
    """
    if mx.default_device() != mx.Device(mx.cpu):
        return
    there = memory_limit()
    # Not one, of which batch norm has no variance; in all shards, whose number takes memory too.
    count, peak, each = MIN_SAMPLES * shard_count(), 0, 0.0
    before = _copied((model.parameters(), optimizer.state))
    while 2 * count < batch and each * count <= peak / 2:
        last, samples, peaks = peak, 2 * count if peak else count, []
        for _ in range(REPETITIONS):
            peaks.append(_peak(step, model, optimizer, sample, samples))
            parameters, optimizer.state = _copied(before)
            model.update(parameters)
        peak = max(peaks)
        if last:
            each = (peak - last) / count
            count *= 2
        need = peak + each * (batch - count)
        if need > there:
            fitting = count + int((there - peak) / each) if each else 1
            # A power of two, with room for what is not counted, such as the samples read ahead.
            smaller = 1 << max(int(0.8 * fitting), 1).bit_length() - 1
            raise InputError(
                f"out of memory with --batch_size {batch}: a step needs about {need / 1e9:.1f} GB "
                f"and there are {there / 1e9:.1f}; try --batch_size {smaller}"
            )


def _peak(step: Step, model: Estimator, optimizer: Optimizer, sample: mx.array, count: int) -> int:
    """The most bytes that a step on so many samples holds at once."""
    # Repeated, because MLX computes with a broadcast array without filling it.
    inputs = mx.repeat(sample[None], count, axis=0)
    changes = mx.repeat(mx.array(UNCHANGED)[None], count, axis=0)
    mx.eval(inputs, changes)
    mx.reset_peak_memory()
    step(inputs, mx.zeros((count, *model.config.inputs.target)), changes)
    mx.eval(model.parameters(), optimizer.state)
    return mx.get_peak_memory()


def _copied(tree: Any) -> Any:
    """The same arrays in new dicts and lists: optimizers write into theirs."""
    return tree_map(lambda value: value, tree)


def beyond_working_set(batch: int) -> str | None:
    """A sentence for a step that took more memory than a Mac's GPU may use without swapping.

    Args:
        batch: samples in one step.

    Returns:
        None where it took less, or where MLX does not say how much there is.
    """
    if mx.default_device() == mx.Device(mx.cpu):
        return None
    there = int(mx.device_info().get("max_recommended_working_set_size", 0))
    peak = mx.get_peak_memory()
    if not there or peak <= there:
        return None
    smaller = 1 << max(int(0.8 * batch * there / peak), 1).bit_length() - 1
    return (
        f"A step takes {peak / 1e9:.1f} GB and the GPU can use {there / 1e9:.1f} without swapping, "
        f"which is slow; --batch_size {smaller} may fit."
    )


def memory_limit() -> int:
    """Bytes that this process can have at most: the machine's, or its own limit if that is less."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    return installed if own == resource.RLIM_INFINITY else min(installed, own)
