"""From a dataset to batches: decoded and cut by worker threads, in an order that can be repeated.

What a batch holds depends on the seed, the epoch and its number alone, never on thread timing, so
training can stop after any step and go on with the same batches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from ..core.inputs import Input
from ..errors import InputError
from .augment import UNCHANGED, Augmentation
from .base import SKIP, Dataset

Item = TypeVar("Item")
Result = TypeVar("Result")

PREFETCH = 3  # batches that are decoded ahead


@dataclass
class Batch:
    """A step's samples.

    Attributes:
        inputs: (N, size, size, 3) uint8 images, or (N, L, 3) float32 landmarks.
        poses: (N, 3) float32 yaw, pitch, roll in degrees, or what else the network learns.
        changes: (N, 5) float32 pixel augmentation, for `augment.apply`.
        ids: the samples' names.
    """

    inputs: np.ndarray
    poses: np.ndarray
    changes: np.ndarray
    ids: list[str]


class Loader:
    """Training batches of a dataset.

    A broken photo stops training with its name, or, with `skip_bad`, gives its place to the
    dataset's next good one, so that every batch is full; `skipped` counts how often.

    Args:
        dataset: samples.
        inputs: what the network reads.
        batch_size: samples per step and process.
        augmentation: None leaves the samples as they are, apart from the crop rule's own random
            margins and position.
        seed: random seed of the order and of everything sampled per image.
        rank, ranks: this process and their number; each gets its own part of every global batch.
        workers: threads; None means one per core.
        skip_bad: whether to go on after broken photos.
    """

    def __init__(
        self,
        dataset: Dataset,
        inputs: Input,
        *,
        batch_size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        workers: int | None = None,
        skip_bad: bool = False,
    ):
        if len(dataset) < ranks:
            raise InputError(f"{dataset.name}: {len(dataset)} samples are too few to train on")
        self.dataset = dataset
        self.batch_size = min(batch_size, len(dataset) // ranks)
        self.inputs = inputs
        self.augmentation = augmentation
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.workers = workers or os.cpu_count() or 1
        self.skip_bad = skip_bad
        self.bad: dict[int, str] = {}  # index of a broken sample → what is wrong with it

    def __len__(self) -> int:
        """Steps per epoch; an incomplete last batch is left out."""
        return len(self.dataset) // (self.batch_size * self.ranks)

    @property
    def skipped(self) -> int:
        """Broken samples met so far."""
        return len(self.bad)

    def order(self, epoch: int) -> np.ndarray:
        """(steps, batch_size) indices that this process sees in an epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset))
        steps = len(self)
        order = order[: steps * self.ranks * self.batch_size]
        return order.reshape(steps, self.ranks, self.batch_size)[:, self.rank]

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, read ahead by at most `PREFETCH`.

        Raises:
            InputError: a sample is broken and `skip_bad` is off.
        """
        order = self.order(epoch)[start:]
        samples = read_ahead(
            lambda index: self.sample(int(index), epoch),
            order.reshape(-1),
            workers=self.workers,
            ahead=PREFETCH * self.batch_size,
        )
        with closing(samples):
            for _ in order:
                inputs, poses, changes, indices = zip(
                    *islice(samples, self.batch_size), strict=True
                )
                yield Batch(
                    inputs=np.stack(inputs),
                    poses=np.stack(poses).astype(np.float32, copy=False),
                    changes=np.stack(changes),
                    ids=[self.dataset.ids[i] for i in indices],
                )

    def sample(self, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Input, pose (or what else is learned) and changes of a sample, and its index.

        The index is not the one asked for if that sample is broken.
        """
        for _ in range(len(self.dataset)):
            if index not in self.bad:
                rng = np.random.default_rng((self.seed, epoch, index))
                try:
                    value, target, changes = self.inputs.training_sample(
                        self.dataset, index, rng, self.augmentation
                    )
                    return value, target, UNCHANGED if changes is None else changes, index
                except InputError as error:
                    if not self.skip_bad:
                        raise InputError(f"{error}{SKIP}") from None
                    self.bad[index] = str(error)
            index = (index + 1) % len(self.dataset)
        raise InputError(f"{self.dataset.name}: no sample can be read")


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Generator[Result, None, None]:
    """`map(function, items)` by threads, in order, with at most `ahead` results waiting.

    What `function` raises comes out where its result would have.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reader")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
