"""What the bundled network owes to what: one short training for each thing left out.

    python -m bench.accuracy.ablation --mesh makehuman_head.npz --photos datasets/AFLW2000 \
        --imagenet weights/mobilenetv2_backbone.safetensors --work /tmp/ablation

Every variant renders as many heads, trains as long on them, and is tested on the same unseen
rendered heads and, if `--photos` are given, on AFLW2000. Variants that need a file which is not
given are left out, and with `--only` all but the named. Started again, it goes on with the first
variant that is missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.accuracy.absence import by_view
from mlx_headpose.cli.options import Parser, positive
from mlx_headpose.files import atomic_path

ROOT = Path(__file__).resolve().parents[2]
RENDER = [sys.executable, "-m", "mlx_headpose", "render"]
HEADS = [*RENDER, "--size", "96"]
SMALL = ("--arch", "mobilenetv2")
CROPS_OF_A_SCENE = 5


@dataclass(frozen=True)
class Variant:
    """What one training does otherwise than the first.

    Attributes:
        render, train: more options of rendering and of training; a word in braces is the option of
            this program that names the file.
        heads_of: the variant whose heads it trains on; else it renders its own.
        crops: whether a third of its heads are crops of scenes.
    """

    render: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    heads_of: str = ""
    crops: bool = False


WHOLE = "nothing: every picture another person"
VARIANTS = {  # by what is left out or changed
    WHOLE: Variant(),
    "background and occlusion": Variant(("--camera_without", "background,occlusion")),
    "exposure and colour": Variant(("--camera_without", "exposure,colour")),
    "blur and low resolution": Variant(("--camera_without", "blur,resolution")),
    "noise and compression": Variant(("--camera_without", "noise,compression")),
    "people: 1000": Variant(("--identities", "1000")),
    "people: half of these, 500": Variant(("--identities", "500")),
    "people: double, 2000": Variant(("--identities", "2000")),
    "ResNet-18: MobileNetV2 instead": Variant(train=SMALL, heads_of=WHOLE),
    "the same from ImageNet's weights": Variant(
        train=(*SMALL, "--snapshot", "{imagenet}", "--lr", "0.001", "--schedule", "cosine"),
        heads_of=WHOLE,
    ),
    "lamps and painted backgrounds: places instead": Variant(("--environments", "{environments}")),
    "poses alone: landmarks as well": Variant(train=("--landmarks",), heads_of=WHOLE),
    "heads alone: a third are crops of scenes": Variant(crops=True),
}


def render_heads(heads: Path, variant: Variant, options: argparse.Namespace) -> None:
    """The heads of a variant."""
    mesh = Path(options.mesh).resolve()
    crops = options.heads // 3 if variant.crops else 0
    render = with_files(variant.render, options)
    whole = options.heads - crops
    run(*HEADS, "--mesh", mesh, "--out", heads, "--count", whole, *render, folder=ROOT)
    if crops:
        scenes = Path(options.scenes).resolve()
        run(
            *[*RENDER, "--kind", "crops", "--scenes", scenes, "--out", heads],
            *["--part", "scenes", "--count", crops // CROPS_OF_A_SCENE],
            folder=ROOT,
        )


def run(*command: object, folder: Path) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, check=True)


def with_files(words: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Options with the files that they name in braces."""
    return [
        str(Path(getattr(options, word[1:-1])).resolve()) if word[0] == "{" else word
        for word in words
    ]


def possible(name: str, options: argparse.Namespace) -> bool:
    """Whether the files that a variant needs are given, and it is asked for."""
    variant = VARIANTS[name]
    needed = [word[1:-1] for word in (*variant.render, *variant.train) if word[0] == "{"]
    needed += ["scenes"] if variant.crops else []
    asked = not options.only or any(name.startswith(only) for only in options.only)
    return asked and all(getattr(options, file) for file in needed)


def measure(name: str, options: argparse.Namespace, number: int) -> dict[str, list[float]]:
    """Train one variant and return its figures by the titles of their columns.

    Of crops of scenes, the percentage of heads from the front, the side and the back that are surer
    than most that is no head; see `absence`.
    """
    work = Path(options.work).resolve()
    variant = VARIANTS[name]
    theirs = list(VARIANTS).index(variant.heads_of) if variant.heads_of else number
    heads = work / f"heads{theirs}"
    if not variant.heads_of:
        render_heads(heads, variant, options)
    run(
        *[sys.executable, ROOT / "train.py", "--config", ROOT / "weights" / "headpose.txt"],
        *["--data_dir", heads, "--val_data_dir", work, "--val_dataset", "rendered", "--resume"],
        *["--num_epochs", options.epochs, "--output_string", number],
        *with_files(variant.train, options),
        folder=work,
    )
    found = {}
    sets = {"rendered": work}
    if options.photos:
        sets["AFLW2000"] = Path(options.photos).resolve()
    for dataset, folder in sets.items():
        report = work / f"{dataset}{number}.json"
        run(
            *[sys.executable, ROOT / "test.py", "--dataset", dataset, "--data_dir", folder],
            *["--yaw", 180, "--json", report],
            *["--snapshot", work / f"workdirs_{number}" / "best.safetensors"],
            folder=work,
        )
        metrics = json.loads(report.read_text())
        parts = [metrics[part] for part in ("yaw", "pitch", "roll", "mae")]
        found[f"{dataset}: yaw pitch roll MAE"] = parts
    if options.crops:
        views = by_view(work / f"workdirs_{number}" / "best.safetensors", Path(options.crops))
        found["surer than 90 % of what is no head"] = [100 * view[2] for view in views.values()]
    return found


def table(done: dict[str, dict[str, list[float]]]) -> list[str]:
    """Lines of what `measure` returned by variant."""
    titles = list(dict.fromkeys(title for found in done.values() for title in found))
    rows = {"left out": titles} | {
        name: [" ".join(f"{value:6.2f}" for value in found.get(title, ())) for title in titles]
        for name, found in done.items()
    }
    width = max(map(len, rows))
    wide = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
    return [
        f"{name:{width}}{''.join(f'  {c:>{w}}' for c, w in zip(cells, wide, strict=True))}".rstrip()
        for name, cells in rows.items()
    ]


def main() -> None:
    parser = Parser(
        "bench/accuracy/ablation.py", "Short trainings with one thing left out of each."
    )
    parser.add_argument("--mesh", required=True, help="head model (.npz)")
    parser.add_argument("--photos", help="folder of AFLW2000")
    parser.add_argument("--imagenet", help="converted ImageNet MobileNetV2")
    parser.add_argument("--environments", help="folder of panoramas")
    parser.add_argument("--scenes", help="folder of scenes")
    parser.add_argument("--crops", help="validation part of crops of scenes")
    parser.add_argument("--only", nargs="+", help="beginnings of the variants' names")
    parser.add_argument("--work", required=True, help="folder to work in")
    parser.add_argument("--heads", type=positive, default=4000, help="training heads of a variant")
    parser.add_argument("--epochs", type=positive, default=5)
    options = parser.parse_args()
    work = Path(options.work)
    results = work / "ablation.json"
    done = json.loads(results.read_text()) if results.exists() else {}
    val = ["--out", work.resolve(), "--split", "val", "--count", 1000]
    run(*HEADS, "--mesh", Path(options.mesh).resolve(), *val, folder=ROOT)
    for number, name in enumerate(VARIANTS):
        if name not in done and possible(name, options):
            done[name] = measure(name, options, number)
            with atomic_path(results) as path:
                path.write_text(json.dumps(done, indent=1))
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
