"""`python train.py`: train a network, on a dataset or on built-in synthetic heads."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from ..data import dataset_name
from ..errors import InputError
from ..files import write_lines
from ..methods import DETECTORS, METHODS, ModelConfig
from ..places import command
from ..training.checkpoint import Progress, Workdir, find_state, is_state, read_run
from ..training.distributed import Processes
from ..training.live import with_unit
from ..training.loop import Stopped, Training
from ..training.options import TrainingOptions
from .options import Parser, given_fields, refuse
from .train_options import make_parser
from .train_start import (
    HELD_OUT_LIST,
    chosen_dataset,
    make_model,
    method_of,
    open_sets,
    rate_warning,
)

PICTURE_OPTIONS = [
    field.name
    for field in dataclasses.fields(TrainingOptions)
    if field.metadata.get("group") == "augmentation"
]
# What is quoted or escaped, and comments: a # that begins a word, and what follows in its line.
QUOTED_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*'|\\.)|(?<!\S)#.*""")


def run(program: str, arguments: list[str]) -> None:
    """Train as the command line says, and say how to test what came out."""
    args, state = parse(program, arguments)
    # A training that goes on keeps its options, of which older versions ignored some.
    given = set(vars(args)) if state is None else set()
    if not getattr(args, "crop", False):
        refuse(given, ("crop_size",), "is for --crop 1")
    if args.gpu < 0:
        mx.set_default_device(mx.cpu)
    processes = Processes()
    say: Callable[[str], None] = print if processes.rank == 0 else lambda line: None
    mx.random.seed(getattr(args, "seed", TrainingOptions.seed))
    given_weights = "snapshot" in args
    model, pretrained = make_model(args, state, say)
    for name in (*PICTURE_OPTIONS, "crop_margin"):
        if name in args and not model.config.inputs.augments:
            raise InputError(f"--{name} is for networks that read crops of heads; leave it out")
    if "input_size" in args and model.config.inputs.landmarks:
        raise InputError("--input_size is for networks that read images; leave it out")
    options = training_options(args, model.config, pretrained)
    roll = model.config.largest_roll
    if roll is not None and options.turn > roll:
        raise InputError(
            f"--turn {options.turn:g}: {model.config.model_type} can answer no roll beyond "
            f"{roll:g} degrees; give a smaller angle, such as 45, or a --model that answers all"
        )
    if options.head_lr_scale == 1:
        refuse(given, ("head_parameters",), "has no use while --head_lr_scale is 1")
    if pretrained and state is None and not given_weights:
        say(f"Begins from {args.snapshot}, the published ImageNet weights.")
    if not pretrained and (warning := rate_warning(model.config, options.lr)):
        say(warning)
    workdir = Workdir(workdir_path(args))
    if state is not None and state != workdir.state:
        require_more_epochs(state, options)
    sets = open_sets(args, model.config, workdir.folder, say)
    parameters = sum(value.size for value in dict(tree_flatten(model.parameters())).values())
    say(
        f"{describe(model.config)}, {parameters / 1e6:.1f} M parameters"
        f"{', pretrained' if pretrained else ''}: {len(sets.training)} training and "
        f"{len(sets.validation)} validation samples, {options.epochs} epochs, batch "
        f"{options.batch_size}, lr {options.lr:g} → {workdir.folder}/"
    )
    with workdir.locked() if processes.rank == 0 else nullcontext():
        training = Training(
            model,
            sets.training,
            sets.validation,
            workdir,
            options,
            processes=processes,
            run={"arguments": vars(args), "pretrained": pretrained},
            say=say,
        )
        if processes.rank == 0 and sets.held_out is not None:
            write_lines(workdir.folder / HELD_OUT_LIST, sets.held_out)
        if state is not None:
            training.restore(state)
            progress = training.progress
            say(f"Goes on after epoch {progress.epoch}, step {progress.step} ({state}).")
        try:
            progress = training.run()
        except Stopped:
            say(f"Stopped and saved. To go on: {command_to_go_on(workdir)}")
            raise SystemExit(130) from None
    say(closing_sentence(progress, workdir, sets.test, model.config.criterion))


def command_to_go_on(workdir: Workdir) -> str:
    """What resumes a training; its --output_string may hold folders."""
    name = shlex.quote(str(workdir.folder).removeprefix("workdirs_"))
    return command(f"train --output_string {name} --resume")


def describe(config: ModelConfig) -> str:
    """The method and its choices: "hopenet (arch resnet50, norm batch, alpha 1.0)"."""
    fields = [field.name for field in dataclasses.fields(config) if "help" in field.metadata]
    choices = ", ".join(f"{name} {getattr(config, name)}" for name in fields)
    return f"{config.model_type} ({choices})" if choices else config.model_type


