"""Who is who from frame to frame: faces joined over time, and heads carried while no face shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..detection.heads.detector import SurroundHeadDetector
from ..detection.yolo import HeadDetector
from ..detection.yunet import Detections, FaceDetector, suppress
from .smoothing import OneEuro, PoseFilter

# A face that overlaps a track's expected box less than this is someone else's.
MIN_OVERLAP = 0.25
# A face this likely keeps a track alive; to begin one it needs the user's score.
KEEP_SCORE = 0.2
# A likely face that overlaps no track is still a carried one's if it comes up within this many of
# its sides from where that was expected: a head that turns right round shows its face again there.
REACH = 1.0
# Seconds that a track is carried without a face; its speed fades with the time constant below.
CARRY_S = 2.5
FADE_S = 0.3
# Between detections, faces are looked for near where they were: in a square this many times the
# box's longer side, scaled to this many pixels.
SEARCH_AREA = 2.5
SEARCH_SIDE = 128


def _box_filter() -> OneEuro:
    # Of pixels, in units of the box's size: at rest 1 Hz, moving its own size in a second 5 Hz.
    return OneEuro(min_cutoff=1.0, beta=4.0)


@dataclass
class Track:
    """One person.

    Attributes:
        number: 1, 2, ...
        box: (4,) the last measured or expected box.
        score: of the last detection; NaN while the track is carried.
        velocity: (4,) pixels per second.
        unseen_s: seconds since a face was found.
    """

    number: int
    box: np.ndarray
    score: float
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(4))
    unseen_s: float = 0.0
    age_s: float = 0.0
    pose_filter: PoseFilter = field(default_factory=PoseFilter)
    box_filter: OneEuro = field(default_factory=_box_filter)

    def move(self, dt: float) -> None:
        """Expect the box where its velocity takes it."""
        self.box = self.box + self.velocity * dt
        self.velocity = self.velocity * np.exp(-dt / FADE_S)
        self.score = float("nan")
        self.unseen_s += dt
        self.age_s += dt

    def see(self, box: np.ndarray, score: float, dt: float, sure: bool = True) -> None:
        """Correct the expected box by the measured one.

        Args:
            box: (4,) measured.
            score: of the detector.
            dt: seconds since the frame before.
            sure: whether the box may change the velocity. The boxes of vanishing faces jump, and
                would send a track away just before nothing is left to bring it back.
        """
        if self.unseen_s > dt:
            self.velocity = np.zeros(4)  # where a face comes up again says nothing of its motion
        elif sure and self.age_s > 0:
            self.velocity = self.velocity + 0.5 * (box - self.box) / max(dt, 1e-6)
            # What grows in one frame is the detector's noise: only the middle moves on.
            middle = (self.velocity[:2] + self.velocity[2:]) / 2
            self.velocity = np.concatenate([middle, middle])
        self.box, self.score, self.unseen_s = box, score, 0.0

    def smooth_box(self, dt: float) -> np.ndarray:
        """(4,) the box without the detector's jitter."""
        size = max(self.box[2] - self.box[0], self.box[3] - self.box[1], 1.0)
        return self.box_filter(self.box, dt, unit=size)


class Tracker:
    """Joins faces to tracks by the overlap of boxes (Hungarian assignment).

    Args:
        min_score: faces below this begin no track.
        max_tracks: most people followed at once; None means all.
    """

    def __init__(self, min_score: float, max_tracks: int | None = None):
        self.min_score = min_score
        self.max_tracks = max_tracks
        self.tracks: list[Track] = []
        self.begun = 0

    def update(self, faces: Detections, dt: float, begin: bool = True) -> list[Track]:
        """Take in the faces of the next frame.

        Args:
            faces: detected in it, also those of a low score.
            dt: seconds since the frame before.
            begin: whether faces that belong to nobody begin tracks.

        Returns:
            The tracks that are alive, oldest first.
        """
        from scipy.optimize import linear_sum_assignment  # half a second, for videos alone

        for track in self.tracks:
            track.move(dt)
        keep = faces.scores >= min(KEEP_SCORE, self.min_score)
        boxes, scores = faces.boxes[keep].astype(np.float64), faces.scores[keep]
        likely = scores >= self.min_score
        free = set(range(len(boxes)))
        unseen = set(range(len(self.tracks)))

        def join(likeness: np.ndarray, least: float, allowed: np.ndarray) -> None:
            rows, columns = sorted(unseen), [i for i in sorted(free) if allowed[i]]
            part = likeness[np.ix_(rows, columns)]
            for i, j in zip(*linear_sum_assignment(-part), strict=True):
                row, column = rows[i], columns[j]
                if part[i, j] >= least:
                    self.tracks[row].see(
                        boxes[column], float(scores[column]), dt, bool(likely[column])
                    )
                    unseen.discard(row)
                    free.discard(column)

        expected = np.array([t.box for t in self.tracks]).reshape(-1, 4)
        near = nearness(expected, boxes)
        overlaps = overlap(expected, boxes)
        # Likely faces first, so that a doubtful box beside one cannot take its track (ByteTrack,
        # Zhang et al., 2022).
        join(overlaps, MIN_OVERLAP, likely)
        join(overlaps, MIN_OVERLAP, ~likely)
        lost = np.array([t.unseen_s > dt for t in self.tracks], bool)
        join(np.where(lost[:, None], near, -1e9), -REACH, likely)
        self.tracks = [track for track in self.tracks if track.unseen_s <= CARRY_S]
        if begin:
            area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
            for index in sorted(free, key=lambda i: -area[i]):  # the largest come first
                full = self.max_tracks is not None and len(self.tracks) >= self.max_tracks
                if scores[index] >= self.min_score and not full:
                    self.begun += 1
                    self.tracks.append(Track(self.begun, boxes[index], float(scores[index])))
        return self.tracks


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9)


def nearness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) minus the distance of their middles, in sides of b."""
    middle_a, middle_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    distance = np.linalg.norm(middle_a[:, None] - middle_b[None], axis=-1)
    return -distance / np.maximum((b[:, 2:] - b[:, :2]).max(1, initial=0), 1e-9)[None]


def search_nearby(
    detector: FaceDetector | HeadDetector | SurroundHeadDetector,
    image: np.ndarray,
    boxes: list[np.ndarray],
    min_score: float,
) -> Detections:
    """Faces near where they were: the detector on a small window around each box.

    Args:
        detector: of faces or heads.
        image: (H, W, 3) uint8 RGB.
        boxes: (4,) each.
        min_score: faces below are left out.

    Returns:
        The faces in the picture's pixels.
    """
    picture = Image.fromarray(image)
    windows, places = [], []
    for x_min, y_min, x_max, y_max in boxes:
        half = max(2.0, SEARCH_AREA * max(x_max - x_min, y_max - y_min) / 2)
        x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
        area = tuple(round(v) for v in (x - half, y - half, x + half, y + half))
        window = picture.crop(area).resize((SEARCH_SIDE, SEARCH_SIDE), Image.Resampling.BILINEAR)
        windows.append(np.asarray(window))
        places.append((np.array(area[:2]), (area[2] - area[0]) / SEARCH_SIDE))
    found = []
    for faces, (corner, scale) in zip(detector(windows, min_score), places, strict=True):
        found.append(Detections(faces.boxes * scale + np.tile(corner, 2), faces.scores))
    if not found:
        return Detections(np.zeros((0, 4)), np.zeros(0))
    joined = Detections(
        np.concatenate([f.boxes for f in found]),
        np.concatenate([f.scores for f in found]),
    )
    kept = suppress(joined.boxes, joined.scores)
    return Detections(joined.boxes[kept], joined.scores[kept])
