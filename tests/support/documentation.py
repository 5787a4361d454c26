"""The blocks of the documentation: commands, Python, and lines that single tests run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from support.commands import ROOT

MARK = "<!-- a test runs these lines -->"
FILE_MARK = "<!-- a test runs this file -->"
# Every page of the project, wherever it lies; a virtual environment's are not ours.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "*/*.md", "*/*/*.md")
    for path in ROOT.glob(pattern)
    if not {".venv", ".pytest_cache"} & set(path.parts)
)
_BLOCK = re.compile(r"(?:^(<!-- [^\n]* -->)\n)?^```(\w*)\n(.*?)^```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: number of its first line on the page.
        language: what stands behind the fence; "" for commands.
        text: its lines.
        mark: the comment right before it, or "".
    """

    line: int
    language: str
    text: str
    mark: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text[: found.start(3)].count("\n") + 1
        yield Block(line, found[2], found[3], found[1] or "")


def marked_lines(page: str, language: str) -> list[str]:
    """The marked blocks of a language on a page of docs/, in order."""
    found = blocks(f"docs/{page}")
    return [block.text for block in found if block.mark == MARK and block.language == language]


def commands(block: Block) -> list[str]:
    """A block's commands, each whole: with its continued lines, as they stand."""
    found, waiting = [], ""
    for line in block.text.splitlines(keepends=True):
        waiting += line
        whole = subprocess.run(["bash", "-n", "-c", waiting], capture_output=True, check=False)
        if whole.returncode == 0 and not waiting.endswith("\\\n"):
            found.append(waiting)
            waiting = ""
    assert not waiting, f"line {block.line}: not whole: {waiting}"
    return found
