"""Run every command that writes, on a full disk and in a read-only folder (Linux, as root).

    python -m bench.robustness.full_disk

The disks are tmpfs mounts that the script makes and takes away. Each command must end with status 2
and one sentence, and leave nothing behind. The full disk has space for a small part of a network,
so that writing fails on the way, and none where a small file is to be written.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
from bench.robustness.faults import make_pictures
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.weights import save_pretrained

ROOT = Path(__file__).resolve().parents[2]
KILOBYTES = 96  # of the full disk: less than any network
SMALL = (".txt", ".csv", ".json", ".html", "")  # endings of what may be smaller than that


def main() -> None:
    """Run all commands in both places and print what they say."""
    failures = 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        make_pictures(home / "pictures", 24)
        for method, options in (("hopenet", {"arch": "squeezenet1_1"}), ("pyramid", {})):
            network = build(config_from_dict({"model_type": method, **options}))
            save_pretrained(network, home / f"{method}.safetensors")
        run(["export", *snapshot(home, "pyramid"), "--format", "torch"], home, home / "p.pkl")
        for place in ("full disk", "read-only"):
            for arguments, output in commands(home):
                space = 0 if output and Path(output).suffix in SMALL else KILOBYTES
                with mounted(home / "disk", f"size={KILOBYTES}k") as disk:
                    fill(disk, space) if place == "full disk" else remount_read_only(disk)
                    done = run(arguments, disk, disk / output if output else None)
                    left = [p.name for p in disk.rglob("*") if p.is_file()]
                left = [name for name in left if name not in ("filler", "training.log", ".lock")]
                said = (done.stderr.strip().splitlines() or ["nothing"])[-1].replace(str(home), "")
                good = done.returncode == 2 and said.startswith("error: ") and not left
                good &= "Traceback" not in done.stderr
                failures += not good
                print(
                    f"{place}, {arguments[0]} {output}: {'' if good else 'BAD '}"
                    f"exit {done.returncode}, {said[:150]} {left or ''}",
                    flush=True,
                )
    print(f"{failures} bad")
    sys.exit(failures > 0)


def snapshot(home: Path, method: str) -> list[str]:
    """The option that names a network."""
    return ["--snapshot", str(home / f"{method}.safetensors")]


def commands(home: Path) -> Iterator[tuple[list[str], str]]:
    """Every command that writes, without its output, and the output."""
    net = snapshot(home, "hopenet")
    pictures = str(home / "pictures")
    data = ["--dataset", "300W_LP", "--data_dir", pictures]
    train = ["train", "--model", "hopenet", "--arch", "squeezenet1_1", *data, "--input_size", "64"]
    yield [*train, "--batch_size", "8", "--num_epochs", "1", "--save_every", "1"], ""
    yield ["export", *net], "net.safetensors"
    yield ["export", *net], "folder"
    yield ["export", *net, "--quantize", "int8"], "small.safetensors"
    yield ["export", *net, "--format", "mlxfn"], "net.mlxfn"
    yield ["export", *net, "--format", "onnx"], "net.onnx"
    yield ["export", *snapshot(home, "pyramid"), "--format", "torch"], "net.pkl"
    yield ["convert", "--weight", str(home / "p.pkl")], "converted.safetensors"
    yield ["create_filename_list", "--root_dir", pictures], "list.txt"
    for option, name in (("--json", "r.json"), ("--csv", "r.csv"), ("--report", "r.html")):
        yield ["test", *data, *net, option], name
    picture = str(home / "pictures" / "0.jpg")
    face = ["predict", picture, *net, "--bbox", "10,10,60,60"]
    for option, name in (("--save", "drawn"), ("--json", "p.json"), ("--csv", "p.csv")):
        yield [*face, option], name


def run(arguments: list[str], folder: Path, output: Path | None) -> subprocess.CompletedProcess:
    """Run a command as a user does, in a folder."""
    if output is not None:
        option = "--filename" if arguments[0] == "create_filename_list" else "--output"
        arguments = arguments if arguments[-1].startswith("--") else [*arguments, option]
        arguments = [*arguments, str(output)]
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mlx_headpose.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs at a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, kilobytes: int) -> None:
    """Leave only so much space."""
    (disk / "filler").write_bytes(bytes((KILOBYTES - kilobytes) << 10))


def remount_read_only(disk: Path) -> None:
    """Refuse all writing, to root too."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


if __name__ == "__main__":
    main()
