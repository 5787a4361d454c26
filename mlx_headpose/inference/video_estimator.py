"""Every head followed through the frames of a video or a camera."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np

from .. import process
from ..cpu.blas import one_thread
from ..detection import DEFAULT_MIN_SCORE
from ..detection.finder import Detections, joined
from ..detection.heads.boxes import overlap
from ..errors import InputError
from ..space.facing import Attention, Zone
from . import CARRY_S
from .estimator import Head, HeadPoseEstimator
from .scene import SceneChange, follow
from .smoothing import PoseFilter
from .tracking import KEEP_SCORE, MIN_OVERLAP, SAME_FACE, Track, Tracker, near_those, search_nearby
from .verified import VerifiedHeadDetector
from .video import Frame

# Of so many searches of whole frames the first is fine, the others are the detector's `quick`.
FINE_EVERY = 10


class VideoEstimator:
    """Follows every head through a video.

    A head whose face is not found, because it turned away, is carried along for a while, its
    `score` None: as long as its region can be followed from frame to frame and the network's
    confidence says that it sees a head there. A cut ends all tracks, and so do a jump of the whole
    picture and a time before the last frame's; who leaves the picture has left.

    Args:
        estimator: for one picture.
        min_score: min score of a face that begins a track.
        max_heads: most heads followed at once, the largest.
        detect_every: the whole frame is searched for faces every so many frames; in between, only
            the surroundings of each head.
        ahead: the search of a whole frame goes on beside the next frames, and the heads that it
            finds are looked for in the frame that comes so many later; less than `detect_every`.
            While nobody is followed, and with 0, the frame waits for it. The number is fixed so
            that the same frames give the same heads.
        smooth: whether boxes and poses go through the One-Euro filter.
        carry: seconds that a head is carried without a face at most; 0 never.
        make_filter: makes the filter of a head's poses.
        zones: what heads may face.

    Attributes:
        attention: track's number → what that person faces.

    Raises:
        InputError: `detect_every` is below 1; of a frame, its time is not finite.
    """

    def __init__(
        self,
        estimator: HeadPoseEstimator,
        min_score: float = DEFAULT_MIN_SCORE,
        max_heads: int | None = None,
        detect_every: int = 3,
        ahead: int = 0,
        smooth: bool = True,
        carry: float = CARRY_S,
        make_filter: Callable[[], Callable[[np.ndarray, float], np.ndarray]] = PoseFilter,
        zones: Sequence[Zone] = (),
    ):
        if detect_every < 1:
            raise InputError(f"detect_every must be at least 1, not {detect_every}")
        self.estimator = estimator
        self.make_filter = make_filter
        self.zones = zones
        self.attention: dict[int, Attention] = {}
        self.tracker = Tracker(min_score, max_heads, carry)
        self.detect_every = detect_every
        self.ahead = min(ahead, detect_every - 1)
        self.smooth = smooth
        self._changed = SceneChange()
        self._frames = 0
        self._searches = 0
        self._last: Frame | None = None
        self._search: Future[list[Detections]] | None = None  # that goes on beside the frames

    def __call__(self, frame: Frame) -> list[Head]:
        """The heads of the next frame, with their track numbers, oldest track first."""
        if not math.isfinite(frame.time):
            raise InputError(f"frame {frame.index} has no time: {frame.time} seconds")
        last, self._last = self._last, frame
        again = last is not None and frame.time < last.time  # another video begins
        if again:
            last = None
        dt = 0.0 if last is None else frame.time - last.time
        if self._changed(frame.image) or again:
            self.tracker.clear()
            self._frames = self._searches = 0
            self._search = None
        faces, begin = self._find(frame, dt)
        detector = self.estimator.detector
        before = {track.number: track.box for track in self.tracker.tracks}
        height, width = frame.image.shape[:2]
        tracks = self.tracker.update(faces, dt, begin=begin, size=(width, height))
        shown = [track for track in tracks if track.seen]
        likeness: dict[int, float] = {}
        if last is not None and self.tracker.carry_s > 0 and detector.finds == "faces":
            for track in tracks:
                if not track.seen and not track.behind:
                    track.box, likeness[track.number] = follow(
                        last.image, before[track.number], frame.image, track.box
                    )
                    shown.append(track)
        return self._heads(frame, shown, likeness, dt)

    def computing(self) -> AbstractContextManager[None]:
        """What every loop over frames is in, of cameras and of their recordings.

        A search and the following of heads beside it would wait for each other's matrix products,
        and sums depend on how many threads share them.
        """
        return one_thread() if self.ahead else nullcontext()

    def _find(self, frame: Frame, dt: float) -> tuple[Detections, bool]:
        """The faces of the next frame, and whether they may begin tracks."""
        turn = self._frames % self.detect_every
        self._frames += 1
        low = min(KEEP_SCORE, self.tracker.min_score)
        detector = self.estimator.detector
        # Who is followed was verified when a search of the whole frame found them.
        plain = detector.plain if isinstance(detector, VerifiedHeadDetector) else detector
        expected = np.array([t.box + t.velocity * dt for t in self.tracker.tracks]).reshape(-1, 4)
        if turn == 0:
            self._searches += 1
            # Small faces are looked for now and then; once found, they are followed.
            search = getattr(detector, "quick", detector)
            if self._searches % FINE_EVERY == 1:
                search = getattr(detector, "whole", detector)
            if not (self.ahead and self.tracker.tracks):  # who is followed need not wait
                (faces,) = search([frame.image], low)
                lost = expected[overlap(expected, faces.boxes).max(1, initial=0) < MIN_OVERLAP]
                near = near_those(lost, search_nearby(plain, frame.image, list(lost), low))
                others = overlap(near.boxes, faces.boxes).max(0, initial=0) < SAME_FACE
                faces = Detections(faces.boxes[others], faces.scores[others])
                return joined([faces, near]), True
            self._search = process.begin(partial(search, [frame.image], low))
        if self._search is None or turn != self.ahead:
            return search_nearby(plain, frame.image, list(expected), low), False
        (faces,), self._search = self._search.result(), None
        # The windows are searched without verification, so they begin only what that search was
        # sure of.
        new = overlap(expected, faces.boxes).max(0, initial=0) < MIN_OVERLAP
        new &= faces.scores >= self.tracker.min_score
        expected = np.concatenate((expected, faces.boxes[new]))
        return near_those(expected, search_nearby(plain, frame.image, list(expected), low)), True

    def _heads(
        self, frame: Frame, tracks: list[Track], likeness: dict[int, float], dt: float
    ) -> list[Head]:
        """The heads of tracks; of those that are carried, the ones that the network sees."""
        tracks = sorted(tracks, key=lambda track: track.number)
        boxes = [track.smooth_box() if self.smooth else track.box for track in tracks]
        known = Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([track.score for track in tracks]),
        )
        heads = []
        (estimated,) = self.estimator.estimate([frame.image], [known])
        for head, track in zip(estimated, tracks, strict=True):
            if track.age_s == 0:
                track.pose_filter = self.make_filter()
            if head is None:
                continue
            if not track.seen:
                confidence = head.confidence
                if confidence is not None:
                    confidence /= self.estimator.min_confidence
                if not track.carry(likeness[track.number], confidence, dt):
                    continue
            pose = track.smooth_pose(head.pose) if self.smooth else head.pose
            heads.append(dataclasses.replace(head.turned(pose), track=track.number))
        placed = self.estimator.placed(heads, frame.image.shape[1::-1])
        relative = self.estimator.zeroed(placed)
        if not self.zones:
            return relative
        return [self._facing(*pair, dt) for pair in zip(placed, relative, strict=True)]

    def _facing(self, placed: Head, relative: Head, dt: float) -> Head:
        """A head relative to the zero, with the zone that it faces."""
        assert placed.track is not None
        attention = self.attention.setdefault(placed.track, Attention())
        zone = attention.update(
            self.zones,
            np.array(placed.position),
            placed.pose,
            dt,
            None if self.estimator.zero is None else relative.pose,
        )
        return dataclasses.replace(relative, facing=zone)
