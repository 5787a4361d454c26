"""The validation pass at the end of an epoch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from ..data import Dataset
from ..evaluation.detection import evaluate_scenes
from ..evaluation.evaluate import evaluate
from ..methods import Estimator
from ..pose import PoseMetrics
from .distributed import Processes
from .options import TrainingOptions


def validate(
    model: Estimator,
    dataset: Dataset,
    options: TrainingOptions,
    processes: Processes,
    before_batch: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Mean errors on a validation set, each process predicting its own part.

    Args:
        model: the network; it is left in evaluation mode.
        dataset: the validation set.
        options: batch size, and whether to leave out broken photos.
        processes: those that train together.
        before_batch: may end the pass by raising; not called where several processes wait for
            each other.

    Returns:
        The figures of `pose.PoseMetrics` by name, in degrees, the same in every process; of
        scenes, those of `evaluation.detection`, percentages.
    """
    model.eval()
    if dataset.shows_scenes:
        # Recall at a rate of false boxes is no mean over scenes, so every process sees them all.
        return evaluate_scenes(model, dataset, options.batch_size).figures()
    part = copy.copy(dataset)
    part.select(np.arange(len(dataset)) % processes.size == processes.rank)
    alone = processes.size == 1
    # The others would wait for ever for a process that has nothing to predict and stopped.
    count, metrics = 0, {field.name: 0.0 for field in dataclasses.fields(PoseMetrics)}
    if len(part) or alone:
        evaluation = evaluate(
            model,
            part,
            options.batch_size,
            options.skip_bad,
            progress="validation" if processes.rank == 0 else None,
            before_batch=before_batch if alone else None,
        )
        count, metrics = len(evaluation.ids), evaluation.metrics().to_dict()
    # All figures are means over samples, so the whole set's are the parts' weighted by their sizes.
    sums = processes.total(mx.array([count, *(count * value for value in metrics.values())]))
    total, *values = np.array(sums).tolist()
    return {name: value / total for name, value in zip(metrics, values, strict=True)}


def described(metrics: dict[str, float]) -> str:
    """The figures of an epoch as its line shows them."""
    if "mae" in metrics:
        angles = " ".join(f"{name} {metrics[name]:.2f}" for name in ("yaw", "pitch", "roll"))
        return f"{angles} MAE {metrics['mae']:.2f}"
    return " ".join(f"{name} {value:.2f}" for name, value in metrics.items())
