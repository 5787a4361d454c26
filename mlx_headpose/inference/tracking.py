"""Who is who from frame to frame: faces joined over time, and heads carried while no face shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..core.crop import part_of
from ..detection.finder import Detections, joined
from ..detection.heads.boxes import overlap
from ..detection.heads.detector import SurroundHeadDetector
from ..detection.yolo import HeadDetector
from ..detection.yunet import FaceDetector, suppress
from . import CARRY_S
from .smoothing import OneEuro, PoseFilter, blend

# A face that overlaps a track's expected box less than this is someone else's.
MIN_OVERLAP = 0.25
# Two boxes of one frame that overlap more than this are of one face.
SAME_FACE = 0.3
# A face this likely keeps a track alive; to begin one it needs the user's score.
KEEP_SCORE = 0.2
# A likely face that overlaps no track is still a carried one's if it comes up within this many of
# its sides from where that was expected, in a similar size: a head that turns right round shows its
# face again there.
REACH = 1.0
SIMILAR = 1.6
# The speed of a track that is carried without a face fades with this time constant.
FADE_S = 0.3
# A track that nothing shows a head of lives on unseen for so long: a face may be missed in a frame
# or two, or pass behind somebody else's.
MISSED_S = 0.3
BEHIND_S = 1.0
# Where a face is lost that comes as near as this to a seen one, in its sides, it is behind it.
BEHIND = 1.0
# With as many tracks as asked for, a face of more than this many times the area takes another's.
LARGER = 2.0
# Least share of a head in the picture while no face is found: at the edge it is leaving.
INSIDE = 0.7
# Least likeness of a carried region from frame to frame, see `scene.follow`.
MIN_LIKENESS = 0.6
# Cutoff in Hz of the low-pass filter on a carried head's confidence, which counts for so many times
# the least at most.
CONFIDENCE_CUTOFF = 4.0
SURE = 1.25
# Between detections, faces are looked for near where they were: in a square this many times the
# box's longer side, scaled to this many pixels.
SEARCH_AREA = 2.5
SEARCH_SIDE = 128
# Frames may come a millisecond apart after a stall, and then a pixel of noise is no speed.
SHORTEST_S = 1 / 60


def _box_filter() -> OneEuro:
    # Of pixels, in units of the box's size: at rest 1 Hz, moving its own size in a second 5 Hz.
    return OneEuro(min_cutoff=1.0, beta=4.0)


@dataclass
class Track:
    """One person.

    Attributes:
        number: 1, 2, ...
        box: (4,) the last measured or expected box.
        score: score of the last detection; NaN while no face is found.
        velocity: (4,) pixels per second.
        unseen_s: seconds since a face was found.
        doubt_s: seconds since anything showed a head there.
        age_s: seconds since the person was first found; 0 in that frame.
        behind: whether somebody else's seen head is before it.
    """

    number: int
    box: np.ndarray
    score: float
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(4))
    unseen_s: float = 0.0
    doubt_s: float = 0.0
    age_s: float = 0.0
    behind: bool = False
    pose_filter: Callable[[np.ndarray, float], np.ndarray] = field(default_factory=PoseFilter)
    box_filter: OneEuro = field(default_factory=_box_filter)
    _confidence: float = SURE
    _box_s: float = 0.0  # seconds since the last value of each filter
    _pose_s: float = 0.0

    @property
    def seen(self) -> bool:
        """Whether a face was found in the last frame."""
        return not np.isnan(self.score)

    def move(self, dt: float) -> None:
        """Expect the box where its velocity takes it."""
        self.box = self.box + self.velocity * dt
        if not (self.seen or self.behind):
            self.velocity = self.velocity * np.exp(-dt / FADE_S)
        self.score = float("nan")
        self.unseen_s += dt
        self.doubt_s += dt
        self.age_s += dt
        self._box_s += dt
        self._pose_s += dt

    def carry(self, likeness: float, confidence: float | None, dt: float) -> bool:
        """Take what is in the box for a head whose face does not show, if it looks like one.

        Args:
            likeness: to what was there in the frame before, see `scene.follow`.
            confidence: the network's confidence there, as a multiple of what it has for heads at
                least; None where it cannot tell.
            dt: seconds since the frame before.

        Returns:
            Whether a head is seen there.
        """
        if confidence is None or likeness < MIN_LIKENESS:
            return False
        self._confidence += blend(CONFIDENCE_CUTOFF, dt) * (
            min(confidence, SURE) - self._confidence
        )
        if self._confidence < 1:
            return False
        self.doubt_s = 0.0
        return True

    def see(self, box: np.ndarray, score: float, dt: float, sure: bool = True) -> None:
        """Correct the expected box by the measured one.

        Args:
            box: (4,) measured.
            score: score of the detector.
            dt: seconds since the frame before.
            sure: whether the box may change the velocity. The boxes of vanishing faces jump, and
                would send a track away just before nothing is left to bring it back.
        """
        if self.unseen_s > dt:
            self.velocity = np.zeros(4)  # where a face comes up again says nothing of its motion
        elif sure and self.age_s > 0:
            self.velocity = self.velocity + 0.5 * (box - self.box) / max(dt, SHORTEST_S)
            # What grows in one frame is the detector's noise: only the middle moves on.
            middle = (self.velocity[:2] + self.velocity[2:]) / 2
            self.velocity = np.concatenate([middle, middle])
        self.box, self.score = box, score
        self.unseen_s = self.doubt_s = 0.0
        self.behind = False
        self._confidence = SURE

    def smooth_box(self) -> np.ndarray:
        """(4,) the box without the detector's jitter."""
        size = max(self.box[2] - self.box[0], self.box[3] - self.box[1], 1.0)
        dt, self._box_s = self._box_s, 0.0
        return self.box_filter(self.box, dt, unit=size)

    def smooth_pose(self, pose: np.ndarray) -> np.ndarray:
        """(3,) degrees: a pose without the network's jitter."""
        dt, self._pose_s = self._pose_s, 0.0
        return self.pose_filter(pose, dt)


