"""`mlx-headpose leaderboard`: every network at hand on every set and crop, in one table."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from tqdm import tqdm

from .. import weights
from .._version import RENDERER
from ..convert.published import PUBLISHED
from ..core.crop import AROUND_LANDMARKS, AROUND_POINTS
from ..core.preprocessing import Preprocessing
from ..cpu.shards import shards_on_cores
from ..data import Dataset, open_dataset
from ..data.listing import key_of
from ..data.protocols import PROTOCOLS
from ..detection.heads.boxes import overlap
from ..detection.heads.detector import BUNDLED_DETECTOR, HeadFinder
from ..detection.yolo import HeadDetector
from ..detection.yunet import FaceDetector, find_weights
from ..errors import InputError
from ..evaluation.evaluate import evaluate
from ..evaluation.leaderboard import (
    DETECTED,
    OWN,
    Network,
    Row,
    WithBoxes,
    make_row,
    split_licence,
    write,
)
from ..figures import available
from ..files import atomic_path, digest, read_json, visible, write_json
from ..inference.detectors import BUNDLED_NAME, load_detector
from ..methods import METHODS, Estimator
from ..places import command
from ..training.checkpoint import is_state
from ..weights import BUNDLED, from_pretrained, read_config
from .options import Parser, not_negative, positive, refuse

STATE = "leaderboard.json"
OVERLAP = 0.4  # of a detected face with the annotated landmarks' box
KEPT_EVERY = 100  # images whose faces are found before they are written
BATCHES = 3  # that the speed is measured on
# On BIWI these stand for its two variants, HopeNet's margins and FSA-Net's.
AROUND = {"68 landmarks": AROUND_LANDMARKS, "all points": AROUND_POINTS}
# Fields of `Network` that depend on the file's content alone.
MEASURED = ("method", "parameters", "megabytes", "speed")
BUNDLED_TRAINED_ON = "rendered heads (CC0)"

FaceFinder = FaceDetector | HeadFinder  # whose boxes are of faces


@dataclass(frozen=True)
class Run:
    """One evaluation: a network on a set by a crop."""

    path: Path
    dataset: str
    crop: str


def make_parser(program: str) -> Parser:
    """The command's options."""
    parser = Parser(program, "Evaluate every network at hand and write one table of all.")
    parser.add_argument("--data_dir", help="folder of AFLW2000")
    parser.add_argument("--filename_list", help="text file with the images of AFLW2000 to take")
    parser.add_argument("--biwi", help="folder of BIWI, in any of the forms that test.py takes")
    parser.add_argument(
        "--rendered",
        type=not_negative,
        default=500,
        help="rendered heads over the full circle of yaw; 0 leaves them out",
    )
    parser.add_argument(
        "--snapshots",
        type=Path,
        default=Path("weights"),
        help="folder of converted networks; the bundled one is always taken",
    )
    parser.add_argument("--detector", help="for detected boxes: YuNet's file, or bundled")
    parser.add_argument(
        "--output", type=Path, default=Path("leaderboard"), help="folder to write, and to go on in"
    )
    parser.add_argument("--batch_size", type=positive, default=32, help="images in one pass")
    return parser


def run(program: str, arguments: list[str]) -> None:
    """Run the command; what was evaluated already, and has not changed, is kept."""
    options, given = make_parser(program).parse_given(arguments)
    if not options.data_dir:
        refuse(given, ("detector", "filename_list"), "is for AFLW2000, which needs --data_dir")
    paths = find_networks(options.snapshots)
    state = read_state(options.output / STATE)
    detector = find_detector(options)
    plan = [run for path in paths for run in runs_of(path, options, detector is not None)]
    if not plan:
        raise InputError("nothing to evaluate on; give --data_dir, --biwi or --rendered")
    sets: dict[Any, Dataset] = {}
    rows: list[Row] = []
    networks: dict[Path, Network] = {}
    try:
        for number, item in enumerate(plan, 1):
            content = file_digest(item.path)
            if item.path not in networks:
                networks[item.path] = known_network(item.path, content, state, options)
                write_json(options.output / STATE, state)
            samples = place(item.dataset, options)
            if item.crop == DETECTED:
                samples += detector_key(options)
            key = digest(content, item.dataset, item.crop, *samples)
            name = networks[item.path].name
            if key not in state["rows"]:
                print(f"[{number}/{len(plan)}] {name}: {item.dataset}, {item.crop}", flush=True)
                model, dataset = prepared(item, options, detector, sets)
                try:
                    dataset = model.config.inputs.open(dataset)
                except InputError as error:  # such as a network that reads other landmarks
                    print(f"left out: {error}")
                    continue
                evaluation = evaluate(model, dataset, options.batch_size, progress=item.dataset)
                row = make_row(name, item.dataset, item.crop, evaluation)
                state["rows"][key] = dataclasses.asdict(row)
                write_json(options.output / STATE, state)
            rows.append(Row(**{**state["rows"][key], "network": name}))
        if not rows:
            raise InputError("none of these networks can be evaluated on these sets; give others")
    finally:  # whoever stops gets the tables of what there is
        if rows:
            for path in write(options.output, list(networks.values()), rows, available()):
                print(f"wrote {path}")


