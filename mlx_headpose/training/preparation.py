"""What some methods compute from the training set before their first step."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from ..data import Dataset
from ..methods import Estimator


def prepare(
    model: Estimator, dataset: Dataset, folder: Path, seed: int, say: Callable[[str], None]
) -> Dataset:
    """Run the module that the method's config names, if it names one.

    Args:
        model: the network; may be changed in place.
        dataset: the training set.
        folder: where results may be kept for the next time.
        seed: of everything random.
        say: prints a line for people.

    Returns:
        The samples to train on.
    """
    if not model.config.preparation:
        return dataset
    module = importlib.import_module(f"..methods.{model.config.preparation}", __package__)
    return module.prepare(model, dataset, folder, seed, say)
