"""Smoothing on rotations, joining faces over time, and whole videos."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from mlx_headpose.detection.finder import Detections
from mlx_headpose.errors import InputError
from mlx_headpose.inference import video as video_module
from mlx_headpose.inference.estimator import Head
from mlx_headpose.inference.smoothing import OneEuro, PoseFilter, blend
from mlx_headpose.inference.tracking import (
    CARRY_S,
    MISSED_S,
    Track,
    Tracker,
    overlap,
    search_nearby,
)
from mlx_headpose.inference.video import Clock, Frame, VideoReader, VideoWriter
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.pose import geodesic_errors

cv2 = pytest.importorskip("cv2")
ROOT = Path(__file__).resolve().parent.parent
DT = 1 / 30


def faces(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    count = len(boxes)
    values = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(values, np.full(count, score))


def square(x: float, y: float = 100, side: float = 80) -> tuple[float, ...]:
    return (x, y, x + side, y + side)


def lose(tracker: Tracker, frames: int) -> list[Track]:
    """What is alive after frames in which no face shows, but the heads do."""
    for _ in range(frames):
        tracks = tracker.update(faces(), DT)
        for track in tracks:
            assert track.carry(likeness=0.9, confidence=1.2, dt=DT)
    return tracks


def test_blend_is_the_papers_alpha() -> None:
    cutoff, dt = 2.0, 0.02
    tau = 1 / (2 * np.pi * cutoff)
    assert blend(cutoff, dt) == pytest.approx(1 / (1 + tau / dt))


def test_one_euro_without_beta_is_a_low_pass_filter() -> None:
    low_pass = OneEuro(min_cutoff=1.5, beta=0)
    value = low_pass(np.array([0.0]), DT)
    for _ in range(10):
        value = low_pass(np.array([1.0]), DT)
    assert value[0] == pytest.approx(1 - (1 - blend(1.5, DT)) ** 10)


def test_a_constant_pose_stays() -> None:
    smooth = PoseFilter()
    for _ in range(5):
        np.testing.assert_allclose(smooth(np.array([40.0, -10, 5]), DT), [40, -10, 5], atol=1e-6)


@pytest.mark.parametrize("start", [(175.0, 0, 0), (85.0, 20, 10), (0.0, 80, 0)])
def test_turning_through_the_seam_has_no_jump(start: tuple[float, ...]) -> None:
    smooth = PoseFilter()
    before = None
    for step in range(40):
        yaw = (start[0] + step + 180) % 360 - 180
        true = np.array([yaw, start[1], start[2]])
        filtered = smooth(true, DT)
        assert geodesic_errors(filtered, true) < 6
        # The triple is the one near the measured angles, not its mirror image behind.
        assert np.abs((filtered - true + 180) % 360 - 180).max() < 15
        if before is not None:
            assert geodesic_errors(filtered, before) < 2
        before = filtered


def test_less_jitter_at_rest_and_little_lag_in_motion() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(0, 6, DT)
    yaw = np.where(time < 3, 0, np.minimum((time - 3) * 90, 90))
    true = np.stack([yaw, 0 * yaw, 0 * yaw], 1)
    noisy = true + rng.normal(0, 2, true.shape)
    smooth = PoseFilter()
    filtered = np.array([smooth(pose, DT) for pose in noisy])
    resting = slice(30, 90)

    def jitter(poses: np.ndarray) -> float:
        return float(geodesic_errors(poses[resting][1:], poses[resting][:-1]).mean())

    assert jitter(filtered) < jitter(noisy) / 3
    assert geodesic_errors(filtered, true).mean() < geodesic_errors(noisy, true).mean()


def test_smoothed_boxes_are_calmer_wherever_they_are() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 4))
    for corner in (0, 3000):
        tracker = Tracker(min_score=0.5)
        found = np.array([corner, corner, corner + 60, corner + 60]) + noise
        smooth = []
        for box in found:
            (track,) = tracker.update(faces(box), DT)
            smooth.append(track.smooth_box(DT))
        assert np.std(smooth, axis=0).max() < 0.6 * np.std(found, axis=0).min()


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


class FakeDetector:
    """Takes white squares for faces, whatever is in them."""

    finds = "faces"

    def __call__(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
        found = []
        for image in images:
            labels, count = ndimage.label(image[:, :, 0] > 128)
            slices = ndimage.find_objects(labels)[:count]
            found.append(faces(*((x.start, y.start, x.stop, y.stop) for y, x in slices)))
        return found


class FakeEstimator:
    """Takes a white square for a face, its left edge for the yaw, and anything grey for a head."""

    min_confidence = 0.5

    def __init__(self) -> None:
        self.detector = FakeDetector()

    def placed(self, heads: list[Head], size: tuple[int, int]) -> list[Head]:
        return heads

    def zeroed(self, heads: list[Head]) -> list[Head]:
        return heads

    def estimate(self, images: list[np.ndarray], known: list[Detections]) -> list[list[Head]]:
        return [
            [
                Head(
                    tuple(box),
                    float(box[0]),
                    0.0,
                    0.0,
                    confidence=self.confidence(image, box),
                    score=None if np.isnan(score) else float(score),
                )
                for box, score in zip(those.boxes, those.scores, strict=True)
            ]
            for image, those in zip(images, known, strict=True)
        ]

    def confidence(self, image: np.ndarray, box: np.ndarray) -> float | None:
        x_min, y_min, x_max, y_max = np.maximum(box, 0).astype(int)
        return 0.9 if (image[y_min:y_max, x_min:x_max, 0] > 60).mean() > 0.5 else 0.1


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    def make(frames: int = 40, name: str = "clip.avi", codec: str = "MJPG") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20, (160, 120))
        assert writer.isOpened()
        for index in range(frames):
            frame = np.zeros((120, 160, 3), np.uint8)
            frame[40:80, 20 + index : 60 + index] = 255
            writer.write(frame)
        writer.release()
        return path

    return make


def process(path: Path, output: Path, **options: object) -> tuple[VideoReader, list[list[Head]]]:
    video = VideoEstimator(FakeEstimator(), **options)  # type: ignore[arg-type]
    results = []
    with (
        VideoReader(path) as reader,
        VideoWriter(output, reader.fps, lambda image, heads: image) as writer,
    ):
        for frame in reader:
            results.append(video(frame))
            writer.put(frame.image, results[-1])
    return reader, results


@pytest.mark.parametrize("detect_every", [1, 3])
def test_a_whole_video(clip: Callable[..., Path], tmp_path: Path, detect_every: int) -> None:
    output = tmp_path / "out" / "drawn.mp4"
    reader, results = process(clip(), output, detect_every=detect_every)
    assert (reader.decoded, reader.failed, reader.announced, reader.fps) == (40, 0, 40, 20)
    assert all([head.track for head in heads] == [1] for heads in results)
    edges = np.array([heads[0].box[0] for heads in results])
    assert np.abs(edges - np.arange(20, 60)).max() < 6
    played = cv2.VideoCapture(str(output))
    assert played.get(cv2.CAP_PROP_FPS) == 20
    count = 0
    while played.read()[0]:
        count += 1
    assert count == 40
    assert [p.name for p in output.parent.iterdir()] == ["drawn.mp4"]


def watch(
    pictures: list[np.ndarray], estimator: FakeEstimator | None = None, **options: object
) -> list[list[Head]]:
    """The heads of pictures that follow each other at 30 frames a second."""
    video = VideoEstimator(estimator or FakeEstimator(), smooth=False, **options)
    return [video(Frame(i, i * DT, picture)) for i, picture in enumerate(pictures)]


def test_frames_do_not_wait_for_the_search_of_a_whole_one() -> None:
    class Slow(FakeDetector):
        """Searches a whole frame as long as it takes, but for the first time."""

        def __init__(self) -> None:
            self.go_on = threading.Event()
            self.whole = 0

        def __call__(self, images: list[np.ndarray], min_score: float) -> list[Detections]:
            if images and images[0].shape[0] == 240:
                self.whole += 1
                assert self.whole == 1 or self.go_on.wait(10)
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
    assert slow.whole == 3
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


def test_odd_sides_are_cut_to_even_ones(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "odd.mp4", 25, lambda image, heads: image) as writer:
        for _ in range(5):
            writer.put(np.zeros((121, 161, 3), np.uint8), [])
    played = cv2.VideoCapture(str(tmp_path / "odd.mp4"))
    assert played.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert played.read()[1].shape == (120, 160, 3)


def test_a_video_that_ends_early_is_counted_and_finished(
    clip: Callable[..., Path], tmp_path: Path
) -> None:
    path = clip()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    output = tmp_path / "drawn.mp4"
    reader, results = process(path, output)
    assert 10 < len(results) == reader.decoded < 40
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) == len(results)


def test_broken_frames_in_the_middle_do_not_end_it(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cv2.VideoCapture

    class Flaky:
        def __init__(self, source: str):
            self.capture, self.count = real(source), 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.capture, name)

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.count += 1
            good, pixels = self.capture.read()
            return (False, None) if self.count in (5, 6, 20) else (good, pixels)

    monkeypatch.setattr(cv2, "VideoCapture", Flaky)
    reader, results = process(clip(), tmp_path / "drawn.mp4")
    assert (reader.decoded, reader.failed, len(results)) == (37, 3, 37)


def copy(path: Path, output: Path, draw: Callable, stop_after: int | None = None) -> None:
    with VideoReader(path) as reader, VideoWriter(output, reader.fps, draw) as writer:
        for frame in reader:
            writer.put(frame.image, [])
            if frame.index == stop_after:
                raise KeyboardInterrupt


def test_an_interrupted_video_still_plays(clip: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "drawn.mp4"
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        copy(clip(), output, lambda image, heads: image, stop_after=9)
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert threading.active_count() == threads


def test_a_failing_writer_stops_the_video(clip: Callable[..., Path], tmp_path: Path) -> None:
    def fail(image: np.ndarray, heads: list[Head]) -> np.ndarray:
        raise RuntimeError("no paint left")

    (tmp_path / "drawn.mp4").write_bytes(b"an earlier film")
    with pytest.raises(InputError, match="no paint left"):
        copy(clip(), tmp_path / "drawn.mp4", fail)
    assert (tmp_path / "drawn.mp4").read_bytes() == b"an earlier film"
    assert not list(tmp_path.glob(".drawn*"))


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such video"):
        VideoReader(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(InputError, match="no video"):
        VideoReader(tmp_path / "text.mp4")


def test_clock_follows_the_timestamps() -> None:
    clock = Clock(fps=10)
    assert [clock(stamp) for stamp in (0.0, 0.5, 0.6)] == [0.0, 0.5, 0.6]


def test_clock_goes_on_where_timestamps_are_missing_or_begin_again() -> None:
    clock = Clock(fps=10)
    times = [clock(0.0), clock(0.0), clock(math.nan), clock(0.0, missing=2)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.5])
    joined = Clock(fps=10)
    times = [joined(stamp) for stamp in (0.0, 0.1, 0.2, 0.0, 0.4, -1e18, math.inf)]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert (np.diff(times) > 0).all()


class VariableRate:
    """What OpenCV shows of a file whose rate varies and whose announcements are wrong."""

    stamps = (0.0, 33.0, 67.0, 100.0, 600.0, 1100.0, 1600.0)
    broken = ()

    def __init__(self, _: str):
        self.place = -1
        self.packets = False

    def isOpened(self) -> bool:
        return True

    def set(self, name: int, value: float) -> bool:
        self.packets = (name, value) == (cv2.CAP_PROP_FORMAT, -1)
        return self.packets

    def get(self, name: int) -> float:
        known = {cv2.CAP_PROP_FPS: 1000.0, cv2.CAP_PROP_FRAME_COUNT: 5000.0}
        if name == cv2.CAP_PROP_POS_MSEC:
            # Packets come in the order of decoding.
            order = sorted(self.stamps, key=lambda t: t % 2) if self.packets else self.stamps
            return order[self.place]
        return known.get(name, 0.0)

    def grab(self) -> bool:
        self.place += 1
        return self.place < len(self.stamps)

    def read(self) -> tuple[bool, np.ndarray | None]:
        good = self.grab() and self.place not in self.broken
        return good, np.zeros((120, 160, 3), np.uint8) if good else None

    def release(self) -> None:
        pass


def test_times_are_the_frames_own_and_the_rate_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", VariableRate)
    (tmp_path / "phone.webm").touch()
    with VideoReader(tmp_path / "phone.webm") as reader:
        times = [frame.time for frame in reader]
    np.testing.assert_allclose(times, np.array(VariableRate.stamps) / 1000, atol=1e-9)
    assert reader.fps == pytest.approx(6 / 1.6)
    assert (reader.decoded, reader.failed) == (7, 0)


def test_only_failures_that_good_frames_follow_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", VariableRate)
    monkeypatch.setattr(VariableRate, "broken", (2, 3, 6))
    (tmp_path / "phone.webm").touch()
    with VideoReader(tmp_path / "phone.webm") as reader:
        frames = [(frame.index, frame.time) for frame in reader]
    assert frames == [(0, 0.0), (1, 0.033), (4, 0.6), (5, 1.1)]
    assert (reader.decoded, reader.failed) == (4, 2)


@pytest.mark.parametrize(
    ("name", "frames", "end", "fps"),
    [
        ("vfr.mp4", 80, 3.9, 79 / 3.9),
        ("vfr.webm", 80, 3.9, 79 / 3.9),
        ("cut.mp4", 81, 80 * 1.001 / 30, 30 / 1.001),
        ("longaudio.mkv", 120, 3.971, 119 / 3.971),
    ],
)
def test_real_files_whose_announcements_are_wrong(
    shared: Path, name: str, frames: int, end: float, fps: float
) -> None:
    with VideoReader(shared / "faults" / name) as reader:
        times = [frame.time for frame in reader]
    assert (len(times), reader.decoded, reader.failed) == (frames, frames, 0)
    assert times[0] == 0
    assert times[-1] == pytest.approx(end, abs=1e-3)
    assert reader.fps == pytest.approx(fps, abs=1e-3)


class Camera:
    """A camera whose pictures are numbered by their brightness."""

    opened = 0
    gives: range | tuple[int, ...] = range(1, 2001)

    def __init__(self, number: int):
        type(self).opened += 1
        self.count = 0

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.count += 1
        if self.count > 30:
            threading.Event().wait(0.05)
        return self.count in self.gives, np.full((4, 4, 3), min(self.count, 255), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    class Fresh(Camera):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", Fresh)
    monkeypatch.setattr(video_module, "CAMERA_WAIT_S", 0.3)
    monkeypatch.setattr(video_module, "CAMERA_RETRY_S", 0.01)
    return Fresh


def test_a_camera_gives_the_latest_frame(camera: type[Camera]) -> None:
    with VideoReader(0) as reader:
        seen = []
        for frame in reader:
            seen.append(frame)
            if len(seen) == 1:
                threading.Event().wait(0.3)  # a slow network
            if len(seen) == 3:
                break
    assert reader.fps == 30
    assert seen[1].index >= 25
    assert (np.diff([frame.time for frame in seen]) > 0).all()
    assert isinstance(frame, Frame)


def test_a_camera_may_take_its_time(camera: type[Camera]) -> None:
    camera.gives = range(10, 2001)  # nothing at first, as on a Mac
    with VideoReader(0) as reader:
        frame = next(iter(reader))
    assert frame.image.max() >= 10
    assert (reader.failed, camera.opened) == (0, 1)


def test_a_camera_that_was_gone_for_a_moment_goes_on(camera: type[Camera]) -> None:
    camera.gives = (1, 2, *range(20, 2001))
    with VideoReader(0) as reader:
        for frame in reader:
            if frame.index >= 5:
                break
    assert reader.failed == 0


@pytest.mark.parametrize(("gives", "said"), [((), "no pictures"), ((1, 2), "no more pictures")])
def test_a_camera_without_pictures_is_opened_again_and_then_named(
    camera: type[Camera], gives: tuple[int, ...], said: str
) -> None:
    camera.gives = gives
    with VideoReader(0) as reader:
        pictures = iter(reader)
        if gives:
            next(pictures)
            camera.gives = ()
        with pytest.raises(InputError, match=f"camera 0: delivers {said}"):
            list(pictures)
    assert camera.opened == 2


def test_smoothing_on_a_head_of_known_pose(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.accuracy import video as bench
    from mlx_headpose.convert import convert_file
    from mlx_headpose.inference.estimator import HeadPoseEstimator

    weights = tmp_path / "squeezenet_1_1.safetensors"
    convert_file(shared / "weights" / "squeezenet_1_1.pkl", weights)
    estimator = HeadPoseEstimator.from_pretrained(
        weights, shared / "weights" / "face_detection_yunet_2023mar.onnx"
    )
    poses = bench.motion()[22:54]  # at rest, then turning
    bench.make_video(tmp_path / "head.mp4", 1, poses)
    jitter, error = {}, {}
    for smooth in (False, True):
        heads = bench.follow(tmp_path / "head.mp4", VideoEstimator(estimator, smooth=smooth))
        assert all([head.track for head in those] == [1] for those in heads)
        found = np.array([those[0].pose for those in heads])
        jitter[smooth] = bench.jitter(found[:20], poses[:20])
        error[smooth] = geodesic_errors(found, poses).mean()
    assert jitter[True] < jitter[False] / 3
    assert error[True] < 1.2 * error[False]
