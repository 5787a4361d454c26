"""`test.py`: evaluate one snapshot, or a folder of them."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..core.crop import Crop
from ..core.preprocessing import Preprocessing
from ..data import DATASETS, Dataset, dataset_name
from ..data.base import BROKEN
from ..data.protocols import PROTOCOLS, Protocol, find_protocol
from ..errors import InputError
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.faces import draw_worst
from ..evaluation.intervals import draw_intervals
from ..evaluation.over_yaw import draw_error_curve
from ..evaluation.report import write_report
from ..figures import require_picture
from ..files import (
    messages_apart,
    null_for_nan,
    require_apart,
    require_writable,
    visible,
    write_json,
)
from ..inference.estimator import find_network
from ..inference.table import write_csv
from ..methods import (
    FITTED,
    METHODS,
    Estimator,
    ModelConfig,
    build,
    config_from_dict,
    crop_named,
)
from ..readers.safetensors_file import read_config
from ..training.checkpoint import is_state
from ..weights import from_pretrained, tensors_of
from .datasets import BOXES, open_for, samples_used
from .options import Parser, boolean, largest_yaw, margin, positive, refuse, refuse_unused, sized


def make_parser(program: str) -> Parser:
    """The command's options."""
    parser = Parser(program, "Evaluate a snapshot by a dataset's published protocol.")
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="AFLW2000", help=f"one of {', '.join(DATASETS)}")
    data.add_argument("--data_dir", "--val_data_dir", help="folder of the dataset's files")
    data.add_argument(
        "--filename_list",
        "--val_filename_list",
        help="text file with one sample a line; by default the whole folder",
    )
    data.add_argument(
        "--crop_rule",
        help="method whose box and margins make the crop, or box for the whole head; by default "
        "the network's",
    )
    data.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="published evaluation whose crop, resize, choice of images and count of errors are "
        "taken; by default the network's crop, and honest errors alone",
    )
    data.add_argument("--ad", type=margin, help="margin of the crop rule; by default the published")
    data.add_argument(
        "--split", help="test part of a division that the dataset has, such as sequence for BIWI"
    )
    data.add_argument("--mesh", help="head model (.npz) of synthetic heads")
    data.add_argument("--camera_without", help="camera effects that synthetic heads lack, or none")
    data.add_argument(
        "--yaw", type=largest_yaw, help="largest yaw of synthetic or rendered heads in degrees"
    )
    data.add_argument("--boxes", help=BOXES)
    data.add_argument("--skip_bad", action="store_true", help="count broken samples and go on")
    network = parser.add_argument_group("network")
    network.add_argument(
        "--snapshot",
        "--model_path",
        help=".safetensors file, model folder, hub id, name in weights/, or a folder of snapshots"
        " or of a training; by default the network that comes with mlx-headpose",
    )
    network.add_argument(
        "--start", type=positive, help="first epoch of a folder's snapshots; by default all"
    )
    network.add_argument(
        "--num_epochs", "--num_epoch", type=positive, help="last epoch of a folder's snapshots"
    )
    network.add_argument(
        "--input_size",
        type=positive,
        help="side of the network's input in pixels, or, with --crop 1, of the scaled crop; by "
        "default the model's",
    )
    network.add_argument(
        "--crop",
        type=boolean,
        default=False,
        help="whether the network reads only the central --crop_size of that",
    )
    network.add_argument(
        "--crop_size", type=positive, help="pixels that --crop keeps; by default the model's size"
    )
    network.add_argument("--batch_size", type=positive, default=32, help="images in one pass")
    output = parser.add_argument_group("output", "of the best snapshot, where there are several")
    output.add_argument("--json", help="file to write the report to")
    output.add_argument("--csv", help="file to write every sample's prediction to")
    output.add_argument(
        "--report", help="page (.html) to write: table, curves, confusion, best and worst faces"
    )
    output.add_argument(
        "--worst", help="image (.png) of the 24 faces with the largest errors to draw"
    )
    output.add_argument("--curve", help="image (.png) of the error over yaw to draw")
    output.add_argument(
        "--intervals", help="image (.png) of the error by interval of yaw, pitch and roll to draw"
    )
    output.add_argument(
        "--legacy",
        action="store_true",
        help="also the minimum over shifts of 180° and 360° with which some papers counted; it "
        "flatters (networks of their methods show it always)",
    )
    parser.add_argument("--val_dataset", "--val_set", dest="dataset", help=argparse.SUPPRESS)
    parser.add_argument("--model", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--efficient", help=argparse.SUPPRESS)
    parser.add_argument("--gpu", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--show_viz", type=boolean, default=None, help=argparse.SUPPRESS)
    return parser


def run(program: str, arguments: list[str]) -> None:
    """Run the command."""
    options, given = make_parser(program).parse_given(arguments)
    with messages_apart([options.json, options.csv]):
        _run(options, given)


def _run(options: argparse.Namespace, given: set[str]) -> None:
    if not options.crop:
        refuse(given, ("crop_size",), "is for --crop 1")
    pictures = [options.worst, options.curve, options.intervals]
    for file in filter(None, pictures):
        require_picture(file)
    for file in filter(None, [options.json, options.csv, options.report, *pictures]):
        require_writable(file)  # nobody evaluates for an hour in vain
    protocol = find_protocol(options.protocol) if options.protocol else None
    if protocol:
        refuse(given, ("crop_rule", "ad", "crop"), "has no use with --protocol, which says it")
    snapshots = find_snapshots(find_network(options.snapshot), options.start, options.num_epochs)
    read = [*snapshots, options.filename_list, options.mesh, options.boxes]
    require_apart(read, [options.json, options.csv, options.report, *pictures])
    # Before the first is evaluated: nobody waits for it to hear that the last cannot be.
    planned = {p: evaluable_preprocessing(p, options) for p in snapshots if len(snapshots) > 1}
    evaluations: dict[Path, Evaluation] = {}
    sets: dict[tuple[Crop, int, int, bool], Dataset] = {}
    used: dict[Path, Dataset] = {}
    for path in snapshots:
        model = from_pretrained(path)
        preprocessing = planned.get(path) or preprocessing_for(model.config, options, path)
        if protocol:
            preprocessing = protocol.cut.apply(preprocessing)
        if preprocessing != model.config.preprocessing:
            model = model.with_preprocessing(preprocessing)
        config = model.config
        crop = config.preprocessing.crop
        if options.crop_rule is not None:
            crop = crop_named(options.crop_rule)
        key = (crop, config.inputs.landmarks, config.preprocessing.size, config.learns_absence)
        if key not in sets:
            sets[key] = open_set(options, crop, config)
            if protocol:
                protocol.keep(sets[key])
            describe(sets[key])
            if len(snapshots) > 1:
                require_writable(results_file(options, sets[key].name))
        if len(snapshots) > 1:
            print(f"{path.name}:")
        evaluations[path], used[path] = run_one(model, sets[key], options), sets[key]
        legacy = options.legacy or (config.legacy_errors and not protocol)
        show(evaluations[path], legacy, protocol)
    reports = {
        path: {
            "snapshot": str(path),
            **evaluation.report(),
            **(published_count(evaluation, protocol) if protocol else {}),
        }
        for path, evaluation in evaluations.items()
    }
    # NaN is neither smaller nor larger than any number.
    best = min(reports, key=lambda path: (math.isnan(reports[path]["mae"]), reports[path]["mae"]))
    result: dict[str, Any] = reports[best]
    if len(reports) > 1:
        print(f"best: {best.name}  MAE {result['mae']:.2f}")
        by_name = {path.name: report for path, report in reports.items()}
        result = {"dataset": result["dataset"], "best": best.name, "snapshots": by_name}
    result = null_for_nan(result)
    failed: list[str] = []  # an output that fails keeps nobody from the others
    for write in writers(options, best, result, evaluations, used[best]):
        try:
            write()
        except InputError as error:
            failed.append(str(error))
    if failed:
        raise InputError("; ".join(dict.fromkeys(failed)))


def results_file(options: argparse.Namespace, dataset: str) -> Path:
    """The file for the reports of a folder's snapshots, in that folder."""
    return Path(options.snapshot) / f"results_{dataset}.json"


def writers(
    options: argparse.Namespace,
    best: Path,
    result: dict[str, Any],
    evaluations: dict[Path, Evaluation],
    dataset: Dataset,
) -> Iterator[Callable[[], None]]:
    """What writes the files that were asked for, and of several snapshots their results' file.

    Args:
        options: of the command line.
        best: the snapshot that the files show.
        result: report for JSON.
        evaluations: of all snapshots.
        dataset: what `best` was evaluated on.
    """
    evaluation = evaluations[best]
    if options.json:
        yield lambda: write_json(options.json, result)
    if options.csv:
        yield lambda: write_predictions(Path(options.csv), evaluation)
    if options.report:
        title = f"{best.name} on {evaluation.dataset}"
        yield lambda: write_report(Path(options.report), evaluation, dataset, title)
    if options.worst:
        yield lambda: draw_worst(evaluation, dataset, Path(options.worst))
    if options.curve:
        yield lambda: draw_error_curve(
            evaluation.predictions, evaluation.poses, Path(options.curve), evaluation.dataset
        )
    if options.intervals:
        named = {path.stem: each for path, each in evaluations.items()}
        yield lambda: draw_intervals(named, Path(options.intervals))
    if len(evaluations) > 1:
        yield lambda: write_json(results_file(options, result["dataset"]), result)


def open_set(options: argparse.Namespace, crop: Crop, config: ModelConfig) -> Dataset:
    """The dataset that the options name, with the landmarks that the network reads, if any."""
    names = ("ad", "split", "mesh", "camera_without", "yaw", "boxes")
    wanted = {name: getattr(options, name) for name in names}
    given = {**wanted, "crop": options.crop_rule}
    refuse_unused([n for n, v in given.items() if v is not None], [dataset_name(options.dataset)])
    return open_for(
        config,
        options.dataset,
        options.data_dir,
        options.filename_list,
        crop,
        skip_bad=options.skip_bad,
        **wanted,
    )


def run_one(model: Estimator, dataset: Dataset, options: argparse.Namespace) -> Evaluation:
    """Evaluate one network."""
    return evaluate(model, dataset, options.batch_size, options.skip_bad, progress=dataset.name)


def preprocessing_for(
    config: ModelConfig, options: argparse.Namespace, path: Path
) -> Preprocessing:
    """What the options make of a network's preprocessing.

    Raises:
        InputError: it is of another method, or its weights cannot read that size.
    """
    method, preprocessing = config.model_type, config.preprocessing
    if options.model not in (None, method):
        raise InputError(f"{path}: is a {method} network, not {options.model}")
    asked = {name: getattr(options, name) for name in ("input_size", "crop", "protocol")}
    asked["ad"] = options.ad is not None
    if config.inputs.landmarks and any(asked.values()):
        names = " and ".join(f"--{name}" for name, value in asked.items() if value)
        raise InputError(f"{path}: reads landmarks, for which there is no {names}; leave it out")
    if options.input_size is None and not options.crop:
        return preprocessing
    crop_size = options.crop_size or preprocessing.size
    try:
        preprocessing = sized(preprocessing, options.input_size, options.crop, crop_size)
        other = dataclasses.replace(config, preprocessing=preprocessing)
        shapes = [{n: v.shape for n, v in tensors_of(build(c)).items()} for c in (config, other)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{path}: its weights read images of {config.preprocessing.size} pixels alone, not of "
            f"{preprocessing.size}; leave --input_size and --crop out"
        )
    return preprocessing


def evaluable_preprocessing(path: Path, options: argparse.Namespace) -> Preprocessing:
    """What the options make of the preprocessing of one of a folder's snapshots.

    Raises:
        InputError: it is no network that the options suit.
    """
    stored = read_config(path)
    method = stored.get("model_type")
    if method not in (*METHODS, *FITTED):
        raise InputError(
            f"{path}: is a {method} and estimates no pose; move it out of the folder, or give one "
            "snapshot"
        )
    stored.pop("quantization", None)
    try:
        config = config_from_dict(stored)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return preprocessing_for(config, options, path)


def find_snapshots(
    source: str | Path, first: int | None = None, last: int | None = None
) -> list[Path]:
    """The networks at a path, in the order of their epochs.

    Args:
        source: a snapshot, its hub id, a folder of snapshots, or the folder of a training, whose
            epochs are taken.
        first, last: epochs, both included; None sets no limit. With a limit only snapshots that an
            epoch numbers are taken.

    Raises:
        InputError: there is none, or the path is a single network and has no epochs to choose from.
    """
    path = Path(source)
    if not path.is_dir() or (path / "config.json").exists():
        if first is not None or last is not None:
            raise InputError(f"{path}: is one network; leave --start and --num_epochs out")
        return [path]
    epochs_below = path / "snapshots"  # in the folder of a training
    folder = epochs_below if epochs_below.is_dir() else path
    found = sorted((p for p in visible(folder, "*.safetensors") if not is_state(p)), key=_epoch)
    if first is not None or last is not None:
        bounds = first or 0, float("inf") if last is None else last
        numbered = (p for p in found if p.stem.isdecimal())
        found = [p for p in numbered if bounds[0] <= _epoch(p)[0] <= bounds[1]]
    if not found:
        epochs = "" if first is None and last is None else " of these epochs"
        raise InputError(f"{path}: holds no .safetensors snapshots{epochs}; check --snapshot")
    return found


def _epoch(path: Path) -> tuple[float, str]:
    digits = re.findall(r"\d+", path.stem)
    return (float(digits[-1]) if digits else float("inf")), path.stem


def describe(dataset: Dataset) -> None:
    """Say which samples are used and which are not."""
    print(samples_used(dataset))
    print(f"protocol: {dataset.protocol}")


def published_count(evaluation: Evaluation, protocol: Protocol) -> dict[str, Any]:
    """A protocol's own count, for the JSON report."""
    yaw, pitch, roll = protocol.mean_errors(evaluation.predictions, evaluation.poses).tolist()
    errors = {"yaw": yaw, "pitch": pitch, "roll": roll, "mae": (yaw + pitch + roll) / 3}
    return {"counted_as": protocol.name, "published_count": errors}


def show(evaluation: Evaluation, legacy: bool = False, protocol: Protocol | None = None) -> None:
    """Print the table of one network.

    Args:
        evaluation: evaluation of the network.
        legacy: add the flattering minimum over shifts.
        protocol: add its own count.
    """
    m = evaluation.metrics()
    if BROKEN in evaluation.dropped:
        print(f"left out: {evaluation.dropped[BROKEN]} broken images")
    print(
        f"{len(evaluation.ids)} images  Yaw {m.yaw:.2f}  Pitch {m.pitch:.2f}  "
        f"Roll {m.roll:.2f}  MAE {m.mae:.2f}"
    )
    print(
        f"geodesic {m.geodesic:.2f}  VMAE {m.vmae:.2f} "
        f"(left {m.left:.2f}, down {m.down:.2f}, front {m.front:.2f})"
    )
    bands = evaluation.bands()
    width = max(map(len, bands))
    for name, band in bands.items():
        print(
            f"{name:{width}} {band['used']:5} images  Yaw {band['yaw']:.2f}  "
            f"Pitch {band['pitch']:.2f}  Roll {band['roll']:.2f}  MAE {band['mae']:.2f}  "
            f"geodesic {band['geodesic']:.2f}"
        )
    if legacy:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the printed line says it
            old = evaluation.metrics(legacy=True)
        print(
            f"legacy minimum over 180° and 360°, which flatters: Yaw {old.yaw:.2f}  "
            f"Pitch {old.pitch:.2f}  Roll {old.roll:.2f}  MAE {old.mae:.2f}"
        )
    if protocol:
        errors = published_count(evaluation, protocol)["published_count"]
        print(
            f"as {protocol.cut.source} counts ({protocol.count}): Yaw {errors['yaw']:.2f}  "
            f"Pitch {errors['pitch']:.2f}  Roll {errors['roll']:.2f}  MAE {errors['mae']:.2f}"
        )
    rate = len(evaluation.ids) / evaluation.seconds
    print(f"{evaluation.seconds:.1f} s, {rate:.1f} images/s")


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write name, predicted and true angles of every sample as CSV."""
    columns = ("name", "yaw", "pitch", "roll", "true_yaw", "true_pitch", "true_roll")
    samples = zip(evaluation.ids, evaluation.predictions, evaluation.poses, strict=True)
    rows = (
        [name, *(f"{value:.4f}" for value in (*predicted, *true))]
        for name, predicted, true in samples
    )
    write_csv(path, columns, rows)
