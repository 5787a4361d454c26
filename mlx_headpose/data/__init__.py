"""The datasets by name. Adding one is a file here and a line in `DATASETS`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError
from .base import Dataset


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is opened.

    Attributes:
        module: defines `open_dataset(folder, filename_list, **options) -> Dataset`.
        has_files: whether it lies in a folder; without, its samples are made when they are read.
        lists_names: whether lines of its `filename_list` are the names that its samples have.
        rendered: whether it shows rendered heads, with a validation part of its own.
    """

    module: str
    has_files: bool = True
    lists_names: bool = False
    rendered: bool = False


DATASETS = {
    "AFLW2000": DatasetInfo(".aflw2000", lists_names=True),
    "300W_LP": DatasetInfo(".w300lp", lists_names=True),
    "synthetic": DatasetInfo("..synthetic.dataset", has_files=False, rendered=True),
    "rendered": DatasetInfo("..synthetic.rendered", rendered=True),
    "scenes": DatasetInfo("..synthetic.scenes.dataset", rendered=True),
    "facescape": DatasetInfo(".facescape"),
    "panoptic": DatasetInfo(".panoptic"),
    "panoptic+300W_LP": DatasetInfo(".yaw_balanced"),
    "BIWI": DatasetInfo(".biwi"),
    "DAD-3DHeads": DatasetInfo(".dad3dheads"),
}

# Other spellings that published command lines use.
ALIASES = {
    "aflw2000_3d": "AFLW2000",
    "aflw2000-3d": "AFLW2000",
    "alfw2000": "AFLW2000",
    "pose_300w_lp": "300W_LP",
    "300wlp": "300W_LP",
    "300w-lp": "300W_LP",
    "dad": "DAD-3DHeads",
    "dad3dheads": "DAD-3DHeads",
}

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "dataset_name", "dataset_options", "open_dataset"]


def dataset_name(name: str) -> str:
    """The canonical name of a dataset, from any spelling in any case.

    Raises:
        InputError: no such dataset.
    """
    names = {known.lower(): known for known in DATASETS} | ALIASES
    if name.lower() not in names:
        raise InputError(f"unknown dataset {name!r}; choose one of: {', '.join(DATASETS)}")
    return names[name.lower()]


def open_dataset(
    name: str,
    folder: str | Path | None = None,
    filename_list: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """List the samples of a dataset.

    Args:
        name: a key of `DATASETS`, or another spelling of it.
        folder: where its files lie.
        filename_list: text file with one sample a line; None takes the whole folder.
        **options: each dataset takes those in `dataset_options` and ignores the rest:
            `crop` (of the network, a `Crop`), `ad` (margin k in place of the published one),
            `train` (the rule's random training margins, and a split's training part), `split`
            (name of a division into training and test), `boxes` (where face boxes come from),
            `seed`, `skip_bad`, and for rendered heads `samples` (how many), `yaw` (the largest),
            `absent` (keep crops without a head), `mesh` (a head model's file), `identities` (how
            many people it shows), `camera_without` (groups of effects) and `input_size` (of the
            network).

    Raises:
        InputError: a folder, list or sample is missing or broken.
    """
    return _module(name).open_dataset(
        None if folder is None else Path(folder),
        None if filename_list is None else Path(filename_list),
        **options,
    )


def dataset_options(name: str) -> set[str]:
    """Those of `open_dataset`'s options that a dataset takes and does not ignore.

    Raises:
        InputError: no such dataset.
    """
    parameters = inspect.signature(_module(name).open_dataset).parameters.values()
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}


def _module(name: str) -> ModuleType:
    return importlib.import_module(DATASETS[dataset_name(name)].module, __name__)
