"""NLML-HPE on real landmarks: accuracy of network and search, and what each costs.

    python -m bench.speed.nlml --data_dir AFLW2000 --train_list train.txt \
        --test_list test.txt --network best.safetensors --manifold stages/manifold.safetensors

Prints the mean absolute errors on the test list within the network's limits and over all poses, for
the network, the batched search, Powell's method (on `--powell` of the faces) and rigid Procrustes
to the mean shape of the training list; then microseconds per face of the network and milliseconds
per face of the searches, measured on the same faces in one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

import mlx.core as mx  # isort: skip
import numpy as np

from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.evaluate import Evaluation
from mlx_headpose.evaluation.intervals import draw_intervals
from mlx_headpose.methods import Estimator
from mlx_headpose.methods.nlml.network import normalize_landmarks
from mlx_headpose.methods.nlml.turned import frontal_landmarks
from mlx_headpose.methods.nlml_manifold import search_batch, search_powell
from mlx_headpose.methods.nlml_manifold.fitted import manifold_of
from mlx_headpose.pose import matrix_to_pose
from mlx_headpose.weights import from_pretrained

BATCHES = (1, 32, 256)
POINTS = 68  # of AFLW2000's faces


def load(path: str, method: str) -> Estimator:
    """A network of a method that reads AFLW2000's landmarks.

    Raises:
        InputError: it cannot be loaded, or is another one.
    """
    model = from_pretrained(path)
    if (model.config.model_type, model.config.inputs.landmarks) != (method, POINTS):
        raise InputError(f"{path}: no network of {method} that reads {POINTS} landmarks")
    return model


def procrustes(faces: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(N, 3) poses of the rotations that bring a mean shape closest to (N, L, 3) faces."""
    centred = faces - faces.mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("nla,lb->nab", centred, mean))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return np.asarray(matrix_to_pose(u @ vt))


def fastest(function: Callable[[], object], seconds: float = 2.0) -> float:
    """Seconds of the fastest of the calls that fit into a time, after one that warms up."""
    function()
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return float(best)


def report(name: str, evaluation: Evaluation) -> None:
    """One line: errors within the limits and over all poses."""
    within = next(band for name, band in evaluation.bands().items() if name.startswith("within"))
    total = {**evaluation.metrics().to_dict(), "used": len(evaluation.ids)}
    parts = [
        f"{r['yaw']:.2f} {r['pitch']:.2f} {r['roll']:.2f} MAE {r['mae']:.2f} ({r['used']} faces)"
        for r in (within, total)
    ]
    print(f"{name:22} within {parts[0]}   all {parts[1]}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--train_list", required=True)
    parser.add_argument("--test_list", required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--manifold", required=True)
    parser.add_argument("--powell", type=int, default=50, help="faces for Powell's method")
    parser.add_argument("--intervals", type=Path, help="picture of the error by interval to draw")
    options = parser.parse_args()

    try:
        model = load(options.network, "nlml")
        manifold = manifold_of(load(options.manifold, "nlml_manifold"))
    except InputError as error:
        parser.error(str(error))
    limits = model.config.limits
    train = open_dataset("AFLW2000", options.data_dir, options.train_list)
    test = open_dataset("AFLW2000", options.data_dir, options.test_list)
    faces = np.stack([test.landmarks(i) for i in range(len(test))])
    inputs = mx.array(faces)
    features = np.array(normalize_landmarks(inputs, "nose"))
    powell = np.linspace(0, len(test) - 1, min(options.powell, len(test))).astype(int)

    def evaluation(poses: np.ndarray, chosen: np.ndarray | None = None) -> Evaluation:
        return made(test, poses, chosen, limits)

    rigid = procrustes(faces, frontal_landmarks(train).mean(axis=0))
    batch, _ = search_batch(manifold, features)
    start = time.perf_counter()
    slow, _ = search_powell(manifold, features[powell])
    powell_ms = 1e3 * (time.perf_counter() - start) / len(powell)
    methods = {
        "network": evaluation(np.array(model.decode(model(inputs)))),
        "batched search": evaluation(batch),
        "rigid Procrustes": evaluation(rigid),
    }
    print("mean absolute errors in degrees: yaw pitch roll")
    for name, result in methods.items():
        report(name, result)
    print("on the faces that Powell's method was given:")
    report("Powell", evaluation(slow, powell))
    report("batched search", evaluation(batch[powell], powell))
    apart = np.abs(slow - batch[powell]).max(axis=1)
    print(
        f"the two searches differ by {np.median(apart):.4f}° (median), "
        f"more than 0.1° on {(apart > 0.1).sum()} of {len(powell)}"
    )
    if options.intervals:
        draw_intervals(methods, options.intervals)

    for size in BATCHES:
        some = inputs[:size]
        cost = fastest(lambda some=some: mx.eval(model.decode(model(some)))) / size
        print(f"network, {size:4} at a time: {1e6 * cost:8.1f} µs per face")
    for size in BATCHES:
        cost = fastest(lambda size=size: search_batch(manifold, features[:size])) / size
        print(f"search,  {size:4} at a time: {1e3 * cost:8.3f} ms per face")
    print(f"Powell,     1 at a time: {powell_ms:8.3f} ms per face, {powell_ms / 1e3 / cost:.0f}x")


def made(
    test: Dataset, poses: np.ndarray, chosen: np.ndarray | None, limits: tuple[float, ...] | None
) -> Evaluation:
    """Predictions on (some of) a dataset as an evaluation."""
    rows = np.arange(len(test)) if chosen is None else chosen
    ids = [test.ids[i] for i in rows]
    truth = test.poses[rows].astype(np.float64)
    return Evaluation(test.name, test.protocol, ids, rows.tolist(), truth, poses, {}, 1.0, limits)


if __name__ == "__main__":
    main()
