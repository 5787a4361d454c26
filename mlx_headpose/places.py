"""Where weights lie, and what commands are called, in this kind of installation."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path("weights")
VARIABLE = "MLX_HEADPOSE_WEIGHTS"
# Beside the package in a checkout, and nowhere in a wheel.
_ENTRY_SCRIPTS = Path(__file__).parent.parent


def command(line: str) -> str:
    """A command as users of this installation type it.

    Args:
        line: its name and arguments, such as "convert --list".
    """
    name, _, arguments = line.partition(" ")
    script = (_ENTRY_SCRIPTS / f"{name}.py").is_file()
    return f"{f'python {name}.py' if script else f'mlx-headpose {name}'} {arguments}".rstrip()


def user_folder() -> Path:
    """The user's own folder of weights: $MLX_HEADPOSE_WEIGHTS, or the system's place for data."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    import platformdirs

    return platformdirs.user_data_path("mlx-headpose", appauthor=False) / "weights"


def find_weights(*names: str) -> Path | None:
    """The first file of one of these names in ./weights or the user's own folder."""
    for folder in (FOLDER, user_folder()):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def new_weights(name: str) -> Path:
    """Where a download or conversion of that name goes.

    That is ./weights in a checkout and wherever there is such a folder; else, or where
    $MLX_HEADPOSE_WEIGHTS is set, the user's own.
    """
    checkout = (_ENTRY_SCRIPTS / "convert.py").is_file()
    here = (checkout or FOLDER.is_dir()) and not os.environ.get(VARIABLE)
    return (FOLDER if here else user_folder()) / name
