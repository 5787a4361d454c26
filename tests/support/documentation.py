"""The lines of the documentation that tests run."""

from __future__ import annotations

import re

from support.commands import ROOT

MARK = "<!-- a test runs these lines -->"


def marked_lines(page: str, language: str) -> list[str]:
    """The marked blocks of a language on a page of docs/, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"{re.escape(MARK)}\n```{language}\n(.*?)```", text, re.S)