class Tracker:
    """Joins faces to tracks by the overlap of boxes (Hungarian assignment).

    Args:
        min_score: faces below this begin no track.
        max_tracks: most people followed at once, the largest; None means all.
        carry_s: seconds that a track is carried without a face.
    """

    def __init__(self, min_score: float, max_tracks: int | None = None, carry_s: float = CARRY_S):
        self.min_score = min_score
        self.max_tracks = max_tracks
        self.carry_s = carry_s
        self.tracks: list[Track] = []
        self.begun = 0

    def update(
        self,
        faces: Detections,
        dt: float,
        begin: bool = True,
        size: tuple[float, float] = (np.inf, np.inf),
    ) -> list[Track]:
        """Take in the faces of the next frame.

        Args:
            faces: detected in it, also those of a low score.
            dt: seconds since the frame before.
            begin: whether faces that belong to nobody begin tracks.
            size: width and height of the frame; who leaves it is followed no more.

        Returns:
            The tracks that are alive, oldest first.
        """
        from scipy.optimize import linear_sum_assignment  # half a second, for videos alone

        certain = {t.number for t in self.tracks if t.doubt_s == 0 or t.behind}
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
        # Where a head was seen up to now without a face, or went behind another, a face that comes
        # up is the same person's.
        lost = np.array([t.unseen_s > dt and t.number in certain for t in self.tracks], bool)
        same = lost[:, None] & similar(expected, boxes)
        join(np.where(same, near, -1e9), -REACH, likely)
        self._end_lost(size)
        if begin:
            for index in sorted(free, key=lambda i: -_area(boxes[i])):  # the largest come first
                if scores[index] >= self.min_score and self._room_for(boxes[index]):
                    self.begun += 1
                    self.tracks.append(Track(self.begun, boxes[index], float(scores[index])))
        return self.tracks

    def _room_for(self, box: np.ndarray) -> bool:
        """Whether a face may begin a track; if all are taken, a clearly smaller one ends for it."""
        if self.max_tracks is None or len(self.tracks) < self.max_tracks:
            return True
        smallest = min(self.tracks, key=lambda track: _area(track.box))
        if _area(box) <= LARGER * _area(smallest.box):
            return False
        self.tracks.remove(smallest)
        return True

    def clear(self) -> None:
        """End all tracks: the next frame shows another place."""
        self.tracks = []

    def _end_lost(self, size: tuple[float, float]) -> None:
        """End the tracks whose heads nothing shows, and see who is behind whom."""
        seen = [track for track in self.tracks if track.seen]
        for track in self.tracks:
            if not track.seen:
                track.behind = any(_behind(track, other) for other in seen)
        self.tracks = [track for track in self.tracks if self._alive(track, np.array(size))]

    def _alive(self, track: Track, size: np.ndarray) -> bool:
        if track.seen:
            return True
        inside = np.clip(track.box.reshape(2, 2), 0, size)
        share = (inside[1] - inside[0]).prod() / (track.box[2:] - track.box[:2]).prod()
        doubt = track.doubt_s <= (BEHIND_S if track.behind else MISSED_S) + 1e-9
        return share >= INSIDE and doubt and track.unseen_s <= max(self.carry_s, MISSED_S)


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())


