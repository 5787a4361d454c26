"""Run a network over a dataset and measure it by the field's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from ..core.preprocessing import Preprocessing
from ..cpu.memory import batch_size_named
from ..cpu.shards import shards_on_cores
from ..data import Dataset
from ..data.base import BROKEN, SKIP
from ..data.loader import read_ahead
from ..errors import InputError
from ..methods import Estimator
from ..pose import PoseMetrics, pose_metrics
from ..predictor import Pending, Predictor
from .over_yaw import errors_by_band

WORKERS = 4
AHEAD = 3  # batches that are read while one is computed


@dataclass
class Evaluation:
    """A network's predictions on a dataset.

    Attributes:
        dataset: the dataset's name.
        protocol: which samples and crops these are.
        ids: (N) names of the samples that were used.
        indices: (N) where these are in the dataset; a picture of several heads has one name.
        poses: (N, 3) true yaw, pitch, roll in degrees.
        predictions: (N, 3) predicted ones.
        dropped: reason → number of samples left out.
        seconds: wall time.
        limits: yaw, pitch and roll in degrees within which the method is made to work, if it says.
        preprocessing: how the network cut its crops; None where it read none.
    """

    dataset: str
    protocol: str
    ids: list[str]
    indices: list[int]
    poses: np.ndarray
    predictions: np.ndarray
    dropped: dict[str, int]
    seconds: float
    limits: tuple[float, ...] | None = None
    preprocessing: Preprocessing | None = None

    def metrics(self, legacy: bool = False) -> PoseMetrics:
        """See `pose_metrics`."""
        return pose_metrics(self.predictions, self.poses, legacy)

    def bands(self) -> dict[str, dict[str, float]]:
        """Errors of the poses within the method's limits, if it has any, and by bands of yaw."""
        bands = {}
        if self.limits is not None:
            inside = (np.abs(self.poses) <= self.limits).all(axis=1)
            if inside.any():
                metrics = pose_metrics(self.predictions[inside], self.poses[inside]).to_dict()
                name = "within " + " ".join(f"±{limit:g}°" for limit in self.limits)
                bands[name] = {**metrics, "used": int(inside.sum())}
        return bands | errors_by_band(self.predictions, self.poses)

    def report(self) -> dict[str, Any]:
        """The JSON report: yaw, pitch, roll, mae, geodesic, vmae, used, dropped and more."""
        return {
            **self.metrics().to_dict(),
            "bands": self.bands(),
            "used": len(self.ids),
            "dropped": self.dropped,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "seconds": round(self.seconds, 2),
        }


def sample_inputs(
    model: Estimator, dataset: Dataset, batch_size: int, skipped: list[str] | None
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The dataset in order, as (indices, inputs) batches that a network reads.

    Pictures are decoded and cut by worker threads a few batches ahead.

    Args:
        model: its config says what it reads and how pictures are cut.
        dataset: the samples.
        batch_size: samples in a batch.
        skipped: names of broken samples are appended; None raises their InputError.
    """
    reads = model.config.inputs

    def load(index: int) -> np.ndarray | None:
        try:
            return reads.sample(dataset, index)
        except InputError as error:
            if skipped is None:
                raise InputError(f"{error}{SKIP}") from None
            skipped.append(dataset.ids[index])
            return None

    with closing(read_ahead(load, range(len(dataset)), WORKERS, AHEAD * batch_size)) as samples:
        for start in range(0, len(dataset), batch_size):
            loaded = enumerate(islice(samples, batch_size), start)
            good = [(i, value) for i, value in loaded if value is not None]
            if good:
                yield [i for i, _ in good], np.stack([value for _, value in good])


def evaluate(
    model: Estimator,
    dataset: Dataset,
    batch_size: int = 32,
    skip_bad: bool = False,
    progress: str | None = None,
    before_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Predict the pose of every sample.

    Args:
        model: in evaluation mode.
        dataset: the samples.
        batch_size: samples in one forward pass.
        skip_bad: leave broken pictures out and count them instead of stopping.
        progress: label of the progress bar; None shows none.
        before_batch: called before every batch; what it raises ends the evaluation.

    Raises:
        InputError: a picture is broken and `skip_bad` is off, or none is left, or memory ends.
    """
    start = time.perf_counter()
    skipped: list[str] | None = [] if skip_bad else None
    used: list[int] = []
    predictions: list[np.ndarray] = []
    pending: tuple[list[int], Pending] | None = None
    with (
        batch_size_named(batch_size),
        shards_on_cores(batch_size),
        tqdm(
            total=len(dataset), desc=progress, unit="image", disable=None if progress else True
        ) as bar,
    ):
        predictor = Predictor(model)
        for indices, inputs in sample_inputs(model, dataset, batch_size, skipped):
            if before_batch is not None:
                before_batch()
            started = predictor.start(inputs)
            # The previous batch is fetched while this one is computed.
            if pending is not None:
                used += pending[0]
                predictions.append(pending[1].result()[0])
                bar.update(len(pending[0]))
            pending = indices, started
        if pending is not None:
            used += pending[0]
            predictions.append(pending[1].result()[0])
            bar.update(len(pending[0]))
    if not used:
        raise InputError(f"{dataset.name}: no sample could be read")
    dropped = dict(dataset.dropped)
    if skipped:
        dropped[BROKEN] = dropped.get(BROKEN, 0) + len(skipped)
    return Evaluation(
        dataset=dataset.name,
        protocol=dataset.protocol,
        ids=[dataset.ids[i] for i in used],
        indices=used,
        poses=dataset.poses[used],
        predictions=np.concatenate(predictions).astype(np.float64),
        dropped=dropped,
        seconds=time.perf_counter() - start,
        limits=model.config.limits,
        preprocessing=None if model.config.inputs.landmarks else model.config.preprocessing,
    )
