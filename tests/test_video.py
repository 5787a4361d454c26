"""Whole videos and cameras: read, followed, written, and what is broken in them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.squares import FakeEstimator

from mlx_headpose.errors import InputError
from mlx_headpose.inference import video as video_module
from mlx_headpose.inference.estimator import Head
from mlx_headpose.inference.video import Clock, Frame, VideoReader, VideoWriter, continued
from mlx_headpose.inference.video_estimator import VideoEstimator

cv2 = pytest.importorskip("cv2")


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
    assert not list(tmp_path.glob(".*.part*"))


def test_a_full_disk_is_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, path: str, *_: object):
            Path(path).write_bytes(b"cut")

        def isOpened(self) -> bool:
            return True

        def write(self, _: np.ndarray) -> bool:  # as OpenCV 5 says it
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Full)
    with pytest.raises(InputError, match="disk may be full"):
        write(tmp_path / "drawn.mp4", (64,))
    assert not list(tmp_path.iterdir())


def write(path: Path, widths: tuple[int, ...]) -> None:
    with VideoWriter(path, 25, lambda image, heads: image) as writer:
        for width in widths:
            writer.put(np.zeros((48, width, 3), np.uint8), [])


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a frame of 32×48 pixels after 64×48"):
        write(tmp_path / "drawn.mp4", (64, 64, 32))


def test_a_reader_is_read_once_in_a_with_statement(clip: Callable[..., Path]) -> None:
    reader = VideoReader(clip())
    with pytest.raises(InputError, match=r"is not open; read it in a with statement"):
        next(iter(reader))
    with reader:
        frames = len(list(reader))
        with pytest.raises(InputError, match="was read to its end; open it again"):
            list(reader)
    assert frames == reader.decoded > 0


def test_a_camera_that_stalls_is_let_go_once_it_goes_on() -> None:
    class Stalling:
        released = False
        goes_on = threading.Event()

        def read(self) -> tuple[bool, None]:
            assert not self.released
            self.goes_on.wait()
            return False, None

        def get(self, _: int) -> float:
            return 0.0

        def isOpened(self) -> bool:
            return True

        def release(self) -> None:
            self.released = True

    camera = Stalling()
    reader = VideoReader(lambda: camera)
    reader._thread.join = lambda timeout: None  # type: ignore[method-assign]
    with reader:
        pass
    assert not camera.released
    camera.goes_on.set()
    threading.Thread.join(reader._thread, 10)
    assert camera.released


def test_names_that_opencv_cannot_take(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"v\xe9.mp4")
    try:
        path.write_bytes(b"video")
    except OSError:
        pytest.skip("this system has no such names")
    with pytest.raises(InputError, match="not UTF-8; rename it"):
        VideoReader(path)
    with pytest.raises(InputError, match="no such camera"):
        VideoReader(20240131123456)


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
    joined = Clock(fps=1)
    times = [joined(stamp) for stamp in (0.0, 1, 2, 0, 4, -1e18, math.inf)]
    assert times == pytest.approx([0, 1, 2, 3, 7, 8, 9])
    assert (np.diff(times) > 0).all()
    jittering = Clock(fps=25)
    times = [jittering(stamp) for stamp in (0.0, 0.04, 0.08, 0.07, 0.12, 0.16, 0.15, 0.2, 0.24)]
    assert times[-1] == 0.24  # a small step back moves no later frame
    assert (np.diff(times) > 0).all()


def test_timestamps_that_begin_again_go_on() -> None:
    """Two seconds, three times over, in the order of decoding."""
    once = np.array([0.0, 0.2, 0.1, 0.5, 0.4, 0.3, *np.arange(6, 21) / 10])
    found = continued(np.tile(once, 3), 0.1)
    np.testing.assert_allclose(np.sort(found), np.arange(63) / 10, atol=1e-9)
    np.testing.assert_array_equal(continued(once, 0.1), once)
    assert len(continued(once[:0], 0.1)) == 0


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