def find_networks(folder: Path) -> list[Path]:
    """The bundled network and those of a folder; files of equal content once."""
    found = [p for p in visible(folder, "*.safetensors") if not is_state(p)]
    kept = [p for p in found if read_config(p).get("model_type") in METHODS]
    paths = [*([weights.BUNDLED] if weights.BUNDLED.is_file() else []), *kept]
    if not paths:
        raise InputError(
            f"{folder}: holds no networks; convert some, see `{command('convert --list')}`"
        )
    unique: dict[str, Path] = {}
    # The first of equal files is kept: that whose name says most of it.
    for path in sorted(paths, key=lambda p: (p != weights.BUNDLED, p.stem not in PUBLISHED)):
        other = unique.setdefault(file_digest(path), path)
        if other != path:
            print(f"{path}: left out, for {other} is the same network")
    return [path for path in paths if path in unique.values()]


def find_detector(options: argparse.Namespace) -> FaceFinder | None:
    """The detector that was asked for, or YuNet; None where neither is at hand.

    Raises:
        InputError: the one that was asked for cannot be read, or its boxes are not of faces.
    """
    if not options.data_dir:
        return None
    if options.detector:
        detector = load_detector(options.detector)
        if isinstance(detector, HeadDetector):
            raise InputError(
                f"{options.detector}: finds whole heads, and AFLW2000's boxes are of faces; give a"
                f" detector of faces or {BUNDLED_NAME!r}"
            )
        return detector
    try:
        return FaceDetector.from_pretrained()
    except InputError as error:
        print(f"without detected faces: {error}")
        return None


def runs_of(path: Path, options: argparse.Namespace, detects: bool) -> Iterator[Run]:
    """What a network is evaluated on."""
    model = from_pretrained(path)
    images = not model.config.inputs.landmarks
    crops = crops_of(model) if images else {OWN: model.config.preprocessing}
    if options.data_dir:
        yield from (Run(path, "AFLW2000", crop) for crop in crops)
        if detects and images:
            yield Run(path, "AFLW2000", DETECTED)
    if options.biwi and images:
        yield from (Run(path, "BIWI", crop) for crop in crops if crop in (OWN, *AROUND))
    if options.rendered:
        yield Run(path, "synthetic", OWN)


def crops_of(model: Estimator) -> dict[str, Preprocessing]:
    """Name → every way to cut AFLW2000's images for a network; equal ones once."""
    own = model.config.preprocessing
    candidates = {
        OWN: own,
        **{name: protocol.cut.apply(own) for name, protocol in PROTOCOLS.items()},
        **{name: dataclasses.replace(own, crop=crop) for name, crop in AROUND.items()},
    }
    crops: dict[str, Preprocessing] = {}
    seen = []
    for name, preprocessing in candidates.items():
        # Margins of training and around detected faces change nothing here.
        crop = preprocessing.crop
        tested = dataclasses.replace(crop, train=crop.test, face=crop.test, head=crop.test)
        if (alike := dataclasses.replace(preprocessing, crop=tested)) not in seen:
            seen.append(alike)
            crops[name] = preprocessing
    return crops


def place(dataset: str, options: argparse.Namespace) -> tuple[Any, ...]:
    """What the samples of a set depend on."""
    if dataset == "synthetic":
        return (options.rendered, RENDERER)
    folder = Path(options.data_dir if dataset == "AFLW2000" else options.biwi)
    listed = options.filename_list if dataset == "AFLW2000" else None
    if listed is not None and Path(listed).is_file():
        listed = file_digest(Path(listed))
    return (str(folder.resolve()), listed, files_digest(folder))


@functools.cache  # nothing changes the files while the command runs
def files_digest(folder: Path) -> str:
    """Of the names, sizes and times of a set's files; hidden ones, such as caches, left out."""
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    hidden = [any(part.startswith(".") for part in p.relative_to(folder).parts) for p in files]
    return key_of(folder, [p for p, left_out in zip(files, hidden, strict=True) if not left_out])


def detector_key(options: argparse.Namespace) -> tuple[str, ...]:
    """What detected boxes depend on."""
    if options.detector is None:
        return (file_digest(find_weights()),)
    if options.detector == BUNDLED_NAME:  # the pose network confirms what it finds
        return (file_digest(BUNDLED_DETECTOR), file_digest(BUNDLED))
    return (file_digest(Path(options.detector)),)


