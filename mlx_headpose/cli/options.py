"""Options that commands share, and options made from a method's config."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from ..core.estimator import flag_of
from ..core.preprocessing import Preprocessing
from ..data import DATASETS, dataset_options
from ..errors import InputError
from ..methods import DEFAULT, DETECTORS, METHODS, ModelConfig, config_class

NUMBERS = re.compile(r"-[\d.]+(e[-+]?\d+)?,")
FLAGS = {"crop": "crop_rule"}  # where an option of a dataset has another name on command lines


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, where there is one and the help does not name it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose help shows defaults and whose errors are one sentence."""

    def __init__(self, program: str, description: str, **kwargs: Any):
        super().__init__(
            prog=program,
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
            **kwargs,
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse`; a list of numbers may begin with a minus, as in `--bbox -9,4,80,80`."""
        words = list(sys.argv[1:] if args is None else args)
        for i in range(len(words) - 1, 0, -1):
            if NUMBERS.match(words[i]) and words[i - 1].startswith("--"):
                words[i - 1 : i + 1] = [f"{words[i - 1]}={words[i]}"]
        return super().parse_known_args(words, namespace)

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


def not_negative_number(text: str) -> float:
    """A finite number of at least zero."""
    value = number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
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


def add_field(group: Any, field: dataclasses.Field, default: str, prefix: str = "") -> None:
    """Offer an `option(...)` field of a dataclass. Unless it is given, the result lacks it.

    Args:
        group: group of the parser.
        field: to offer.
        default: what holds without it, for `--help`.
        prefix: prefix of its name in the result.
    """
    about, value = field.metadata, field.default
    kind: Any = {float: number, bool: boolean, tuple: str}.get(type(value), type(value))
    if about["least"] is not None and kind is not number:
        kind = positive if about["least"] else not_negative
    how: dict[str, Any] = {"type": kind}
    if value is False:
        how = {"action": "store_true"}
    elif isinstance(value, tuple):
        how |= {"nargs": "+", "metavar": about["metavar"]}
    elif value is True or about["bare"] is not None:
        how |= {"nargs": "?", "const": True if value is True else about["bare"]}
    if about["choices"]:
        how["choices"] = about["choices"]
    flag = flag_of(field)
    text = (
        about["help"] if default in ("False", "None") else f"{about['help']} (default: {default})"
    )
    for spelling in (flag, *about["flags"][1:]):
        group.add_argument(
            spelling,
            dest=prefix + flag.lstrip("-"),
            default=argparse.SUPPRESS,
            help=text if spelling == flag else argparse.SUPPRESS,
            **how,
        )


def given_fields(arguments: argparse.Namespace, owner: type, prefix: str = "") -> dict[str, Any]:
    """Name → value of the `option(...)` fields of a dataclass that the command line gave."""
    given = {}
    for field in dataclasses.fields(owner):
        name = prefix + flag_of(field).lstrip("-") if field.metadata else ""
        if name in arguments:
            value = getattr(arguments, name)
            given[field.name] = tuple(value) if isinstance(value, list) else value
    return given


def as_text(value: Any) -> str:
    """A default as `--help` shows it."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_model_options(parser: argparse.ArgumentParser, method: str) -> None:
    """Offer every `option(...)` field of a method's config."""
    group = parser.add_argument_group(f"network ({method})")
    for field in dataclasses.fields(config_class(method)):
        if field.metadata:
            add_field(group, field, as_text(field.default), "model_")


def model_options(arguments: argparse.Namespace, method: str) -> dict[str, Any]:
    """The config fields that were given on the command line."""
    return given_fields(arguments, config_class(method), "model_")


def make_config(arguments: argparse.Namespace, method: str) -> ModelConfig:
    """A method's config from the command line."""
    return config_class(method)(**model_options(arguments, method))


def sized(now: Preprocessing, input_size: int | None, crop: bool, crop_size: int) -> Preprocessing:
    """A network's preprocessing with the sizes that were given; `train.py` and `test.py` agree.

    Args:
        now: the network's.
        input_size: side of the network's input, or, with `crop`, length that the crop is scaled to;
            None changes nothing.
        crop: whether the network reads only the middle of the scaled crop.
        crop_size: side of that middle.

    Raises:
        InputError: such sizes are impossible.
    """
    if crop:
        scaled = input_size or now.resize_to or now.size
        return dataclasses.replace(now, size=crop_size, resize_to=scaled)
    if input_size is None or input_size == now.size:
        return now
    return now.at_size(input_size)


def add_method_option(parser: argparse.ArgumentParser, default: str | None = DEFAULT) -> None:
    """`--model`, the method's name."""
    choices = sorted((*METHODS, *DETECTORS))
    parser.add_argument("--model", choices=choices, default=default, help="method")


def refuse(given: set[str], names: Iterable[str], reason: str) -> None:
    """Stop if an option was given that has no use beside the others.

    Args:
        given: names of the options that were given.
        names: names of those without a use.
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
