"""Rows and track numbers of `predict.py` on videos whose truth is known.

    python -m bench.accuracy.tracking [--snapshot FILE] [--detector FILE] [--carry SECONDS]

The scenes are made of synthetic heads: a pan over a row of portraits, hard cuts with empty walls
between, a person who comes in at the edge where another one left, two people who pass before each
other, and people who turn right round. A row is right if its box and a visible head's overlap by
0.3 (intersection over union); heads of which less than half shows are neither asked for nor wrong.
Precision, recall, IDF1 (Ristani et al., 2016) and identity switches are py-motmetrics'
(`pip install motmetrics`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import motmetrics
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mlx_headpose.detection.heads.boxes import overlap
from mlx_headpose.inference import CARRY_S
from mlx_headpose.inference.estimator import Head, HeadPoseEstimator
from mlx_headpose.inference.video import Frame
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.builtin.scene import BuiltInScene, sample_shot
from mlx_headpose.synthetic.rasterize import Camera
from mlx_headpose.synthetic.scene import render

from .video import all_the_way_round

FPS = 30
SIDE = 360
RIGHT = 0.3
VISIBLE = 0.5
NOISE = 3.0  # standard deviation of a pixel's noise, of 255


@dataclass
class Scene:
    """Frames and, for each, the boxes of the people in it, by their numbers."""

    frames: list[np.ndarray] = field(default_factory=list)
    truth: list[dict[int, np.ndarray]] = field(default_factory=list)

    def add(self, picture: np.ndarray, people: dict[int, np.ndarray]) -> None:
        """Append a frame, with a camera's noise."""
        rng = np.random.default_rng(len(self.frames))
        noisy = picture + rng.normal(0, NOISE, picture.shape)
        self.frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
        self.truth.append(people)


Portrait = tuple[np.ndarray, np.ndarray]  # (SIDE, SIDE, 3) uint8 RGB, and (4,) box of the face


def portraits(count: int) -> list[Portrait]:
    """People of the validation split who look more or less ahead."""
    limits = (-40, 40), (-20, 20), (-15, 15)
    heads = SyntheticHeads(count, "val", 0, SIDE, *limits, jitter=0)
    return [(np.asarray(heads.image(i)), heads.boxes[i]) for i in range(count)]


def pan(people: list[Portrait], seconds: float = 10.0) -> Scene:
    """A camera that turns past portraits side by side, two in view."""
    row = np.concatenate([picture for picture, _ in people], 1)
    width = 2 * SIDE
    scene = Scene()
    for step in range(int(seconds * FPS)):
        x = round((row.shape[1] - width) * step / (seconds * FPS - 1))
        boxes = {
            number: box + np.array([number * SIDE - x, 0] * 2)
            for number, (_, box) in enumerate(people)
        }
        scene.add(row[:, x : x + width], boxes)
    return scene


def cuts(people: list[Portrait], seconds: float = 1.0) -> Scene:
    """Portraits one after the other, an empty wall after each second one."""
    scene = Scene()
    for number, (picture, box) in enumerate(people):
        for _ in range(int(seconds * FPS)):
            scene.add(picture, {number: box})
        if number % 2:
            for _ in range(int(seconds * FPS)):
                scene.add(wall(number), {})
    return scene


def hand_over(people: list[Portrait], gap: float = 0.3) -> Scene:
    """Each person leaves over the left edge; the next one comes in there."""
    scene = Scene()
    background = wall(1, 2 * SIDE)
    half = int(1.2 * FPS)
    way = np.linspace(0.5 * SIDE, -SIDE, half)
    for number, person in enumerate(people):
        for x in [*way[::-1], *way] if number else way:
            scene.add(*paste(background, [(number, person, x)]))
        for _ in range(int(gap * FPS)):
            scene.add(background, {})
    return scene


def crossing(people: list[Portrait]) -> Scene:
    """Two people pass, one before the other."""
    scene = Scene()
    background = wall(2, 3 * SIDE)
    for step in np.linspace(0, 1, 3 * FPS):
        x = 2 * SIDE * step
        places = [(0, people[0], x), (1, people[1], 2 * SIDE - x)]
        scene.add(*paste(background, places))
    return scene


def turning(people: int) -> Iterator[Scene]:
    """Somebody who turns right round, in a scene each."""
    heads = SyntheticHeads(people, "val", 0, SIDE, jitter=0).people
    for person in range(people):
        scene = Scene()
        for pose in all_the_way_round():
            still = np.random.default_rng(1000 + person)
            shot = sample_shot(still, heads.expressions[person])
            body = BuiltInScene(heads.person(person), heads.shapes[person], shot, pose)
            picture = render(body, Camera(900.0, 0.0022, (0.5, 0.5)), SIDE, still)[0]
            # The pivot of the head stays at the picture's middle.
            scene.add(np.asarray(picture), {0: np.array([0.33, 0.3, 0.67, 0.72]) * SIDE})
        yield scene