def prepared(
    item: Run,
    options: argparse.Namespace,
    detector: FaceFinder | None,
    sets: dict[Any, Dataset],
) -> tuple[Estimator, Dataset]:
    """The network with the crop's preprocessing, and the set with its boxes; sets are kept."""
    model = from_pretrained(item.path)
    if item.crop not in (OWN, DETECTED):
        model = model.with_preprocessing(crops_of(model)[item.crop])
    preprocessing = model.config.preprocessing
    if item.crop == DETECTED:
        assert detector is not None
        whole = opened("AFLW2000", AROUND_LANDMARKS, preprocessing.size, options, sets)
        boxes = detected_boxes(whole, detector, options)
        margins = preprocessing.crop.around_detected(detector.finds)
        return model, WithBoxes(whole, boxes, margins, "detected faces")
    dataset = opened(item.dataset, preprocessing.crop, preprocessing.size, options, sets)
    return model, dataset


def opened(
    name: str, crop: Any, size: int, options: argparse.Namespace, sets: dict[Any, Dataset]
) -> Dataset:
    """A set as one crop needs it."""
    if (name, crop, size) not in sets:
        if name == "synthetic":
            given: dict[str, Any] = {"samples": options.rendered, "yaw": 180.0}
            folder = listed = None
        else:
            given = {}
            folder = options.data_dir if name == "AFLW2000" else options.biwi
            listed = options.filename_list if name == "AFLW2000" else None
        sets[name, crop, size] = open_dataset(
            name, folder, listed, crop=crop, input_size=size, **given
        )
    return sets[name, crop, size]


def detected_boxes(
    dataset: Dataset, detector: FaceFinder, options: argparse.Namespace
) -> np.ndarray:
    """(N, 4) the detected face that overlaps the annotated box best, NaN where none does; kept."""
    parts = list(dataset.ids), *place("AFLW2000", options), *detector_key(options)
    path = options.output / f"faces-{digest(*parts)}.npy"
    boxes = np.zeros((0, 4))
    if path.is_file():
        kept = np.load(path, allow_pickle=False)
        if kept.ndim == 2 and kept.shape[1] == 4:
            boxes = kept
    bar = tqdm(total=len(dataset), initial=len(boxes), desc="faces", unit="image", disable=None)
    with bar:
        while len(boxes) < len(dataset):
            part = range(len(boxes), min(len(boxes) + KEPT_EVERY, len(dataset)))
            boxes = np.concatenate([boxes, [best_face(dataset, i, detector) for i in part]])
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, boxes)
            bar.update(len(part))
    return boxes


def best_face(dataset: Dataset, index: int, detector: FaceFinder) -> np.ndarray:
    """(4,) the detected face of a sample that overlaps its annotated box best, or NaN."""
    (faces,) = detector([np.asarray(dataset.image(index))])
    if len(faces):
        overlaps = overlap(faces.boxes, dataset.boxes[index][None])[:, 0]
        if overlaps.max() >= OVERLAP:
            return faces.boxes[overlaps.argmax()]
    return np.full(4, np.nan)


def known_network(
    path: Path, content: str, state: dict[str, Any], options: argparse.Namespace
) -> Network:
    """What the table says of a network: what was measured once, and what its name says now."""
    if content not in state["networks"]:
        state["networks"][content] = measure(path, options.batch_size)
    kept = state["networks"][content]
    bundled = path == weights.BUNDLED
    name = "bundled" if bundled else path.stem
    if name == "bundled" and not bundled:  # two networks of one name would be one in the tables
        name = path.name
    licence, trained_on = "not stated", "not stated"
    if bundled:
        licence, trained_on = "MIT", BUNDLED_TRAINED_ON
    elif name in PUBLISHED:
        licence, trained_on = split_licence(PUBLISHED[name].licence)
    measured = {field: kept[field] for field in MEASURED}
    return Network(name=name, licence=licence, trained_on=trained_on, **measured)


def measure(path: Path, batch_size: int) -> dict[str, Any]:
    """`MEASURED` of a network's file."""
    model = from_pretrained(path)
    config = model.config
    flat = tree_flatten(model.trainable_parameters())
    assert isinstance(flat, list)
    return {
        "method": " ".join(filter(None, [config.model_type, getattr(config, "arch", "")])),
        "parameters": sum(value.size for _, value in flat),
        "megabytes": path.stat().st_size / 1e6,
        "speed": speed_of(model, batch_size),
    }


def speed_of(model: Estimator, batch_size: int) -> float:
    """Images per second of the network alone, the fastest of a few batches."""
    example = model.config.inputs.example(batch_size)
    seconds = []
    with shards_on_cores(batch_size):
        for _ in range(1 + BATCHES):  # the first one warms up
            start = time.perf_counter()
            mx.eval(model.decode(model(example)))
            seconds.append(time.perf_counter() - start)
    return batch_size / min(seconds[1:])


def file_digest(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """What earlier calls found; empty where there is none."""
    if not path.exists():
        return {"networks": {}, "rows": {}}
    state = read_json(path)
    if not isinstance(state, dict) or not {"networks", "rows"} <= set(state):
        raise InputError(f"{path}: is no leaderboard's state; delete it, or give another --output")
    return state
