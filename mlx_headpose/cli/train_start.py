"""What a training starts from: its network and its datasets."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.crop import AROUND_LANDMARKS, Crop
from ..data import DATASETS, Dataset, dataset_name, dataset_options
from ..data.holdout import divided
from ..data.landmarks import keep_within
from ..errors import InputError
from ..methods import (
    DEFAULT,
    DETECTORS,
    METHODS,
    Estimator,
    ModelConfig,
    build,
    config_from_dict,
)
from ..places import command, find_weights
from ..readers.safetensors_file import read_config
from ..training.checkpoint import read_network, read_run
from ..training.options import TrainingOptions
from ..weights import load_strictly, load_to_train
from .datasets import open_for, samples_used
from .options import make_config, model_options, refuse_unused, sized

# Share of the rate from random weights below which these hardly learn.
RATE_FROM_NOTHING = 0.05
HELD_OUT_LIST = "validation.txt"
FOLDERS = Path("datasets")
SHARED_OPTIONS = ("yaw", "mesh", "camera_without", "split", "boxes")  # by training and validation
TRAINING_OPTIONS = ("samples", "identities")
ADVICE = (
    "Trains on built-in synthetic heads, because datasets/300W_LP is not there; for real faces put "
    "300W-LP there (http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm) or give its "
    "folder as --data_dir."
)


def chosen_dataset(args: argparse.Namespace) -> str:
    """The dataset's true name; without --dataset, 300W-LP where it is, or else synthetic heads."""
    if "dataset" in args:
        return dataset_name(args.dataset)
    if getattr(args, "model", None) in DETECTORS:
        return "scenes"
    return "300W_LP" if "data_dir" in args or (FOLDERS / "300W_LP").is_dir() else "synthetic"


@dataclass
class Sets:
    """What a training reads.

    Attributes:
        training, validation: the samples.
        test: the options that make `test.py` use the validation set; None where none do.
        held_out: names of the validation samples, where they are a part of the training set that
            a list can name.
    """

    training: Dataset
    validation: Dataset
    test: str | None
    held_out: list[str] | None = None


def open_sets(
    args: argparse.Namespace, config: ModelConfig, folder: Path, say: Callable[[str], None]
) -> Sets:
    """Open the sets that the options name.

    Args:
        args: the options.
        config: config of the network.
        folder: the training's, where the names of held-out samples will lie.
        say: prints a line.
    """
    name = _validation_set(args)
    refuse_unused([o for o in TRAINING_OPTIONS if o in args], [args.dataset])
    refuse_unused([o for o in SHARED_OPTIONS if o in args], [args.dataset, name or args.dataset])
    if not (args.explicit_dataset or DATASETS[args.dataset].has_files):
        say(ADVICE)
    training_set = _open(args, "", args.dataset, config, train=True)
    if training_set.dropped:
        say(f"Trains on {training_set.name}: {samples_used(training_set)}.")
    if name is None:
        held_out = _open(args, "", args.dataset, config, train=False, limited=False)
        say(f"No validation set: the last twentieth of {training_set.name} validates.")
        trains, validates = divided(training_set)
        if mirrored := int((~trains & ~validates).sum()):
            say(f"Their mirror images do not train either ({mirrored}).")
        training_set.select(trains)
        held_out.select(validates)
        if config.limits is not None:
            keep_within(held_out, config.limits)
        if not DATASETS[args.dataset].lists_names:
            return Sets(training_set, held_out, None)
        listed = _test_options(args, "", args.dataset, folder / HELD_OUT_LIST)
        return Sets(training_set, held_out, listed, list(held_out.ids))
    validation_set = _open(args, "val_", name, config, train=False)
    if validation_set.dropped:
        say(f"Validates on {validation_set.name}: {samples_used(validation_set)}.")
    if name == args.dataset:
        both = len(set(training_set.ids) & set(validation_set.ids))
        if both:
            say(f"Warning: {both} samples of {name} both train and validate; their errors flatter.")
    names = getattr(args, "val_filename_list", None)
    # `test.py` measures poses, which detectors of heads have none of.
    poses = not training_set.shows_scenes
    test = _test_options(args, "val_", name, names) if poses else None
    return Sets(training_set, validation_set, test)


