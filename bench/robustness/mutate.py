"""Mutation testing: break the code in small ways and see whether a test notices.

    python -m bench.robustness.mutate pose --sample 150

A mutant is one change of one file: another comparison or operator, a number more by one, a negated
condition, a statement left out, a result that is None. Text that people read is left alone. The
mutant is written into a copy of the repository, and the tests that belong to the file run there in
a process forked from one that has the libraries loaded already. A mutant survives if all of them
pass.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("mlx_headpose", "convert", "tests", "bench", "docs", "examples")
LIBRARIES = (
    *("hypothesis", "hypothesis.extra.numpy", "mlx.nn", "mlx.optimizers", "numpy", "PIL.Image"),
    *("pytest", "scipy.io", "scipy.spatial.transform", "safetensors", "tqdm"),
)
MORE = {"pose": (), "checkpoint": ("matplotlib.figure",), "convert": ("torch", "h5py", "onnx")}
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
POSE = [f"pose_{name}" for name in ("rotations", "bins", "metrics", "golden")]
# group → file → the tests that belong to it, the quickest first.
GROUPS = {
    "pose": {
        "mlx_headpose/pose/rotations.py": ["pose_rotations"],
        "mlx_headpose/pose/bins.py": ["pose_bins", "pose_golden"],
        "mlx_headpose/pose/metrics.py": ["pose_metrics"],
        "mlx_headpose/pose/arrays.py": POSE,
    },
    "checkpoint": {
        "mlx_headpose/files.py": ["files"],
        "mlx_headpose/training/checkpoint.py": ["checkpoint"],
        "mlx_headpose/weights.py": ["weights", "hopenet"],
    },
    "convert": {
        "mlx_headpose/convert/__init__.py": ["convert"],
        "mlx_headpose/readers/checkpoint_file.py": ["convert", "hostile_checkpoints"],
        "mlx_headpose/methods/hopenet/checkpoint.py": ["convert"],
        "mlx_headpose/readers/h5.py": ["convert", "whenet"],
        "mlx_headpose/methods/whenet/checkpoint.py": ["whenet"],
        "mlx_headpose/readers/pickled_npy.py": ["npy", "nlml_convert", "hostile_checkpoints"],
        "mlx_headpose/methods/nlml/checkpoint.py": ["nlml_convert"],
        "mlx_headpose/methods/pyramid/checkpoint.py": ["pyramid"],
        "mlx_headpose/methods/tokenhpe/checkpoint.py": ["tokenhpe"],
        "mlx_headpose/detection/yunet_checkpoint.py": ["detector"],
    },
}
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Add,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


def main() -> None:
    """Make mutants of a group's files, test them, and print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--file", help="only files whose path contains this")
    parser.add_argument("--sample", type=int, help="number of mutants drawn from all")
    parser.add_argument("--first", type=int, default=0, help="of them to begin with, to go on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after that")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one mutant")
    parser.add_argument("--output", type=Path, help="JSON file of the survivors")
    options = parser.parse_args()
    files = {f: t for f, t in GROUPS[options.group].items() if (options.file or "") in f}
    every = [(file, *mutant) for file in files for mutant in mutants((ROOT / file).read_text())]
    wanted = min(options.sample or len(every), len(every))
    chosen = random.Random(options.seed).sample(every, wanted)[options.first :]
    print(f"{len(every)} mutants of {len(files)} files, {wanted} to be tried", flush=True)
    began = time.perf_counter()
    load_libraries(*LIBRARIES, *MORE[options.group])
    fates: dict[str, Counter[str]] = {file: Counter() for file in files}
    survivors = []
    with tempfile.TemporaryDirectory() as place:
        repository = copy_of_the_repository(Path(place))
        for file in files:
            fate = fate_of(repository, files[file], options.timeout)
            if fate != "survived":
                raise SystemExit(f"{file}: its tests must pass before the code is broken: {fate}")
        for file, what, text in chosen:
            if time.perf_counter() - began > 60 * options.minutes:
                break
            (repository / file).write_text(text())
            started = time.perf_counter()
            fate = fate_of(repository, files[file], options.timeout)
            shutil.copy(ROOT / file, repository / file)
            fates[file][fate] += 1
            if fate == "survived":
                survivors.append({"file": file, "change": what})
                seconds = time.perf_counter() - started
                print(f"survived: {file}:{what} ({seconds:.0f} s)", flush=True)
    for file, counts in fates.items():
        print(f"{file}: {dict(counts)}")
    total = sum(fates.values(), Counter())
    print(f"{options.group}: {sum(total.values())} mutants: {dict(total)}")
    if options.output:
        options.output.write_text(json.dumps(survivors, indent=2) + "\n")


