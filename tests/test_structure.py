"""The layout of the package: who may import whom, and where methods may be named."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from mlx_headpose.methods import FITTED, METHODS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mlx_headpose"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = re.compile("|".join((*METHODS, *FITTED, "hopelessnet")), re.IGNORECASE)
# The published protocols of datasets are data, and are called by their authors' names.
# So are other programs' conventions of angles.
MAY_NAME_METHODS = {"methods", "data", "pose"}


NETWORK_FILES = {"__init__", "network", "fitted", "inputs", "model", "cosines", "search", "tucker"}


def area(path: Path) -> str:
    """Row of the table that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] == "methods" and parts[-1] not in NETWORK_FILES:
        return "extras"
    return "mlx_headpose" if parts[0] in ("__init__", "__main__", "_version") else parts[0]


def table() -> dict[str, set[str]]:
    """The table of docs/design.md: area → the areas that it may import."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    may: dict[str, set[str]] = {}
    for areas, imports in rows:
        names = set(re.findall(r"`([a-z_0-9]+)", imports))
        names |= {"above"} if imports.startswith("everything") else set()
        for name in re.findall(r"`([a-z_0-9]+)", areas):
            may[name] = names
    return may


def imported(path: Path) -> set[str]:
    """Areas that a module imports, inside functions too; type checkers' imports left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parent.parts
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in only_types:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] != "mlx_headpose" or len(parts) == 1:
                continue
            inside = PACKAGE / parts[1]
            known = inside.is_dir() or inside.with_suffix(".py").is_file()
            found.add(parts[1] if known and parts[1] != "_version" else "mlx_headpose")
    own = {area(path)} | ({"methods"} if area(path) == "extras" else set())
    return found - own


def test_the_table_knows_every_area() -> None:
    assert set(table()) == {area(path) for path in MODULES}


@pytest.mark.parametrize("name", sorted({area(path) for path in MODULES}))
def test_imports_follow_the_table(name: str) -> None:
    may = table()[name] | {"mlx_headpose"}
    if "above" in may:
        return
    for path in MODULES:
        if area(path) == name:
            assert imported(path) <= may, f"{path.relative_to(ROOT)} imports more than it may"


def test_the_imports_make_no_circle() -> None:
    edges = {name: set() for name in table()}
    for path in MODULES:
        edges[area(path)] |= imported(path) - {"mlx_headpose"}
    while edges:
        ends = {name for name, targets in edges.items() if not targets & set(edges)}
        assert ends, f"these import each other: {sorted(edges)}"
        edges = {name: targets for name, targets in edges.items() if name not in ends}


def code_words(path: Path) -> list[str]:
    """Names and strings of a module; comments and docstrings, which may cite, are left out."""
    source = path.read_text(encoding="utf-8")
    docstrings = {
        node.body[0].lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
    }
    return [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in (tokenize.NAME, tokenize.STRING) and token.start[0] not in docstrings
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_methods_are_named_in_their_folders_alone(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] in MAY_NAME_METHODS:
        return
    named = [word for word in code_words(path) if NAMES.search(word)]
    assert not named


def test_no_links() -> None:
    assert not [path for path in ROOT.rglob("*") if path.is_symlink() and ".venv" not in path.parts]