def _validation_set(args: argparse.Namespace) -> str | None:
    """Its name; None where a part of the training set has to serve."""
    if "val_dataset" in args:
        return dataset_name(args.val_dataset)
    if DATASETS[args.dataset].rendered or "split" in args:
        return args.dataset
    if "val_data_dir" in args or (FOLDERS / "AFLW2000").is_dir():
        return "AFLW2000"
    return args.dataset if "val_filename_list" in args else None


def _folder(args: argparse.Namespace, prefix: str, name: str) -> Path | None:
    given = getattr(args, f"{prefix}data_dir", None)
    if given is None and name == args.dataset:
        given = getattr(args, "data_dir", None)
    if given is not None:
        return Path(given)
    return FOLDERS / name if DATASETS[name].has_files else None


def _open(
    args: argparse.Namespace,
    prefix: str,
    name: str,
    config: ModelConfig,
    train: bool,
    limited: bool = True,
) -> Dataset:
    names = (*SHARED_OPTIONS, *TRAINING_OPTIONS) if train else SHARED_OPTIONS
    dataset = open_for(
        config,
        name,
        _folder(args, prefix, name),
        getattr(args, f"{prefix}filename_list", None),
        train=train,
        seed=getattr(args, "seed", TrainingOptions.seed),
        skip_bad="skip_bad" in args and args.skip_bad,
        **{option: getattr(args, option, None) for option in names},
    )
    if config.limits is not None and limited and not train:
        keep_within(dataset, config.limits)
    return dataset


def _test_options(
    args: argparse.Namespace, prefix: str, name: str, filename_list: str | Path | None
) -> str:
    words = ["--dataset", name]
    folder = _folder(args, prefix, name)
    if folder is not None:
        words += ["--data_dir", str(folder)]
    if filename_list is not None:
        words += ["--filename_list", str(filename_list)]
    for option in SHARED_OPTIONS:
        if option in args and option in dataset_options(name):
            words += [f"--{option}", str(getattr(args, option))]
    if DATASETS[name].has_files and getattr(args, "skip_bad", False):
        words.append("--skip_bad")
    return shlex.join(words)


def for_synthetic_heads(config: ModelConfig, given: dict[str, Any]) -> ModelConfig:
    """The config of a network that learns from synthetic heads alone, from random weights.

    Around all annotated points, margins for tests are three times those of training, and take in a
    corner of the picture where a point is hidden. A network that never saw such crops misreads
    them, so it is tested by default with the margins that it was trained with.

    Args:
        config: the method's own.
        given: the fields that the command line sets.
    """
    preprocessing = config.preprocessing
    if preprocessing.crop.box == "points":
        preprocessing = dataclasses.replace(preprocessing, crop=AROUND_LANDMARKS)
    return dataclasses.replace(config, preprocessing=preprocessing, **{**config.quick, **given})


def make_model(
    args: argparse.Namespace, state: Path | None, say: Callable[[str], None] = print
) -> tuple[Estimator, bool]:
    """The network to train, and whether its weights were trained before this training."""
    if state is not None:
        stored, run, _ = read_run(state)
        return build(_as_asked(args, _config(stored, state))), bool(run.get("pretrained"))
    if "snapshot" not in args:
        config = make_config(args, args.model)
        if DATASETS[args.dataset].rendered and config.model_type in METHODS:
            config = for_synthetic_heads(config, model_options(args, args.model))
            return build(_sized(args, config)), False
        config = _sized(args, config)
        backbone = find_weights(f"{imagenet_name(config)}.safetensors")
        if backbone is None:
            return build(config), False
        args.snapshot = str(backbone)
    path = newest_weights(Path(args.snapshot))
    stored, tensors = read_network(path)
    if stored.get("model_type") == "backbone":
        model = build(_like_backbone(args, stored))
        load_strictly(model.backbone, tensors, path)
        return model, True
    config = _config(stored, path)
    method = config.model_type
    if method not in (*METHODS, *DETECTORS):
        raise InputError(f"{path}: is a {method} network, from which no training starts")
    if method != args.model:
        raise InputError(f"{path}: is a {method} network; add --model {method}")
    # What only training computes is the affair of this training's options.
    model = build(_as_asked(args, config.for_inference()))
    if new := load_to_train(model, tensors, path):
        say(f"{path} lacks what only training uses, so that begins at random: {', '.join(new)}.")
    return model, True


