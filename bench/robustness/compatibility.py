"""Run tests under several Pythons, with the oldest and the newest allowed packages.

    python -m bench.robustness.compatibility --python 3.10 3.11 3.12 3.13 --output results.json

Each Python gets two environments of its own, made by uv (`pip install uv`) from wheels alone: one
with the lowest version of every package that pyproject.toml allows and that has a wheel for this
Python, one with the highest. The interpreters, names or paths, must be there already. PyTorch is
left out, because its newest wheel takes gigabytes, unless `--torch` names a version; tests that
need it skip.

`--without opencv-python-headless` stands for a Mac, where no package but ours asks for a NumPy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    *("pose_*", "nn_*", "weights", "files", "npy", "detector", "loader"),
    "training_loop",
)
TORCH_TESTS = ("convert", "nlml_convert", "commands")
# Old packages call what newer ones of their own needs have deprecated.
PYTEST = ("-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning")
SHOWN = (
    *("mlx", "numpy", "pillow", "scipy", "safetensors", "tqdm", "opencv-python-headless"),
    *("matplotlib", "h5py", "onnx", "onnxruntime", "torch"),
)
UNNEEDED = ("ruff", "mypy", "torch")  # for these tests


def main() -> None:
    """Make the environments, test in each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", default=["3.10", "3.11", "3.12", "3.13"])
    parser.add_argument("--resolution", nargs="+", default=["lowest-direct", "highest"])
    parser.add_argument("--torch", help="version to install too")
    parser.add_argument("--without", nargs="*", default=[], help="packages to leave out")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    results = []
    for python in options.python:
        for resolution in options.resolution:
            result = {"python": python, "resolution": resolution}
            with tempfile.TemporaryDirectory() as place:
                result |= test_in(Path(place) / "venv", python, resolution, options)
            print(json.dumps(result), flush=True)
            results.append(result)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(any(not result["passed"] for result in results))


def requirements(left_out: list[str]) -> list[str]:
    """What the tests need of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["convert"], *extras["plot"], *extras["dev"]]
    names = {*UNNEEDED, *left_out}
    return [r for r in wanted if re.split(r"[\[<>=;~! ]", r)[0].lower() not in names]


def test_in(venv: Path, python: str, resolution: str, options: argparse.Namespace) -> dict:
    """Make an environment and run the tests in it."""
    needed = requirements(options.without)
    if options.torch:
        needed.append(f"torch=={options.torch}")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", python, str(venv)], check=True)
    install = [*uv, "pip", "install", "--python", str(venv), "--only-binary", ":all:"]
    done = subprocess.run(
        [*install, "--resolution", resolution, *needed],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"passed": False, "why": done.stderr.strip()[-2000:]}
    listed = subprocess.run(
        [*uv, "pip", "list", "--python", str(venv), "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    exact = subprocess.run(
        [str(venv / "bin" / "python"), "--version"], capture_output=True, text=True, check=True
    )
    versions = {item["name"]: item["version"] for item in json.loads(listed.stdout)}
    names = [*TESTS, *(TORCH_TESTS if options.torch else ())]
    files = sorted(str(p) for t in names for p in (ROOT / "tests").glob(f"test_{t}.py"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-m", "pytest", *PYTEST, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {
        "passed": done.returncode == 0,
        "python": exact.stdout.split()[-1],
        "tests": done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr[-500:],
        "failed": failed,
        "versions": {name: versions[name] for name in SHOWN if name in versions},
    }


if __name__ == "__main__":
    main()