def _behind(lost: Track, seen: Track) -> bool:
    """Whether a lost face is behind a seen one, rather than turned away beside it."""
    if overlap(lost.box[None], seen.box[None])[0, 0] > MIN_OVERLAP:
        return True
    if nearness(lost.box[None], seen.box[None])[0, 0] < -BEHIND:
        return False
    way = (seen.box - lost.box).reshape(2, 2).mean(0)
    approach = (lost.velocity - seen.velocity).reshape(2, 2).mean(0) @ way
    return lost.behind or bool(approach > 0.5 * way @ way)


def nearness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) minus the distance of their middles, in sides of b."""
    middle_a, middle_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    distance = np.linalg.norm(middle_a[:, None] - middle_b[None], axis=-1)
    return -distance / np.maximum((b[:, 2:] - b[:, :2]).max(1, initial=0), 1e-9)[None]


def similar(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes → (N, M) whether their sides differ by a factor `SIMILAR` at most."""
    side_a, side_b = ((v[:, 2:] - v[:, :2]).max(1, initial=1e-9) for v in (a, b))
    ratio = side_a[:, None] / side_b[None]
    return (ratio <= SIMILAR) & (ratio >= 1 / SIMILAR)


def near_those(boxes: np.ndarray, found: Detections) -> Detections:
    """The faces that overlap one of some boxes (N, 4) enough to be the same."""
    return found.chosen(overlap(boxes, found.boxes).max(0, initial=0) >= MIN_OVERLAP)


def search_nearby(
    detector: FaceDetector | HeadDetector | SurroundHeadDetector,
    image: np.ndarray,
    boxes: list[np.ndarray],
    min_score: float,
) -> Detections:
    """Faces near where they were: the detector on a small window around each box.

    Args:
        detector: detector of faces or heads.
        image: (H, W, 3) uint8 RGB.
        boxes: (4,) each.
        min_score: faces below are left out.

    Returns:
        The faces in the picture's pixels.
    """
    if not boxes:
        return Detections(np.zeros((0, 4)), np.zeros(0))
    picture = Image.fromarray(image)
    windows, places = [], []
    for x_min, y_min, x_max, y_max in boxes:
        half = max(2.0, SEARCH_AREA * max(x_max - x_min, y_max - y_min) / 2)
        x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
        area = round(x - half), round(y - half), round(x + half), round(y + half)
        window = part_of(picture, area)
        window = window.resize((SEARCH_SIDE, SEARCH_SIDE), Image.Resampling.BILINEAR)
        windows.append(np.asarray(window))
        places.append((np.array(area[:2]), (area[2] - area[0]) / SEARCH_SIDE))
    found = []
    for faces, (corner, scale) in zip(detector(windows, min_score), places, strict=True):
        found.append(Detections(faces.boxes * scale + np.tile(corner, 2), faces.scores))
    every = joined(found)
    return every.chosen(suppress(every.boxes, every.scores))
