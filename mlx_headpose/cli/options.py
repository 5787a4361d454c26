"""Options that commands share, and options made from a method's config."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from ..data import DATASETS, dataset_options
from ..errors import InputError
from ..methods import DEFAULT, METHODS, ModelConfig, config_class

FLAGS = {"crop": "crop_rule"}  # where an option of a dataset has another name on command lines


class Parser(argparse.ArgumentParser):
    """An argument parser whose help shows defaults and whose errors are one sentence."""

    def __init__(self, program: str, description: str, **kwargs: Any):
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def parse_given(self, arguments: list[str]) -> tuple[argparse.Namespace, set[str]]:
        """The options, and the names of those that the arguments give and that are no default."""
        options = self.parse_args(arguments)
        empty = argparse.Namespace(**dict.fromkeys(vars(options)))
        given = vars(self.parse_args(arguments, empty))
        return options, {name for name, value in given.items() if value not in (None, [])}

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def boolean(text: str) -> bool:
    """The spellings of true and false that the published commands use."""
    value = text.strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def positive(text: str) -> int:
    """A whole number of at least one."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number of at least zero."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return value


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def margin(text: str) -> float:
    """A margin around a box, as a share of it."""
    value = number(text)
    if not 0 <= value < 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 10")
    return value


def largest_yaw(text: str) -> float:
    """An angle above 0° and up to 180°."""
    value = number(text)
    if not 0 < value <= 180:
        raise argparse.ArgumentTypeError(f"{text!r} is not an angle above 0 and up to 180")
    return value


def add_model_options(parser: argparse.ArgumentParser, method: str) -> None:
    """Offer every `option(...)` field of a method's config. Unset ones stay None."""
    config = config_class(method)
    group = parser.add_argument_group(f"network ({method})")
    for field in dataclasses.fields(config):
        if "help" not in field.metadata:
            continue
        default: Any = field.default
        group.add_argument(
            f"--{field.name}",
            *field.metadata["flags"],
            dest=f"model_{field.name}",
            type={bool: boolean, float: number}.get(type(default), type(default)),
            choices=field.metadata["choices"],
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default: {default})",
        )


def model_options(arguments: argparse.Namespace, method: str) -> dict[str, Any]:
    """The config fields that were given on the command line."""
    names = [field.name for field in dataclasses.fields(config_class(method))]
    return {
        name: getattr(arguments, f"model_{name}")
        for name in names
        if hasattr(arguments, f"model_{name}")
    }


def make_config(arguments: argparse.Namespace, method: str, size: int | None = None) -> ModelConfig:
    """A method's config from the command line, for inputs of `size` pixels if it is not None."""
    config = config_class(method)(**model_options(arguments, method))
    if size is None:
        return config
    return dataclasses.replace(config, preprocessing=config.preprocessing.at_size(size))


def add_method_option(parser: argparse.ArgumentParser, default: str | None = DEFAULT) -> None:
    """`--model`, the method's name."""
    parser.add_argument("--model", choices=sorted(METHODS), default=default, help="method")


def refuse(given: set[str], names: Iterable[str], reason: str) -> None:
    """Stop if an option was given that has no use beside the others.

    Args:
        given: names of the options that were given.
        names: of those without a use.
        reason: why they have none, as a half sentence.

    Raises:
        InputError: there is one.
    """
    useless = sorted(given.intersection(names))
    if useless:
        raise InputError(f"--{' and --'.join(useless)}: {reason}; leave it out")


def refuse_unused(given: Iterable[str], datasets: Iterable[str]) -> None:
    """See that every option of a dataset that was given has a use.

    Args:
        given: names of options, as `dataset_options` has them.
        datasets: those that are read.

    Raises:
        InputError: none of the datasets takes an option.
    """
    datasets = list(dict.fromkeys(datasets))
    taken = set().union(*map(dataset_options, datasets))
    for option in given:
        if option not in taken:
            takers = ", ".join(name for name in DATASETS if option in dataset_options(name))
            raise InputError(
                f"--{FLAGS.get(option, option)} is for {takers}, not for {' and '.join(datasets)}; "
                "leave it out"
            )