def wall(seed: int, width: int = SIDE) -> np.ndarray:
    """(SIDE, width, 3) a wall with pictures on it, lit from one side."""
    rng = np.random.default_rng(seed)
    light = np.linspace(0.7, 1.1, width)[None, :, None] * rng.uniform(120, 190, 3)
    picture = Image.fromarray(np.clip(np.repeat(light, SIDE, 0), 0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y, w, h = rng.uniform([0, 0, 30, 20], [width - 60, SIDE / 2, 120, 90])
        canvas.rectangle((x, y, x + w, y + h), tuple(int(v) for v in rng.uniform(40, 220, 3)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1)))


def paste(
    background: np.ndarray, places: list[tuple[int, Portrait, float]]
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """People, cut out, on a background: (number, portrait, x of its left edge), the farthest first.

    Of somebody behind somebody else there is no box.
    """
    picture = Image.fromarray(background)
    boxes: dict[int, np.ndarray] = {}
    for number, (pixels, box), x in places:
        mask = Image.new("L", (SIDE, SIDE))
        canvas = ImageDraw.Draw(mask)
        w, h = box[2:] - box[:2]
        canvas.ellipse(
            (box[0] - 0.25 * w, box[1] - 0.6 * h, box[2] + 0.25 * w, box[3] + 0.1 * h), 255
        )
        canvas.rectangle((box[0] - 0.6 * w, box[3] + 0.1 * h, box[2] + 0.6 * w, SIDE), 255)
        picture.paste(
            Image.fromarray(pixels), (round(x), 0), mask.filter(ImageFilter.GaussianBlur(2))
        )
        here = box + np.array([round(x), 0] * 2)
        boxes = {n: b for n, b in boxes.items() if overlap(b[None], here[None])[0, 0] < 0.25}
        boxes[number] = here
    return np.asarray(picture), boxes


def visible(box: np.ndarray, picture: np.ndarray) -> float:
    """Share of a box that lies in the picture."""
    size = np.array(picture.shape[1::-1])
    inside = np.clip(box.reshape(2, 2), 0, size)
    return float((inside[1] - inside[0]).prod() / (box[2:] - box[:2]).prod())


def follow(scene: Scene, video: VideoEstimator) -> list[list[Head]]:
    """The heads of each frame."""
    return [video(Frame(i, i / FPS, image)) for i, image in enumerate(scene.frames)]


def score(scene: Scene, found: list[list[Head]], right: float = RIGHT) -> motmetrics.MOTAccumulator:
    """What py-motmetrics counts of the rows of one scene."""
    events = motmetrics.MOTAccumulator(auto_id=True)
    for image, people, heads in zip(scene.frames, scene.truth, found, strict=True):
        shares = {number: visible(box, image) for number, box in people.items()}
        asked = [number for number in people if shares[number] >= VISIBLE]
        cut = [people[n] for n in people if 0 < shares[n] < VISIBLE]
        boxes = np.array([people[n] for n in asked]).reshape(-1, 4)
        rows = [head for head in heads if not _at(cut, head) or _at(list(boxes), head)]
        alike = overlap(boxes, np.array([h.box for h in rows]).reshape(-1, 4))
        distance = np.where(alike >= right, 1 - alike, np.nan)
        events.update(asked, [h.track for h in rows], distance)
    return events


def _at(boxes: list[np.ndarray], head: Head) -> bool:
    return bool(boxes) and overlap(np.array(boxes), np.array([head.box])).max() > 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot")
    parser.add_argument("--detector")
    parser.add_argument("--carry", type=float, default=CARRY_S)
    parser.add_argument("--detect_every", type=int, default=3)
    parser.add_argument("--scenes", nargs="+", help="only those")
    options = parser.parse_args()
    estimator = HeadPoseEstimator.from_pretrained(options.snapshot, options.detector)
    people = portraits(10)
    made: dict[str, Callable[[], list[Scene]]] = {
        "pan": lambda: [pan(people)],
        "cuts": lambda: [cuts(people[:6])],
        "hand-over": lambda: [hand_over(people[:4])],
        "crossing": lambda: [crossing(people[i : i + 2]) for i in (0, 2, 4)],
        "turning": lambda: list(turning(4)),
    }
    print("scene         rows  precision  recall   IDF1  switches  numbers  people")
    for name, scenes in made.items():
        if options.scenes and name not in options.scenes:
            continue
        events, names, numbers, count = [], [], 0, 0
        for place, scene in enumerate(scenes()):
            video = VideoEstimator(
                estimator, detect_every=options.detect_every, carry=options.carry
            )
            events.append(score(scene, follow(scene, video)))
            names.append(str(place))
            numbers += video.tracker.begun
            count += len(set().union(*scene.truth))
        result = motmetrics.metrics.create().compute_many(
            events,
            names=names,
            metrics=["num_predictions", "precision", "recall", "idf1", "num_switches"],
            generate_overall=True,
        )
        rows, precision, recall, idf1, switches = result.loc["OVERALL"]
        print(
            f"{name:10}  {int(rows):6}  {precision:9.3f}  {recall:6.3f}  {idf1:5.3f}"
            f"  {int(switches):8}  {numbers:7}  {count:6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
