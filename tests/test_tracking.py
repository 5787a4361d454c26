"""Joining faces over time, and carrying heads whose faces are gone."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from support.squares import DT, FakeDetector, FakeEstimator, faces, square

from mlx_headpose.detection.finder import Detections
from mlx_headpose.errors import InputError
from mlx_headpose.inference.estimator import Head
from mlx_headpose.inference.tracking import (
    CARRY_S,
    MISSED_S,
    Track,
    Tracker,
    overlap,
    search_nearby,
)
from mlx_headpose.inference.video import Frame
from mlx_headpose.inference.video_estimator import VideoEstimator

pytest.importorskip("cv2")


def lose(tracker: Tracker, frames: int) -> list[Track]:
    """What is alive after frames in which no face shows, but the heads do."""
    for _ in range(frames):
        tracks = tracker.update(faces(), DT)
        for track in tracks:
            assert track.carry(likeness=0.9, confidence=1.2, dt=DT)
    return tracks


def test_numbers_stay_with_people_who_cross_and_leave() -> None:
    tracker = Tracker(min_score=0.5)
    numbers = {}
    for step in range(40):
        left, right = square(50 + 10 * step, y=100), square(450 - 10 * step, y=150)
        boxes = [right, left] if step % 2 else [left, right]  # the detector's order means nothing
        tracks = tracker.update(faces(*boxes), DT)
        for name, box in (("left", left), ("right", right)):
            best = max(tracks, key=lambda t: overlap(t.box[None], np.array([box]))[0, 0])
            numbers.setdefault(name, set()).add(best.number)
    assert numbers == {"left": {1}, "right": {2}}
    for _ in range(int(CARRY_S / DT) + 2):
        tracks = tracker.update(faces(square(440, y=100)), DT)
    assert [t.number for t in tracks] == [1]


def test_a_lost_face_is_carried_and_taken_up_again() -> None:
    tracker = Tracker(min_score=0.5)
    for step in range(10):
        tracker.update(faces(square(100 + 3 * step)), DT)
    (track,) = lose(tracker, 10)
    assert np.isnan(track.score)
    assert 130 < track.box[0] < 160  # it went on in its direction
    (track,) = tracker.update(faces(square(155), score=0.25), DT)  # a weak face is enough now
    assert (track.number, track.score) == (1, 0.25)
    assert len(lose(tracker, int(CARRY_S / DT) - 1)) == 1
    assert lose(tracker, 3) == []
    tracker.update(faces(square(100)), DT)
    for _ in range(int(MISSED_S / DT) + 2):  # nothing shows a head
        tracks = tracker.update(faces(), DT)
    assert tracks == []


def test_a_doubtful_box_takes_no_track_from_a_likely_face() -> None:
    tracker = Tracker(min_score=0.5)
    tracker.update(faces(square(100)), DT)
    boxes = np.array([square(103), square(125)], np.float32)
    both = Detections(boxes, np.array([0.25, 0.7]))
    (track,) = tracker.update(both, DT)  # the doubtful box overlaps the track more
    assert (track.number, track.score) == (1, 0.7)


def test_a_head_that_turned_round_keeps_its_number() -> None:
    tracker = Tracker(min_score=0.5)
    for _ in range(10):
        tracker.update(faces(square(100)), DT)
    tracker.update(faces(square(80), score=0.3), DT)  # a vanishing face's box jumps
    (track,) = lose(tracker, 30)
    np.testing.assert_allclose(track.box, square(80))
    (track,) = tracker.update(faces(square(151)), DT)  # beside where it was lost
    assert track.number == 1
    np.testing.assert_array_equal(track.velocity, 0)
    lose(tracker, 30)
    tracks = tracker.update(faces(square(240)), DT)  # too far off
    assert [t.number for t in tracks] == [1, 2]
    tracker.clear()
    tracker.update(faces(square(100)), DT)
    lose(tracker, 30)
    tracks = tracker.update(faces(square(130, side=160)), DT)  # too large
    assert [t.number for t in tracks] == [3, 4]


def test_who_passes_behind_somebody_keeps_the_number() -> None:
    tracker = Tracker(min_score=0.5)
    for step in range(30):
        front, back = square(300 - 6 * step), square(50 + 6 * step)
        hidden = abs(front[0] - back[0]) < 80
        tracks = tracker.update(faces(front) if hidden else faces(front, back), DT)
    for _ in range(2):
        tracks = tracker.update(faces(front, square(50 + 6 * step)), DT)
    assert sorted((t.number, bool(t.seen)) for t in tracks) == [(1, True), (2, True)]


def test_who_is_seen_is_not_taken_for_somebody_beside() -> None:
    tracker = Tracker(min_score=0.5)
    tracker.update(faces(square(100)), DT)
    tracks = tracker.update(faces(square(165)), DT)  # nothing was lost before this frame
    assert [t.number for t in tracks] == [1, 2]


def test_weak_faces_begin_no_track_and_only_so_many_do() -> None:
    tracker = Tracker(min_score=0.5, max_tracks=1)
    assert tracker.update(faces(square(0), score=0.4), DT) == []
    assert len(tracker.update(faces(square(0), square(300)), DT)) == 1
    assert Tracker(0.5).update(faces(square(0)), DT, begin=False) == []
    assert len(Tracker(0.1).update(faces(square(0), score=0.15), DT)) == 1


def test_with_a_limit_the_largest_faces_are_followed() -> None:
    tracker = Tracker(min_score=0.5, max_tracks=1)
    small, large = np.array([0, 0, 30, 40]), np.array([100, 0, 300, 280])
    assert [t.number for t in tracker.update(faces(small), DT)] == [1]
    slightly_larger = large * 0.2
    assert [t.number for t in tracker.update(faces(small, slightly_larger), DT)] == [1]
    (track,) = tracker.update(faces(small, large), DT)
    assert track.number == 2
    assert (track.box == large).all()


def test_a_step_of_a_moment_throws_no_track_away() -> None:
    """A camera that stalled gives its next frames at once, and boxes are never quite still."""
    tracker = Tracker(min_score=0.5)
    times = [0, DT, 2 * DT, 3 * DT, 3 * DT + 1e-6, 4 * DT, 4 * DT + 0.002, 5 * DT, 6 * DT]
    for number, time in enumerate(times):
        box = np.array(square(100 + 60 * time)) + (-1.5) ** (number % 2)
        dt = time - times[max(number - 1, 0)]
        tracks = tracker.update(faces(tuple(box)), dt, size=(640, 480))
        assert [t.number for t in tracks if t.seen] == [1]


def test_filters_know_how_long_a_head_was_gone() -> None:
    class Spy:
        def __init__(self) -> None:
            self.steps: list[float] = []

        def __call__(self, value: np.ndarray, dt: float, **_: object) -> np.ndarray:
            self.steps.append(dt)
            return value

    track = Track(1, np.array(square(0)), 0.9)
    track.box_filter, track.pose_filter = Spy(), Spy()  # type: ignore[assignment]
    for gap in (0, 1, 4, 1):
        for _ in range(gap):
            track.move(DT)
        track.smooth_box()
        if gap != 1:
            track.smooth_pose(np.zeros(3))
    assert track.box_filter.steps == pytest.approx([0, DT, 4 * DT, DT])  # type: ignore[attr-defined]
    assert track.pose_filter.steps == pytest.approx([0, 5 * DT])  # type: ignore[attr-defined]


def test_searching_nearby_finds_what_the_whole_picture_shows(shared: Path) -> None:
    pytest.importorskip("onnx")
    from mlx_headpose.detection.yunet import ONNX_NAME, FaceDetector
    from mlx_headpose.inference.pictures import open_picture

    detector = FaceDetector.from_pretrained(shared / "weights" / ONNX_NAME)
    image = open_picture(shared / "data" / "AFLW2000" / "image00006.jpg")
    (whole,) = detector([image])
    shifted = list(whole.boxes + np.array([12, -9, 12, -9]))
    near = search_nearby(detector, image, shifted, 0.3)
    best = overlap(whole.boxes, near.boxes).max(1)
    assert (best > 0.75).all()
    assert len(search_nearby(detector, image, [], 0.3)) == 0
    # A window beside the picture holds nothing, and fails nothing.
    assert len(search_nearby(detector, image, [np.array([-900.0, 0, -800, 100])], 0.3)) == 0


def watch(
    pictures: list[np.ndarray], estimator: FakeEstimator | None = None, **options: object
) -> list[list[Head]]:
    """The heads of pictures that follow each other at 30 frames a second."""
    video = VideoEstimator(estimator or FakeEstimator(), smooth=False, **options)
    return [video(Frame(i, i * DT, picture)) for i, picture in enumerate(pictures)]


class Whole(FakeDetector):
    """Sees in whole frames what `sees` gives of it: its share, and their scores."""

    def __init__(self) -> None:
        self.sees = lambda found: found

    def __call__(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
        found = super().__call__(images, min_score)
        if images and images[0].shape[0] == 240:
            found = [self.sees(those) for those in found]
        return found


def test_who_is_too_small_for_the_search_of_a_whole_frame_is_still_followed() -> None:
    estimator = FakeEstimator()
    estimator.detector = Whole()
    video = VideoEstimator(estimator, smooth=False, detect_every=3, carry=0)
    counts = []
    for i in range(10):
        counts.append(len(video(Frame(i, i * DT, with_head(with_head(room(), 20), 140)))))
        estimator.detector.sees = lambda found: found.chosen(np.array([0]))
    assert counts == [2] * 10


def test_a_face_that_two_searches_find_is_one_person() -> None:
    """A fast head is found anew by the whole search, and where its track expects it."""
    estimator = FakeEstimator()
    estimator.detector = Whole()
    # The search of whole frames sees the face a pixel further than the windows do.
    estimator.detector.sees = lambda found: faces(*(tuple(box + 1.2) for box in found.boxes))
    numbers: set[int | None] = set()
    for move in range(44, 60, 2):
        video = VideoEstimator(estimator, smooth=False, detect_every=1)
        for i, x in enumerate((20, 20 + move)):
            heads = video(Frame(i, i * DT, with_head(room(), x)))
            assert len(heads) == 1
            numbers.add(heads[0].track)
    assert 1 in numbers


def test_what_a_search_doubts_begins_no_track_while_others_are_followed() -> None:
    def doubt(found: Detections) -> Detections:
        found.scores[1:] = 0.3
        return found

    estimator = FakeEstimator()
    estimator.detector = Whole()
    estimator.detector.sees = doubt
    pictures = [with_head(with_head(room(), 20), 140)] * 12
    counts = [len(h) for h in watch(pictures, estimator, detect_every=3, ahead=2)]
    assert counts == [1] * 12


def test_frames_do_not_wait_for_the_search_of_a_whole_one() -> None:
    class Slow(FakeDetector):
        """Searches a whole frame as long as it takes, but for the first time."""

        def __init__(self) -> None:
            self.go_on = threading.Event()
            self.began = threading.Semaphore(0)
            self.searches = 0

        def __call__(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
            if images and images[0].shape[0] == 240:
                self.searches += 1
                self.began.release()
                assert self.searches == 1 or self.go_on.wait(10)
            return super().__call__(images, min_score)

    estimator = FakeEstimator()
    estimator.detector = slow = Slow()
    video = VideoEstimator(estimator, smooth=False, detect_every=5, ahead=3)
    counts = []
    for i in range(12):
        picture = with_head(room(), 20)
        if i >= 4:  # somebody comes in right before the second search
            picture = with_head(picture, 140 + i)
        if i == 8:  # three frames have passed beside it
            slow.go_on.set()
        heads = video(Frame(i, i * DT, picture))
        counts.append(len(heads))
    for _ in range(3):  # a thread of its own does the last one, and may begin late
        assert slow.began.acquire(timeout=10)
    assert counts == [1] * 8 + [2] * 4
    assert heads[1].box[0] == pytest.approx(140 + 11, abs=3)  # where it is now


def room(seed: int = 0, side: int = 240) -> np.ndarray:
    """A blue room, (side, side, 3), with things on its walls."""
    blocks = np.random.default_rng(seed).integers(0, (40, 240, 255), (12, 12, 3), np.uint8)
    return np.kron(blocks, np.ones((side // 12, side // 12, 1), np.uint8))


def with_head(picture: np.ndarray, x: int, y: int = 100, turned: bool = False) -> np.ndarray:
    """A striped head of 40 pixels: white from the front, grey from behind."""
    picture = picture.copy()
    light, dark = (120, 80) if turned else (255, 200)
    head = np.full((40, 40, 3), light, np.uint8)
    head[10:16, 5:35] = dark
    head[22:30, 10:20] = dark
    left, right = max(x, 0), min(x + 40, picture.shape[1])
    if left < right:
        picture[y : y + 40, left:right] = head[:, left - x : right - x]
    return picture


@pytest.mark.parametrize("detect_every", [1, 3])
def test_who_leaves_the_picture_has_left(detect_every: int) -> None:
    way = [with_head(room(), 100 - 5 * step) for step in range(30)]
    way += [with_head(room(), -40 + 5 * step) for step in range(20)]  # somebody else comes in
    found = watch(way, detect_every=detect_every)
    assert {head.track for heads in found[:20] for head in heads} == {1}
    assert not any(found[28:31])  # nothing of a head shows
    assert {head.track for heads in found[31:] for head in heads} == {2}


def test_a_cut_ends_all_tracks() -> None:
    portrait = with_head(room(), 100)
    found = watch([portrait] * 10 + [room(7)] * 10 + [with_head(room(8), 100)] * 10)
    assert [len(heads) for heads in found] == [1] * 10 + [0] * 10 + [1] * 10
    assert {head.track for heads in found for head in heads} == {1, 2}
    straight = watch([portrait] * 10 + [with_head(room(8), 104)] * 10)
    assert [[head.track for head in heads] for heads in straight] == [[1]] * 10 + [[2]] * 10


def test_a_time_before_the_last_begins_another_video() -> None:
    video = VideoEstimator(FakeEstimator(), smooth=False)
    portrait = with_head(room(), 100)
    for number in (1, 2):
        for i in range(5):
            (head,) = video(Frame(i, i * DT, portrait))
            assert head.track == number
    with pytest.raises(InputError, match="frame 7 has no time: nan seconds"):
        video(Frame(7, float("nan"), portrait))
    with pytest.raises(InputError, match="detect_every must be at least 1, not 0"):
        VideoEstimator(FakeEstimator(), detect_every=0)


def test_a_jump_of_the_whole_picture_ends_all_tracks() -> None:
    wide = with_head(np.concatenate([room(), room(1)], 1), 150)
    found = watch([wide[:, :240]] * 10 + [np.ascontiguousarray(wide[:, 60:300])] * 10)
    assert [[head.track for head in heads] for heads in found] == [[1]] * 10 + [[2]] * 10


def test_light_that_changes_is_no_cut() -> None:
    portrait = with_head(room(), 100)
    found = watch([portrait] * 5 + [(portrait * 0.7).astype(np.uint8)] * 5)
    assert {head.track for heads in found for head in heads} == {1}


def test_a_head_is_carried_where_one_is_seen_and_nowhere_else() -> None:
    ahead = [with_head(room(), 100 + step) for step in range(10)]
    away = [with_head(room(), 110 + step, turned=True) for step in range(60)]
    found = watch(ahead + away)
    assert all(len(heads) == 1 for heads in found)
    assert [heads[0].score is None for heads in found] == [False] * 10 + [True] * 60
    assert abs(found[-1][0].box[0] - 169) < 10  # it was followed
    gone = watch(ahead + [room()] * 60)  # behind a door
    assert not any(gone[10:])


@pytest.mark.parametrize(("carry", "rows"), [(0, 0), (0.5, 15), (9, 60)])
def test_a_head_is_carried_for_as_long_as_asked(carry: float, rows: int) -> None:
    ahead, away = with_head(room(), 100), with_head(room(), 100, turned=True)
    found = watch([ahead] * 10 + [away] * 60, carry=carry)
    assert sum(map(len, found[10:])) == rows
    assert watch([ahead] * 10 + [away] * 5 + [ahead] * 5, carry=carry)[-1][0].track == 1


def test_networks_that_cannot_tell_carry_nobody() -> None:
    class Silent(FakeEstimator):
        def confidence(self, image: np.ndarray, box: np.ndarray) -> None:
            return None

    ahead, away = with_head(room(), 100), with_head(room(), 100, turned=True)
    found = watch([ahead] * 10 + [away] * 5 + [ahead] * 5, Silent())
    assert [len(heads) for heads in found] == [1] * 10 + [0] * 5 + [1] * 5
    assert found[-1][0].track == 1


def test_a_head_detector_sees_heads_from_behind_itself() -> None:
    estimator = FakeEstimator()
    estimator.detector.finds = "heads"
    ahead, away = with_head(room(), 100), with_head(room(), 100, turned=True)
    assert not any(watch([ahead] * 10 + [away] * 60, estimator)[10:])


def test_a_new_face_revives_no_track_of_somebody_who_is_gone() -> None:
    before, after = with_head(room(), 100), with_head(room(), 130)
    found = watch([before] * 10 + [room()] * 20 + [after] * 10)
    assert {head.track for heads in found[30:] for head in heads} == {2}
