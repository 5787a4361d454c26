"""Where heads are: distance and angles of rendered people whose position is known, and BIWI's.

    python -m bench.accuracy.position --detector ../shared/weights/face_detection_yunet_2023mar.onnx

People of the validation split stand anywhere in the image, 0.4 to 2 m away. Poses are what the
network says of the detected faces, or the true ones. "One size": distances are divided by each
person's head size, which users give as --head_size. `--fit` prints the ellipsoids of
`space/position.py`, fitted to people of the training split, and that of the detector's boxes with
the network's poses. With `--output` a head detector is written that has the latter in its config:

    python -m bench.accuracy.position --fit --count 200 --detector DETECTOR.safetensors \\
        --output DETECTOR.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares, minimize_scalar
from tqdm import tqdm

from mlx_headpose.detection.heads.detector import BUNDLED_DETECTOR, HeadFinder
from mlx_headpose.inference.detectors import BUNDLED_NAME, bounded
from mlx_headpose.inference.estimator import HeadPoseEstimator
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix
from mlx_headpose.space.intrinsics import Camera
from mlx_headpose.space.perspective import as_placed
from mlx_headpose.space.position import HEAD_SIZE, SHAPES, Ellipsoid, head_position, outline
from mlx_headpose.synthetic.film import Actor, Film, facing_camera

from .verification import store

SIZE = (640, 480)
FOV = 65.0
# BIWI's rgb.cal; the head's centre is given in the depth camera's axes, some 25 mm beside it.
BIWI = Camera(517.679, 517.679, 320, 240.5, 640, 480)


class Sample:
    """A rendered person at a random place.

    Attributes:
        placed, actor, film: what is rendered.
        boxes: kind → (4,) box, or None where the detector found none.
        pose: (3,) relative to the ray, as the network says.
    """

    def __init__(self, number: int, split: str, estimator: HeadPoseEstimator | None, yaw: float):
        rng = np.random.default_rng((number, split == "train", 5))
        self.actor = Actor(number, split)
        self.camera = Camera.from_fov(FOV, *SIZE)
        pose = rng.uniform((-yaw, -35, -30), (yaw, 35, 30))
        depth = float(np.exp(rng.uniform(np.log(0.4), np.log(2.0))))
        spot = rng.uniform((0.2, 0.3), (0.8, 0.6)) * SIZE
        self.placed = facing_camera(pose, self.camera.rays(spot) * depth)
        film = Film(self.camera, [self.actor], number, noise=3.0, supersampling=1.4)
        self.boxes = {
            "heads": film.box(self.placed, self.actor),
            "landmarks": film.box(self.placed, self.actor, "face"),
            "detected": None,
        }
        self.pose = self.placed.seen
        if estimator is not None:
            heads = estimator(film.frame([self.placed]), max_heads=1)
            if heads:
                self.boxes["detected"] = np.array(heads[0].box)
                self.pose = heads[0].pose


def fit(samples: list[Sample], kind: str, start: Ellipsoid) -> Ellipsoid:
    """The ellipsoid whose outlines are nearest to the boxes; detected ones with their poses."""
    used = [s for s in samples if s.boxes[kind] is not None]
    boxes = np.array([s.boxes[kind] for s in used])
    flat = np.concatenate(
        [
            s.camera.rays(b.reshape(2, 2))[:, :2].reshape(1, 4)
            for s, b in zip(used, boxes, strict=True)
        ]
    )
    rays = np.array([s.placed.position for s in used])
    poses = np.array([s.pose if kind == "detected" else s.placed.seen for s in used])
    turns = pose_to_matrix(as_placed(poses, rays))
    places = 1000 * rays * np.array([HEAD_SIZE / s.actor.head_size for s in used])[:, None]
    size = np.tile(flat[:, 2:] - flat[:, :2], 2)

    def residuals(values: np.ndarray) -> np.ndarray:
        return ((outline(Ellipsoid.of((*values, 0.5)), turns, places) - flat) / size).ravel()

    found = least_squares(residuals, [*start.centre, *start.axes], loss="soft_l1", f_scale=0.05)
    expected = residuals(found.x).reshape(-1, 4) * size + flat
    sides = np.log((expected[:, 2:] - expected[:, :2]) / (flat[:, 2:] - flat[:, :2]))

    def off(width_weight: float) -> np.ndarray:
        return sides @ (width_weight, 1 - width_weight)

    def scatter(width_weight: float) -> float:
        return float(np.abs(off(width_weight) - np.median(off(width_weight))).mean())

    width_weight = float(minimize_scalar(scatter, bounds=(0, 1), method="bounded").x)
    # As many heads are to be too near as too far.
    scaled = found.x * np.exp(-np.median(off(width_weight)))
    return Ellipsoid.of([*(round(float(v), 1) for v in scaled), round(width_weight, 2)])


def errors(
    used: list[Sample], kind: str, shape: str | Ellipsoid, true_pose: bool, one_size: bool
) -> np.ndarray:
    """(N,) relative errors of the distance."""
    found = []
    for sample in used:
        size = sample.actor.head_size if one_size else HEAD_SIZE
        pose = sample.placed.seen if true_pose else sample.pose
        place = head_position(sample.boxes[kind], pose, sample.camera, shape, size)
        found.append(np.linalg.norm(place) / np.linalg.norm(sample.placed.position) - 1)
    return np.array(found)


def distance(estimator: HeadPoseEstimator, count: int, yaw: float) -> None:
    samples = [Sample(i, "val", estimator, yaw) for i in tqdm(range(count), disable=None)]
    used = [s for s in samples if s.boxes["detected"] is not None]
    print(f"{len(used)} of {count} heads found")
    print("box        pose     size        distance: median  95th percentile  bias")
    shapes: dict[str, str | Ellipsoid] = {
        "detected": bounded(estimator.detector),
        "landmarks": "landmarks",
        "heads": "heads",
    }
    for kind, shape in shapes.items():
        for true_pose in (False, True):
            for one_size in (True, False):
                error = errors(used, kind, shape, true_pose, one_size)
                print(
                    f"{kind:9}  {'true   ' if true_pose else 'network'}"
                    f"  {'one size  ' if one_size else 'everybody'}"
                    f"  {np.median(np.abs(error)):13.1%}"
                    f"  {np.percentile(np.abs(error), 95):15.1%}  {np.median(error):+.1%}"
                )


def perspective(estimator: HeadPoseEstimator, count: int, angle: float) -> None:
    """The same heads in the middle and `angle` degrees off the axis, pose by pose."""
    camera = Camera.from_fov(2 * angle + 25, *SIZE)
    middle, edge, uncorrected = [], [], []
    for number in tqdm(range(count), disable=None):
        rng = np.random.default_rng((number, 11))
        actor = Actor(number)
        film = Film(camera, [actor], number, supersampling=1.4)
        pose = rng.uniform((-50, -25, -20), (50, 25, 20))
        side = np.radians(angle) * rng.choice((-1, 1))
        off = np.array([np.sin(side), 0, np.cos(side)])
        for ray, list_ in ((np.array([0.0, 0, 1]), middle), (off, edge)):
            placed = facing_camera(pose, 0.7 * ray)
            image = film.frame([placed])
            box = film.box(placed, actor, "head" if estimator.given == "heads" else "face")
            truth = pose_to_matrix(placed.pose)
            for known, errors in ((camera, list_), (None, uncorrected)):
                estimator.camera = known
                (head,) = estimator(image, boxes=[box])
                errors.append(float(geodesic_degrees(pose_to_matrix(head.pose), truth)))
    print(
        f"{count} heads: error in the middle {np.mean(middle):.2f}°, {angle:g}° off the axis"
        f" {np.mean(edge):.2f}° (difference {np.mean(edge) - np.mean(middle):+.2f}° ±"
        f" {np.std(np.subtract(edge, middle)) / np.sqrt(count):.2f}°), without correction"
        f" {np.mean(uncorrected[1::2]):.2f}°"
    )


def biwi(estimator: HeadPoseEstimator, folder: Path) -> None:
    """BIWI's frames: boxes of the list and of the detector."""
    rows = np.genfromtxt(
        folder / "frames.csv", delimiter=",", names=True, dtype=None, encoding=None
    )
    found = {"box of the list": [], "box of the detector": []}
    for row in rows:
        truth = np.array([row["bin_x_mm"], row["bin_y_mm"], row["bin_z_mm"]]) / 1000
        path = next(folder.rglob(f"{Path(row['frame']).name}_rgb.png"))
        given = [row["x"], row["y"], row["x"] + row["width"], row["y"] + row["height"]]
        for name, boxes in (("box of the list", [given]), ("box of the detector", None)):
            for head in estimator(path, boxes=boxes, max_heads=1):
                found[name].append(head_position(head.box, head.pose, BIWI) - truth)
    for name, values in found.items():
        if values:
            x, y, z = 1000 * np.mean(values, 0)
            print(
                f"BIWI, {name}: {len(values)} frames, mean error x {x:+.0f}, y {y:+.0f},"
                f" z {z:+.0f} mm of {1000 * truth[2]:.0f} mm"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--yaw", type=float, default=60)
    parser.add_argument("--angle", type=float, default=30)
    parser.add_argument("--biwi", type=Path, default=Path("../shared/data/BIWI"))
    parser.add_argument("--only_perspective", action="store_true")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--output", type=Path, help="head detector to write (.safetensors)")
    options = parser.parse_args()
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    if options.output and not (options.fit and isinstance(estimator.detector, HeadFinder)):
        parser.error("--output needs --fit and the head detector as --detector")
    if options.fit:
        samples = [
            Sample(i, "train", estimator, options.yaw)
            for i in tqdm(range(options.count), disable=None)
        ]
        starts = {**SHAPES, "detected": SHAPES[estimator.detector.finds]}
        del starts["faces"]  # YuNet's, which only it finds
        shapes = {kind: fit(samples, kind, start) for kind, start in starts.items()}
        for kind, shape in shapes.items():
            print(f"{kind}: {shape}")
        if options.output:
            bundled = options.detector == BUNDLED_NAME
            detector = BUNDLED_DETECTOR if bundled else Path(options.detector)
            found = shapes["detected"]
            numbers = (*found.centre, *found.axes, found.width_weight)
            store(detector, options.output, outline=numbers)
        return
    if not options.only_perspective:
        distance(estimator, options.count, options.yaw)
    perspective(estimator, options.count, options.angle)
    estimator.camera = None
    if options.biwi.is_dir() and not options.only_perspective:
        biwi(estimator, options.biwi)


if __name__ == "__main__":
    main()
