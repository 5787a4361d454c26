"""The options of `train.py`, grouped by subject."""

from __future__ import annotations

import argparse
from typing import Any

from ..methods import config_class
from ..training.options import OPTIMIZERS, SCHEDULES
from .datasets import BOXES
from .options import (
    Parser,
    add_method_option,
    add_model_options,
    boolean,
    largest_yaw,
    not_negative,
    number,
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
    _data(parser)
    _augmentation(parser)
    add_model_options(parser, method)
    _start(parser)
    _optimisation(parser, method)
    _output(parser)
    return parser


def _add(group: Any, name: str, *aliases: str, help: str, **kwargs: Any) -> None:
    """Add an option that is absent unless given; its aliases work but do not clutter the help."""
    for spelling in (name, *aliases):
        shown = help if spelling == name else argparse.SUPPRESS
        group.add_argument(
            spelling, dest=name.lstrip("-"), default=argparse.SUPPRESS, help=shown, **kwargs
        )


def _data(parser: Parser) -> None:
    group = parser.add_argument_group("data")
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
        help="camera effects that synthetic heads lack, with commas between, or none for all of "
        "them (default: none with --mesh, or else the plain camera)",
    )
    _add(group, "--mesh", help="head model (.npz) of synthetic heads (default: built-in heads)")
    _add(
        group,
        "--identities",
        type=positive,
        help="people that the head model shows (default: another one in each picture)",
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
        help="side of the network's input in pixels (default: the method's)",
    )
    group.add_argument("--skip_bad", action="store_true", help="leave out broken photos and count")
    group.add_argument(
        "--workers", type=not_negative, default=0, help="reading threads; 0 is one per core"
    )


def _augmentation(parser: Parser) -> None:
    group = parser.add_argument_group("augmentation")
    _add(
        group,
        "--augment",
        type=number,
        nargs="?",
        const=0.5,
        help="probability of augmenting a sample: one of flip, shift, crop, none; then one of "
        "blur, brightness-contrast, noise, none (default: 0.5)",
    )
    _add(
        group,
        "--flip",
        type=boolean,
        nargs="?",
        const=True,
        help="whether to mirror some (default: True)",
    )


def _start(parser: Parser) -> None:
    group = parser.add_argument_group("where to start")
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


def _optimisation(parser: Parser, method: str) -> None:
    recipe = config_class(method).recipe
    group = parser.add_argument_group("optimisation")
    _add(
        group,
        "--num_epochs",
        "--num_epoch",
        "--epochs",
        type=positive,
        help=f"passes over the training set (default: {recipe.epochs})",
    )
    _add(
        group,
        "--batch_size",
        type=positive,
        help=f"samples per step (default: {recipe.batch_size})",
    )
    _add(
        group,
        "--lr",
        type=number,
        help=f"learning rate (default: {recipe.lr:g} from pretrained weights, "
        f"{recipe.lr_scratch:g} from random ones)",
    )
    _add(
        group,
        "--optimizer",
        choices=OPTIMIZERS,
        help=f"how gradients become steps (default: {recipe.optimizer})",
    )
    _add(group, "--momentum", type=number, help="of sgd (default: 0.9)")
    _add(
        group,
        "--weight_decay",
        type=number,
        help=f"of adamw, or of sgd's gradient (default: {recipe.weight_decay:g})",
    )
    _add(
        group,
        "--head_lr_scale",
        type=number,
        help="learning rate of the parameters under --head_parameters, as a multiple of --lr "
        f"(default: {recipe.head_lr_scale:g} from pretrained weights, 1 from random ones)",
    )
    _add(
        group,
        "--head_parameters",
        nargs="+",
        metavar="NAME",
        help=f"beginnings of their names (default: {' '.join(recipe.head_parameters)})",
    )
    _add(
        group,
        "--freeze",
        nargs="+",
        metavar="MODULE",
        help="modules that do not train, such as backbone.conv1 backbone.bn1 (default: none)",
    )
    _add(
        group,
        "--schedule",
        choices=SCHEDULES,
        help="of the learning rate (default: constant from pretrained weights, cosine from random "
        "ones)",
    )
    group.add_argument(
        "--warmup", type=not_negative, default=0, help="steps of rising learning rate"
    )
    _add(
        group,
        "--milestones",
        nargs="+",
        type=positive,
        metavar="EPOCH",
        help="epochs after which the learning rate drops (default: "
        f"{' '.join(map(str, recipe.milestones)) or 'none'})",
    )
    _add(
        group,
        "--milestone_factor",
        type=number,
        help=f"by which factor (default: {recipe.milestone_factor:g})",
    )
    group.add_argument(
        "--clip_norm", type=number, default=0.0, help="largest norm of the gradient; 0 is no limit"
    )
    group.add_argument("--bfloat16", action="store_true", help="compute in bfloat16")
    group.add_argument("--seed", type=not_negative, default=0, help="of everything random")


def _output(parser: Parser) -> None:
    group = parser.add_argument_group("output and machine")
    _add(
        group,
        "--output_string",
        help="the folder is workdirs_<output_string> (default: <model>_<dataset>_<input_size>)",
    )
    group.add_argument(
        "--save_every", type=positive, default=1000, help="steps between saves within an epoch"
    )
    group.add_argument("--tensorboard", action="store_true", help="write TensorBoard's files too")
    group.add_argument(
        "--gpu", type=int, default=0, help="MLX finds the GPU by itself; -1 trains on the CPU"
    )
