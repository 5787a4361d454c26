"""The commands: arguments and printing. Most have an entry script in the repository's root."""

from __future__ import annotations

import importlib
import io
import os
import sys

from .._version import __version__
from ..errors import InputError
from ..process import require_apple_silicon

COMMANDS = {
    "train": "train a network, on a dataset or on built-in synthetic heads",
    "test": "evaluate a snapshot by a dataset's published protocol",
    "predict": "estimate the pose of every head in images, videos or a webcam",
    "convert": "turn a published checkpoint into .safetensors",
    "leaderboard": "evaluate every network at hand and write one table of all",
    "export": "hand a network on to Swift, C++ or another framework",
    "create_filename_list": "list the samples of 300W-LP or AFLW2000 in a text file",
    "panoptic": "make head pose labels of CMU Panoptic recordings",
    "render": "render synthetic heads to a folder, a sheet of them, or the sprites of scenes",
    "selfcheck": "whether this machine computes what it should, and how fast",
    "environments": "make a folder of places for synthetic heads from panoramas of Poly Haven",
    "textures": "make a folder of surfaces for synthetic scenes from pictures",
    "makehuman": "make a head model for synthetic heads from MakeHuman's data folder",
}


def main(command: str | None = None, arguments: list[str] | None = None) -> None:
    """Run a command as a user types it, and exit.

    Args:
        command: one of `COMMANDS`; None reads it from the first argument.
        arguments: None means sys.argv's.

    Exits with 0, 1 where `selfcheck` finds something wrong, 2 for bad input (one sentence on
    stderr), or 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        require_apple_silicon()
        _run(command, arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _run(command: str | None, arguments: list[str]) -> None:
    from .. import methods  # loads MLX

    program = f"{command}.py"
    if command is None:
        if not arguments or arguments[0] in ("-h", "--help"):
            print("usage: mlx-headpose COMMAND [options]\n\ncommands:")
            lines = COMMANDS | {name: line for name, (_, line) in methods.commands().items()}
            width = max(map(len, lines))
            for name, what in lines.items():
                print(f"  {name:{width}} {what}")
            print("\n`mlx-headpose COMMAND --help` lists a command's options.")
            raise SystemExit(0 if arguments else 2)
        if arguments[0] == "--version":
            print(__version__)
            raise SystemExit(0)
        command, arguments = arguments[0], arguments[1:]
        program = f"mlx-headpose {command}"
    modules = {name: f"{__name__}.{name}" for name in COMMANDS}
    if command not in modules:
        modules |= {name: module for name, (module, _) in methods.commands().items()}
    if command not in modules:
        print(f"error: unknown command {command!r}; try: {', '.join(modules)}", file=sys.stderr)
        raise SystemExit(2)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    importlib.import_module(modules[command]).run(program, arguments)
