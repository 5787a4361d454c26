"""The options of `train.py`, grouped by subject."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ..methods import config_class
from ..training.options import TrainingOptions
from .datasets import BOXES
from .options import (
    Parser,
    add_field,
    add_method_option,
    add_model_options,
    as_text,
    boolean,
    largest_yaw,
    margin,
    positive,
)


def make_parser(program: str, method: str) -> Parser:
    """The options of training one method.

    An option that nobody gives is absent from the result where its default depends on the method,
    the weights or the dataset; its help says what then holds.
    """
    parser = Parser(program, "Train a network, on a dataset or on built-in synthetic heads.")
    parser.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        help="text file of options as they would stand here; those that do stand here override "
        "it, and # begins a comment",
    )
    add_method_option(parser, method)
    groups = {name: parser.add_argument_group(name) for name in ("data", "augmentation")}
    _data(groups["data"])
    add_model_options(parser, method)
    _start(parser.add_argument_group("where to start"))
    groups["optimisation"] = parser.add_argument_group("optimisation")
    groups["output"] = parser.add_argument_group("output and machine")
    _output(groups["output"])
    _training(groups, method)
    return parser


def _add(group: Any, name: str, *aliases: str, help: str, **kwargs: Any) -> None:
    """Add an option that is absent unless given; its aliases work but do not clutter the help."""
    for spelling in (name, *aliases):
        shown = help if spelling == name else argparse.SUPPRESS
        group.add_argument(
            spelling, dest=name.lstrip("-"), default=argparse.SUPPRESS, help=shown, **kwargs
        )


def _data(group: Any) -> None:
    _add(
        group,
        "--dataset",
        help="300W_LP, AFLW2000, synthetic, ... (default: 300W_LP if datasets/300W_LP is there, "
        "or else synthetic heads)",
    )
    _add(group, "--data_dir", help="its folder (default: datasets/<dataset>)")
    _add(group, "--filename_list", help="text file of its samples (default: the whole folder)")
    _add(
        group,
        "--samples",
        type=positive,
        help="number of synthetic or rendered heads (default: the set's own)",
    )
    _add(
        group,
        "--yaw",
        type=largest_yaw,
        help="largest yaw of synthetic or rendered heads in degrees (default: what suits the crop)",
    )
    _add(
        group,
        "--camera_without",
        help="camera effects that synthetic heads lack, separated by commas, or none for all of "
        "them (default: none with --mesh, or else the plain camera)",
    )
    _add(group, "--mesh", help="head model (.npz) of synthetic heads (default: built-in heads)")
    _add(
        group,
        "--identities",
        type=positive,
        help="people that the head model shows (default: another one in each image)",
    )
    _add(
        group,
        "--val_dataset",
        help="validation set (default: for synthetic and rendered heads their own; AFLW2000 if "
        "datasets/AFLW2000 is there; or else the last twentieth of the training set, which then "
        "does not train)",
    )
    _add(group, "--val_data_dir", help="its folder (default: datasets/<val_dataset>)")
    _add(group, "--val_filename_list", help="text file of its samples (default: the whole folder)")
    _add(
        group,
        "--split",
        help="division that the dataset has, such as sequence for BIWI: its training part trains, "
        "its test part validates (default: none)",
    )
    _add(group, "--boxes", help=BOXES)
    _add(
        group,
        "--input_size",
        "--target_size",
        type=positive,
        help="side of the network's input in pixels, or, with --crop 1, of the scaled crop "
        "(default: the method's)",
    )
    _add(
        group,
        "--crop",
        type=boolean,
        help="whether the network reads only the central --crop_size of that (default: no)",
    )
    _add(
        group,
        "--crop_size",
        type=positive,
        help="pixels that --crop keeps (default: the method's input size)",
    )
    _add(
        group,
        "--crop_margin",
        type=margin,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="least and largest margin k around the box of a face in training (default: the "
        "method's, or those of the --snapshot)",
    )


def _start(group: Any) -> None:
    _add(
        group,
        "--snapshot",
        "--weights",
        help="a snapshot, a converted backbone, or, to go on, a training's folder (default: none)",
    )
    group.add_argument(
        "--transfer",
        type=int,
        choices=(0, 1),
        default=1,
        help="1 takes only the weights of --snapshot; 0 goes on with its epoch and optimizer",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the training of this --output_string, with the options it had",
    )


def _training(groups: dict[str, Any], method: str) -> None:
    """Offer the fields of `TrainingOptions`, with the defaults of the method's recipe."""
    recipe = config_class(method).recipe
    pretrained, scratch = (
        TrainingOptions.from_recipe(recipe, pretrained=start) for start in (True, False)
    )
    for field in dataclasses.fields(TrainingOptions):
        first, second = (as_text(getattr(o, field.name)) for o in (pretrained, scratch))
        both = f"{first} from pretrained weights, {second} from random ones"
        add_field(groups[field.metadata["group"]], field, first if first == second else both)


def _output(group: Any) -> None:
    _add(
        group,
        "--output_string",
        help="the folder is workdirs_<output_string> (default: <model>_<dataset>_<input_size>)",
    )
    group.add_argument(
        "--gpu", type=int, default=0, help="MLX finds the GPU by itself; -1 trains on the CPU"
    )
