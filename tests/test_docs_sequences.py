"""Every block of commands and every Python block of the documentation runs as it stands.

The commands of a page run in its order, in one folder; `support/stand_ins.py` says what they find
there in place of downloads, datasets and long trainings. What cannot run here is in `NOT_RUN`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.documentation import PAGES, Block, blocks, commands
from support.stand_ins import environment, prepare

COMMANDS = ("", "bash")
OTHERS = ("python", "text", "toml", "cpp", "swift")  # `text` is output

# Beginning of a command → why no test runs it.
NOT_RUN = {
    ".venv/bin/python -m pytest": "is what runs this test",
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
    "swift test": "needs Swift",
    "HEADPOSE_MLX=": "needs Swift",
}


def is_run(command: str) -> bool:
    return not any(command.startswith(beginning) for beginning in NOT_RUN)


def command_blocks(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in COMMANDS]


@pytest.mark.parametrize("page", [page for page in PAGES if command_blocks(page)])
def test_commands(page: str, tmp_path: Path) -> None:
    prepare(tmp_path, page)
    for block in command_blocks(page):
        script = "".join(filter(is_run, commands(block)))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=1000,
        )
        assert done.returncode == 0, f"{page}:{block.line}: {done.stdout}{done.stderr}"