def imagenet_name(config: ModelConfig) -> str | None:
    """The name of the published ImageNet weights that the backbone's training begins from."""
    from ..convert.published import PUBLISHED

    name = f"imagenet-{getattr(config, 'arch', None)}"
    return name if name in PUBLISHED else None


def rate_warning(config: ModelConfig, lr: float) -> str | None:
    """What to say of a learning rate that is meant for pretrained weights, where there are none."""
    recipe = config.recipe
    if lr > RATE_FROM_NOTHING * recipe.lr_scratch:
        return None
    name = imagenet_name(config)
    ways = f"--lr {recipe.lr_scratch:g}, or leave --lr out"
    if name is not None:
        ways = f"`{command(f'convert --weight {name}')}` once, whose file is then found, or {ways}"
    return (
        f"Warning: at --lr {lr:g} random weights learn next to nothing; it is a rate for "
        f"pretrained ones, and there are none here. Run {ways}."
    )


def _config(stored: dict[str, Any], path: Path) -> ModelConfig:
    try:
        return config_from_dict(stored)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _as_asked(args: argparse.Namespace, config: ModelConfig) -> ModelConfig:
    """A network's config with the options that were given in place of its own."""
    return dataclasses.replace(_sized(args, config), **model_options(args, config.model_type))


def _sized(args: argparse.Namespace, config: ModelConfig) -> ModelConfig:
    """A config with the sizes and margins that were given."""
    size, crop = getattr(args, "input_size", None), getattr(args, "crop", False)
    if crop and config.inputs.landmarks:
        raise InputError("--crop is for networks that read images; leave it out")
    crop_size = getattr(args, "crop_size", type(config)().preprocessing.size)
    now = sized(config.preprocessing, size, crop, crop_size)
    if "crop_margin" in args:
        if not any(now.crop.train.factors):
            raise InputError("--crop_margin changes nothing: this network trains without margins")
        now = dataclasses.replace(now, crop=_with_margins(now.crop, args.crop_margin))
    return dataclasses.replace(config, preprocessing=now)


def _with_margins(crop: Crop, k: list[float]) -> Crop:
    """The crop with other margins in training."""
    if k[0] > k[1]:
        raise InputError(f"--crop_margin {k[0]:g} {k[1]:g}: the first is the smaller one")
    return dataclasses.replace(crop, train=dataclasses.replace(crop.train, k=tuple(k)))


def _like_backbone(args: argparse.Namespace, stored: dict) -> ModelConfig:
    """The method's config with the backbone's own architecture, unless options say otherwise."""
    config = _sized(args, make_config(args, args.model))
    fields = {field.name for field in dataclasses.fields(config)}
    same = {k: v for k, v in stored.items() if k in fields and k != "preprocessing"}
    return dataclasses.replace(config, **{**same, **model_options(args, args.model)})


def method_of(snapshot: str | None) -> str:
    """The method of a snapshot, where it says one; the default, where none does."""
    if snapshot is not None:
        with suppress(InputError):
            method = read_config(newest_weights(Path(snapshot))).get("model_type")
            if method in (*METHODS, *DETECTORS):
                return method
    return DEFAULT


def newest_weights(path: Path) -> Path:
    """A snapshot file, or the best or newest one of a training's folder."""
    if not path.is_dir():
        return path
    numbered = [p for p in path.rglob("*.safetensors") if p.stem.isdigit()]
    candidates = [path / "best.safetensors", path / "model.safetensors"]
    candidates += sorted(numbered, key=lambda p: int(p.stem), reverse=True)
    candidates += [path / "last.safetensors"]  # of a training that has no epoch yet
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"{path}: holds no snapshot; give a .safetensors file")