def parse(program: str, arguments: list[str]) -> tuple[argparse.Namespace, Path | None]:
    """The options, and the state file of the training that is to go on, if one is.

    A resumed training keeps the options it was started with, except those given anew.
    """
    arguments = with_config_file(program, arguments)
    peek = Parser(program, "", add_help=False)
    peek.add_argument("--model")
    peek.add_argument("--snapshot", "--weights")
    known = peek.parse_known_args(arguments)[0]
    parser = make_parser(program, known.model or method_of(known.snapshot))
    # A training that goes on may be of another method, whose options are not known yet.
    args, _ = parser.parse_known_args(arguments)
    args.explicit_dataset = "dataset" in args
    args.dataset = chosen_dataset(args)
    there = Workdir(workdir_path(args))
    resumes = args.resume and is_state(there.state)
    state, begins = None, "starts from the beginning"
    if resumes:
        state = there.state
    elif not args.transfer:
        if "snapshot" not in args:
            raise InputError("--transfer 0 goes on with a training; say which by --snapshot")
        state = find_state(Path(args.snapshot))
        begins = f"goes on from {state}"
    if state is None:
        parser.parse_args(arguments)  # refuses unknown options
        if not args.resume:
            refuse_to_overwrite(args, None)
    if args.resume and not resumes:
        print(f"{there.folder}: nothing to resume yet; {begins}")
    if state is None:
        return args, None
    stored = read_run(state)[1].get("arguments")
    if not isinstance(stored, dict) or stored.get("model") not in (*METHODS, *DETECTORS):
        raise InputError(f"{state}: train.py did not write it, so it cannot go on with it")
    if known.model not in (None, stored["model"]):
        raise InputError(f"{state}: is a training of {stored['model']}; leave --model out")
    if resumes and known.snapshot not in (None, stored.get("snapshot")):
        raise InputError(f"--resume goes on from {state}; leave --snapshot out")
    parser = make_parser(program, stored["model"])
    parser.set_defaults(**stored)
    args = parser.parse_args(arguments)
    args.dataset = dataset_name(args.dataset)
    refuse_to_overwrite(args, state)
    return args, state


def with_config_file(program: str, arguments: list[str]) -> list[str]:
    """The arguments with those of `--config` in front, which the others override."""
    peek = Parser(program, "", add_help=False)
    peek.add_argument("--config", default=None)
    path = peek.parse_known_args(arguments)[0].config
    if path is None:
        return arguments
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        # shlex takes a # inside a word for a comment as well.
        words = shlex.split(QUOTED_OR_COMMENT.sub(lambda found: found[1] or "", text))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: no file of options ({reason}); check --config") from None
    if any(word == "--config" or word.startswith("--config=") for word in words):
        raise InputError(f"{path}: names another file by --config; put its options into this one")
    return words + arguments


def refuse_to_overwrite(args: argparse.Namespace, state: Path | None) -> None:
    """Stop where the folder holds another training than the one that goes on, if one does."""
    there = Workdir(workdir_path(args)).state
    if there.exists() and not (state is not None and there.samefile(state)):
        raise InputError(
            f"{there.parent}: holds a training already; add --resume to go on with it, or choose "
            "another --output_string"
        )


def workdir_path(args: argparse.Namespace) -> Path:
    """`workdirs_<output_string>`."""
    size = f"_{args.input_size}" if "input_size" in args else ""
    return Path(f"workdirs_{getattr(args, 'output_string', f'{args.model}_{args.dataset}{size}')}")


def training_options(
    args: argparse.Namespace, config: ModelConfig, pretrained: bool
) -> TrainingOptions:
    """The method's recipe with what the command line says in its place."""
    given = given_fields(args, TrainingOptions)
    return TrainingOptions.from_recipe(config.recipe, pretrained=pretrained, **given)


def require_more_epochs(state: Path, options: TrainingOptions) -> None:
    """See that a training which goes on in another folder has something left to do.

    Raises:
        InputError: it has all its epochs.
    """
    done = read_run(state)[2].epoch
    if done >= options.epochs:
        raise InputError(
            f"{state}: has {done} epochs, and --num_epochs asks for {options.epochs} in all; ask "
            "for more"
        )


def closing_sentence(
    progress: Progress, workdir: Workdir, test: str | None, criterion: str = "mae"
) -> str:
    """The best epoch, its error, and, given the set's options, the command that tests it."""
    if not progress.best_epoch:
        return (
            f"No epoch has an error on this validation set: {progress.epoch} were done before, and "
            "--num_epochs asks for no more; ask for more to have a best one."
        )
    best = shlex.quote(str(workdir.best))
    line = f"test {test} --snapshot {best}"
    return (
        f"Best: epoch {progress.best_epoch}, validation "
        f"{with_unit(criterion, progress.best_mae)}. "
        f"{f'Test it: {command(line)}' if test else f'It is {best}.'}"
    )