def load_libraries(*names: str) -> None:
    """Import what takes long, so that each mutant's process has it; none may start a thread."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module("mlx_headpose")  # for the fast BLAS, which must come before MLX
    for name in names:
        importlib.import_module(name)
    sys.path.remove(str(ROOT))
    for name in [name for name in sys.modules if name.split(".")[0] == "mlx_headpose"]:
        del sys.modules[name]


def copy_of_the_repository(place: Path) -> Path:
    """What the tests need, in a place where it may be broken."""
    repository = place / "repository"
    repository.mkdir()
    for name in COPIED:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, repository / name, symlinks=True, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, repository)
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (place / "shared").symlink_to(shared.resolve())
    return repository


def fate_of(repository: Path, tests: list[str], timeout: float) -> str:
    """Run tests in a forked process: "survived", "killed" or "timed out"."""
    child = os.fork()
    if child == 0:
        run_tests(repository, [f"tests/test_{name}.py" for name in tests])
    deadline = time.perf_counter() + timeout
    while time.perf_counter() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if status == 0 else "killed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timed out"


def run_tests(repository: Path, files: list[str]) -> None:
    """Run pytest on the mutant and end the process with its status."""
    import pytest
    from hypothesis import Phase, settings

    # One failing example is enough; making it smaller takes longer than finding it.
    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutants")
    os.setpgid(0, 0)
    os.chdir(repository)
    sys.path.insert(0, str(repository))
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    there = [file for file in files if Path(file).exists()]
    os._exit(pytest.main([*PYTEST, *there]))


def mutants(source: str) -> list[tuple[str, Callable[[], str]]]:
    """Every mutant of a file: "line: what changed", and what makes the whole text."""
    tree = ast.parse(source)

    def text(path: Place, change: ast.AST) -> str:
        mutant = copy.deepcopy(tree)
        replace(mutant, path, change)
        return ast.unparse(ast.fix_missing_locations(mutant))

    found = []
    for path, node in places(tree):
        for change in changes(node):
            before, after = ast.unparse(node), ast.unparse(change)
            if before != after:
                what = f"{node.lineno}: {before[:70]} → {after[:70]}".replace("\n", " ")
                found.append((what, partial(text, path, change)))
    return found


Place = tuple[tuple[str, int | None], ...]


def places(node: ast.AST, path: Place = ()) -> Iterator[tuple[Place, ast.AST]]:
    """The nodes that may change, with the way to them; text for people is passed over."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            way = (*path, (name, index))
            yield way, child
            yield from places(child, way)


def replace(tree: ast.AST, path: Place, new: ast.AST) -> None:
    """Put a node where another one is."""
    for name, index in path[:-1]:
        tree = getattr(tree, name) if index is None else getattr(tree, name)[index]
    name, index = path[-1]
    if index is None:
        setattr(tree, name, new)
    else:
        getattr(tree, name)[index] = new


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may become."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            new = copy.deepcopy(node)
            new.ops[i] = COMPARISONS[type(operator)]()
            yield new
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        new = copy.deepcopy(node)
        new.op = OPERATORS[type(node.op)]()
        yield new
    elif isinstance(node, ast.BoolOp):
        new = copy.deepcopy(node)
        new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield new
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.copy_location(ast.Constant(not node.value), node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.copy_location(ast.Constant(node.value + 1), node)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        new = copy.deepcopy(node)
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield new
    elif isinstance(node, ast.Return) and node.value is not None:
        yield ast.copy_location(ast.Return(ast.Constant(None)), node)
    elif isinstance(node, ast.Continue):
        yield ast.copy_location(ast.Break(), node)
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign):
        yield ast.copy_location(ast.Pass(), node)


if __name__ == "__main__":
    main()
