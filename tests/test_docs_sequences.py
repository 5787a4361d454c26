"""Every block of commands and of Python in the documentation runs as it stands.

The commands of a page run in its order, in one folder; `support/stand_ins.py` says what they find
there in place of downloads, datasets and long trainings. A page's lines of Python are one program
in such a folder; `support/given.py` has what other programs bring to them. What cannot run here is
in `NOT_RUN`; marked blocks have a test elsewhere.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
from support.commands import ROOT
from support.documentation import PAGES, Block, blocks, commands
from support.stand_ins import environment, prepare, prepare_hub

from mlx_headpose import cli

COMMANDS = ("", "bash")
OTHERS = {"python", "text", "toml", "cpp", "swift"}  # `text` is output

# Beginning of a command → why no test runs it.
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt -e": "runs this test",
    "python -m pytest": "is what runs this test",
    "python predict.py --demo": "opens a window until somebody closes it",
    "python predict.py --source 0": "needs a camera",
    "python predict.py 0 --record": "needs a camera",
    "python predict.py --replay out.avi": "needs what the camera recorded",
    "(ulimit": "is to fail, after minutes",
    "mlx.distributed_config": "needs two Macs",
    "mlx.launch --hostfile": "needs two Macs",
    "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m bench.": "measures for minutes",
    "python -m bench.": "measures for minutes",
    "python train.py --model nlml": "fits a manifold for minutes; tests/test_nlml_training.py does",
    "python test.py --dataset AFLW2000 --data_dir datasets/AFLW2000 --filename_list test.txt": (
        "needs the training before it"
    ),
    "python export.py --snapshot weights/whenet.safetensors --quantize int8": (
        "calibrates for minutes; tests/test_quantization.py does on a smaller network"
    ),
    "python train.py --config weights/headdetector": "takes hours: its file says how many scenes",
    "python train.py --config weights/headpose-places.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-more.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-longer.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-further.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-closer.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-shoulders.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "python train.py --config weights/headpose-nearer.txt": (
        "begins with what bench/accuracy/calibrate.py writes, which takes minutes"
    ),
    "calibrate --data_dir": "takes minutes",
    "part longer ": "renders as `part more` does",
    "part further ": "renders as `part more` does",
    "part closer ": "renders as `part more` does",
    "part shoulders ": "renders as `part more` does",
    "part nearer ": "renders as `part more` does",
    "mlx-headpose selfcheck": "tests/test_selfcheck.py runs it",
    "swift test": "needs Swift",
    "HEADPOSE_MLX=": "needs Swift",
}


def is_run(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in NOT_RUN)


def command_blocks(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in COMMANDS]


def python_blocks(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python" and not block.mark]


@pytest.fixture
def folder(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder in which the page's lines run."""
    prepare(tmp_path, page)
    if page == "docs/hub.md":
        prepare_hub(request.getfixturevalue("hub"), tmp_path)
    return tmp_path


def run_in(folder: Path, place: str, program: Sequence[str]) -> None:
    done = subprocess.run(
        program,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=1000,
    )
    assert done.returncode == 0, f"{place}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if command_blocks(page)])
def test_commands(page: str, folder: Path) -> None:
    for block in command_blocks(page):
        script = "".join(filter(is_run, commands(block)))
        run_in(folder, f"{page}:{block.line}", ["bash", "-euo", "pipefail", "-c", script])


@pytest.mark.parametrize("page", [page for page in PAGES if command_blocks(page)])
def test_commands_suit_the_shell_of_a_mac(page: str) -> None:
    """zsh, as one types in it, takes comments for arguments and splits no variable into words."""
    for block in command_blocks(page):
        for command in commands(block):
            place = f"{page}:{block.line}: {command}"
            assert shlex.split(command, comments=True) == shlex.split(command), place
            assert not re.search(r'^\$\w+|^\w+="[^"$]* ', command), place


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_python(page: str, folder: Path) -> None:
    lines = [""] * max(block.line + block.text.count("\n") for block in python_blocks(page))
    for block in python_blocks(page):  # on its lines of the page, so that errors name these
        text = block.text.splitlines()
        lines[block.line - 1 : block.line - 1 + len(text)] = text
    (folder / "page.py").write_text("\n".join(lines), encoding="utf-8")
    run_in(folder, page, [sys.executable, "-m", "support.given", page, "page.py"])


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind(page: str) -> None:
    assert {block.language for block in blocks(page)} <= {*COMMANDS, *OTHERS}


def test_what_is_not_run_stands_on_a_page_and_has_options_that_exist() -> None:
    left = [
        command
        for page in PAGES
        for block in command_blocks(page)
        for command in commands(block)
        if not is_run(command)
    ]
    for beginning in NOT_RUN:
        assert any(command.startswith(beginning) for command in left), beginning
    for command in left:
        words = shlex.split(command.strip("()\n"), comments=True)
        program = next((word for word in words if word.startswith(("bench.", "predict"))), None)
        if program is None or program == "bench.FOLDER.NAME":
            continue
        if program == "predict.py":
            known = options_of_predict()
        else:
            folder = ROOT / "bench"
            known = (ROOT / f"{program.replace('.', '/')}.py").read_text("utf-8")
            known += "".join(path.read_text("utf-8") for path in folder.glob("reference/*.py"))
        for word in words:
            if word.startswith("--"):
                assert re.search(rf'{word}["\s,]', known), f"{program} has no {word}"


@cache
def options_of_predict() -> str:
    with redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
        cli.main("predict", ["--help"])
    return shown.getvalue()
