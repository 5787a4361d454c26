"""What importing the package and asking for help load: nothing that they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_headpose.cli import COMMANDS
from mlx_headpose.methods import commands

# Of the packages that pip installs, what a parser may need: the methods' configs bring MLX.
ALLOWED = {"mlx", "numpy", "PIL", "safetensors", "tqdm"}
MAX_MODULES = 450  # of Python's own and of others, in 2026 about 380
LIST = "print('loaded:', *sorted(set(sys.modules) - before))"


def loaded_by(code: str) -> set[str]:
    """The modules that a new process loads for some code, without those of Python's start."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{code}\n{LIST}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("loaded: ")[2].split())


def foreign(modules: set[str]) -> set[str]:
    """The top-level packages among some modules that are neither Python's nor ours."""
    tops = {module.partition(".")[0] for module in modules}
    return {t for t in tops - sys.stdlib_module_names - {"mlx_headpose"} if not t.startswith("_")}


def test_importing_the_package_loads_nothing_else():
    modules = loaded_by("import mlx_headpose")
    assert "mlx_headpose.errors" in modules
    assert foreign(modules) == set()


def test_the_estimator_loads_no_more_than_pictures_need():
    modules = loaded_by("from mlx_headpose import HeadPoseEstimator")
    assert "mlx_headpose.inference.estimator" in modules
    assert foreign(modules) <= ALLOWED


@pytest.mark.parametrize("command", [*COMMANDS, *commands()])
def test_help_loads_nothing_that_it_does_not_use(command):
    modules = loaded_by(
        "from mlx_headpose.cli import main\n"
        f"try: main({command!r}, ['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0"
    )
    assert "argparse" in modules
    assert foreign(modules) <= ALLOWED
    assert not [m for m in modules if m.startswith("PIL.") and m.endswith("Plugin")]
    assert len(modules) < MAX_MODULES
