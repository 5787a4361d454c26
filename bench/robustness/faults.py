"""Kill the commands at random moments and look at what is left.

    python -m bench.robustness.faults --training 80 --conversion 40 --export 40 --caching 40

Each trial runs a command in a process of its own and ends it with SIGKILL: every second one at any
moment, the others within 50 ms after a file under way appears. Afterwards every
file that is not hidden must open. A training is resumed after each kill; when it reaches its end,
its weights, its optimizer and its log must be those of a training that nobody disturbed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import mlx.core as mx
import numpy as np
import onnx
import torch
from PIL import Image
from scipy.io import savemat
from support.toy_training import main as train

from mlx_headpose.cli import main as command
from mlx_headpose.data import open_dataset
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.training.checkpoint import is_state, read_run
from mlx_headpose.weights import save_pretrained, tensors_of

LISTED = 600
sys.modules["matplotlib.figure"] = None  # drawing curves takes longer than the rest of a trial


def main() -> None:
    """Run the trials and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in (("training", 80), ("conversion", 40), ("export", 40), ("caching", 40)):
        parser.add_argument(f"--{name}", type=int, default=count, help="number of kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        in_a_process(write_network)
        if options.training:
            kill_trainings(options.training, rng)
        if options.conversion:
            arguments = ["--weight", "published.pkl", "--output", "converted/network.safetensors"]
            kill_command("conversion", options.conversion, rng, "convert", arguments)
        for form, count in (
            ("mlxfn", options.export // 2),
            ("onnx", options.export - options.export // 2),
        ):
            if count:
                arguments = ["--snapshot", "network.safetensors", "--format", form]
                arguments += ["--output", f"out/network.{form}"]
                if form == "mlxfn":
                    arguments += ["--for", "current", "--device", "cpu"]
                kill_command(f"export to {form}", count, rng, "export", arguments)
        if options.caching:
            make_pictures(Path("listed"), LISTED)
            kill_caching(options.caching, rng)
    print(f"all well, {time.perf_counter() - started:.0f} s")


def make_pictures(folder: Path, count: int) -> None:
    """A folder in the form of 300W-LP: small JPEGs of noise, each with its `.mat` file."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(folder / f"{i}.jpg")
        pose = rng.uniform(-0.8, 0.8, (1, 7))
        savemat(folder / f"{i}.mat", {"Pose_Para": pose, "pt2d": rng.uniform(20, 70, (2, 68))})


def start(action: Callable[[], object]) -> int:
    """Run an action in a forked process, silent; its exit status is the action's."""
    child = os.fork()
    if child:
        return child
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        if not os.environ.get("FAULTS_SHOW"):
            os.dup2(nowhere.fileno(), 2)
    status = 1
    try:
        action()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os._exit(status)


def in_a_process(action: Callable[[], object]) -> float:
    """Run an action to its end; MLX's threads must not begin in the process that forks.

    Returns:
        The seconds it took.
    """
    started = time.perf_counter()
    status = os.waitpid(start(action), 0)[1]
    if status:
        raise SystemExit(f"an undisturbed process ended with status {status}")
    return time.perf_counter() - started


def kill(child: int, seconds: float, folder: Path | None, rng: np.random.Generator) -> bool:
    """Kill a process at a moment.

    Args:
        child: its id.
        seconds: how long it usually runs; the moment is drawn from this time.
        folder: where to wait for a file under way first; None does not wait.
        rng: draws the moment.

    Returns:
        Whether it was killed, and had not ended before.
    """
    deadline = time.perf_counter() + 20 * seconds
    wait = rng.uniform(0, seconds)
    if folder is not None:
        # Not at the first file each time: look away for a while.
        time.sleep(wait)
        wait = rng.uniform(0, 0.05)
        while time.perf_counter() < deadline and not under_way(folder):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.0002)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def under_way(folder: Path) -> bool:
    """Whether a hidden temporary file lies in a folder or in one of its folders."""
    names = []
    for place in (folder, folder / "snapshots"):
        with contextlib.suppress(OSError):
            names += [path.name for path in place.iterdir()]
    return any(name.startswith(".") and "-" in name for name in names)


def remove_temporaries(folder: Path) -> int:
    """Delete what a killed process left under way, so that the next one can be watched."""
    left = [p for p in folder.rglob(".*") if p.is_file() and "-" in p.name]
    for path in left:
        path.unlink()
    return len(left)


def open_all(folder: Path) -> None:
    """Open every file that is not hidden; whatever cannot be read raises."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.suffix == ".safetensors" and is_state(path):
            read_run(path)
            mx.eval(load_tensors(path))
        elif path.suffix == ".safetensors":
            read_config(path)
            mx.eval(load_tensors(path))
        elif path.suffix == ".mlxfn":
            outputs = mx.import_function(str(path))(mx.zeros((1, 224, 224, 3), mx.uint8))
            assert outputs[0].shape == (1, 3)
        elif path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(str(path)))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(len(arrays[name].shape) < 3 for name in arrays.files)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".log":
            for line in path.read_text().splitlines():
                json.loads(line)
        else:
            raise SystemExit(f"{path}: what is this file?")


def kill_trainings(count: int, rng: np.random.Generator) -> None:
    """Kill trainings, resume them, and compare those that end with one that nobody disturbed."""
    seconds = in_a_process(lambda: train("whole"))
    kills, ends, left = 0, 0, 0
    while kills < count:
        folder = Path(f"killed{ends}")
        watch = folder if kills % 2 else None
        if kill(start(lambda folder=folder: train(str(folder), "--resume")), seconds, watch, rng):
            kills += 1
            in_a_process(lambda folder=folder: open_all(folder))
            left += remove_temporaries(folder)
            if kills < count:
                continue
            in_a_process(lambda folder=folder: train(str(folder), "--resume"))
        in_a_process(lambda folder=folder: compare(Path("whole"), folder))
        ends += 1
    print(
        f"training: {kills} kills, {left} of them while a file was being written; every visible "
        f"file opened; {ends} trainings ended, bit for bit as the undisturbed one",
        flush=True,
    )


def compare(whole: Path, killed: Path) -> None:
    """Every tensor and every figure of the log is the same, times apart."""
    names = [p.relative_to(whole) for p in whole.rglob("*.safetensors")]
    assert names
    assert len(names) == len(list(killed.rglob("*.safetensors")))
    for name in names:
        one, two = mx.load(str(whole / name)), mx.load(str(killed / name))
        assert one.keys() == two.keys()
        different = [k for k in one if not mx.array_equal(one[k], two[k])]
        assert not different, f"{killed / name}: {different[:3]} differ"
        configs = [read_config(folder / name) for folder in (whole, killed)]
        assert configs[0].get("progress") == configs[1].get("progress")
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_second")}
            for line in (folder / "training.log").read_text().splitlines()
        ]
        for folder in (whole, killed)
    ]
    assert logs[0] == logs[1]


def write_network() -> None:
    """A small network, and the same in the layout of the checkpoints that HopeLessNet publishes."""
    network = build(config_from_dict({"model_type": "hopenet", "arch": "squeezenet1_1"}))
    save_pretrained(network, "network.safetensors")
    checkpoint = {}
    for name, value in tensors_of(network).items():
        part, name = name.split(".", 1)
        array = np.array(value)
        if part == "head":  # linear layers, which SqueezeNet has as 1x1 convolutions
            angle, leaf = name.split(".")
            name = f"classifier_{angle}.1.{leaf}"
            array = array[:, :, None, None] if leaf == "weight" else array
        elif array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
        checkpoint[name] = torch.from_numpy(np.ascontiguousarray(array))
    torch.save(checkpoint, "published.pkl")


def kill_command(
    what: str, count: int, rng: np.random.Generator, name: str, arguments: list[str]
) -> None:
    """Kill a command that writes one file, over an older version of it and in an empty folder."""
    folder = Path(arguments[-1]).parent
    seconds = in_a_process(lambda: command(name, arguments))
    kills, tries, left = 0, 0, 0
    found: Counter[str] = Counter()
    while kills < count:
        tries += 1
        if tries % 3 == 0:
            Path(arguments[-1]).unlink(missing_ok=True)
        before = Path(arguments[-1]).exists()
        watch = folder if tries % 2 else None
        if not kill(start(lambda: command(name, arguments)), 0.9 * seconds, watch, rng):
            continue
        kills += 1
        left += remove_temporaries(folder)
        in_a_process(lambda: open_all(folder))
        found["whole" if Path(arguments[-1]).exists() else "none"] += 1
        assert Path(arguments[-1]).exists() or not before
    print(
        f"{what}: {kills} kills, {left} of them while a file was being written; the file was "
        f"whole {found['whole']} times and not there {found['none']} times",
        flush=True,
    )


def kill_caching(count: int, rng: np.random.Generator) -> None:
    """Kill the listing of a folder while it is parsed and cached, then list it and compare."""
    folder = Path("listed")
    cache = folder / ".mlx_headpose" / "300W_LP-all-1.npz"
    seconds = in_a_process(lambda: open_dataset("300W_LP", str(folder)))
    first = cached(cache)
    kills, left, whole = 0, 0, 0
    while kills < count:
        cache.unlink(missing_ok=True)
        watch = cache.parent if kills % 2 else None
        if not kill(start(lambda: open_dataset("300W_LP", str(folder))), seconds, watch, rng):
            continue
        kills += 1
        left += remove_temporaries(cache.parent)
        whole += cache.exists()
        assert not cache.exists() or cached(cache) == first
        in_a_process(lambda: open_dataset("300W_LP", str(folder)))
        assert cached(cache) == first
    print(
        f"list caching: {kills} kills, {left} of them while the cache was being written; it was "
        f"whole {whole} times and not there {kills - whole} times; made anew it was the same",
        flush=True,
    )


def cached(path: Path) -> dict[str, bytes]:
    """The arrays of a cache."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


if __name__ == "__main__":
    main()
