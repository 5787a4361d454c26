"""Cameras: the loop, its window, recordings, and predict.py's options for them."""

from __future__ import annotations

import csv
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.commands import ROOT

from mlx_headpose.cli.predict import run
from mlx_headpose.detection.finder import Detections
from mlx_headpose.errors import InputError
from mlx_headpose.inference import loop, video_estimator
from mlx_headpose.inference.estimator import Head, HeadPoseEstimator
from mlx_headpose.inference.loop import Seen, stream
from mlx_headpose.inference.video import Frame, VideoReader
from mlx_headpose.inference.video_estimator import VideoEstimator
from mlx_headpose.live.hud import draw_hud
from mlx_headpose.live.recording import Recorder, Replay, sidecar
from mlx_headpose.live.window import Watch
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix
from mlx_headpose.space.facing import Cone
from mlx_headpose.space.intrinsics import Camera as Lens
from mlx_headpose.space.perspective import as_placed, straightened
from mlx_headpose.space.position import head_position
from mlx_headpose.space.zero import Zero
from mlx_headpose.synthetic.demo import Demo, DemoCapture

pytest.importorskip("cv2", reason="reads and writes video with OpenCV, which is not installed")


class Detector:
    """Finds one face at a fixed place, which the demonstration's head hardly leaves."""

    finds = "faces"
    name = "a face at a fixed place"

    def __call__(self, images, min_score):
        return [self.find(*image.shape[1::-1]) for image in images]

    def find(self, width, height):
        box = [0.38 * width, 0.3 * height, 0.62 * width, 0.68 * height]
        if width == height:  # a window around where the face was, 2.5 times its longer side
            box = [0.331 * width, 0.3 * height, 0.669 * width, 0.7 * height]
        return Detections(np.array([box], np.float32), np.array([0.9]))


@pytest.fixture(scope="module")
def estimator() -> HeadPoseEstimator:
    return HeadPoseEstimator(detector=Detector())


class Camera:
    """A camera that delivers as many frames as asked for.

    Args:
        frames: how many there are.
        pause: seconds between two.
    """

    def __init__(self, frames: int, pause: float = 0.0):
        self.left = frames
        self.pause = pause

    def isOpened(self) -> bool:
        return True

    def get(self, property_: int) -> float:
        return {3: 64.0, 4: 48.0, 5: 30.0}.get(property_, 0.0)

    def read(self):
        if not self.left:
            return False, None
        time.sleep(self.pause)
        self.left -= 1
        return True, np.full((48, 64, 3), self.left % 200, np.uint8)

    def release(self) -> None:
        pass


def test_the_newest_frame_wins_and_dropped_ones_are_counted(estimator, monkeypatch):
    monkeypatch.setattr("mlx_headpose.inference.video.CAMERA_WAIT_S", 0.1)
    cameras = iter([Camera(60, 0.002), Camera(0)])
    reader = VideoReader(lambda: next(cameras))
    seen: list[Seen] = []

    def consume() -> None:
        for one in stream(estimator, reader):
            time.sleep(0.02)  # a slow consumer
            seen.append(one)

    with pytest.raises(InputError, match="delivers no more"):
        consume()
    assert 1 < len(seen) < 50
    assert seen[-1].dropped == reader.dropped
    assert reader.decoded == 60
    assert len(seen) + reader.dropped == 60
    assert [s.frame.index for s in seen] == sorted({s.frame.index for s in seen})
    assert all(s.latency is not None and s.latency > 0 for s in seen)


def test_leaving_the_loop_leaves_no_thread(estimator):
    before = set(threading.enumerate())
    frames = stream(estimator, lambda: Camera(100_000, 0.001))
    for seen in frames:
        assert seen.frame.image.shape == (48, 64, 3)
        break
    frames.close()
    assert set(threading.enumerate()) == before


def test_a_camera_that_comes_back(estimator, monkeypatch):
    monkeypatch.setattr("mlx_headpose.inference.video.CAMERA_WAIT_S", 0.2)
    cameras = iter([Camera(3), Camera(2), Camera(0)])
    reader = VideoReader(lambda: next(cameras))
    with pytest.raises(InputError, match="delivers no more pictures"):
        list(stream(estimator, reader))
    assert reader.decoded == 5


def test_the_demonstration_is_where_it_says(estimator):
    """Position and angles of the rendered head, as the bundled network sees them."""
    demo = Demo(noise=0.0)
    known = HeadPoseEstimator(model=estimator.model, detector=Detector(), camera=demo.camera)
    assert demo.camera == known.camera_of((640, 480))
    errors, distances = [], []
    for seconds in np.arange(0, 6, 0.7):
        truth = demo.truth(seconds)
        box = demo.film.box(truth, demo.film.actors[0], "face")
        box[1] -= 0.25 * (box[3] - box[1])  # detectors' boxes reach to the hairline
        (head,) = known(demo.frame(seconds), boxes=box)
        errors.append(geodesic_degrees(pose_to_matrix(head.pose), pose_to_matrix(truth.pose)))
        distances.append(np.linalg.norm(head.position) / np.linalg.norm(truth.position) - 1)
    assert np.mean(errors) < 6
    assert abs(np.median(distances)) < 0.08


def test_with_a_camera_angles_are_relative_to_it(estimator):
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    box = [500, 50, 600, 180]
    plain = estimator(image, boxes=box)[0]
    known = HeadPoseEstimator(model=estimator.model, camera=60.0)
    head = known(image, boxes=box)[0]
    # 60° is what is taken anyway, but the head is seen as a camera turned towards it shows it.
    turned, inside = straightened(image, np.array(box, float), Lens.from_fov(60.0, 640, 480))
    seen = estimator(turned, boxes=inside)[0]
    lens = Lens.from_fov(60.0, 640, 480)
    for one, pose in ((plain, plain.pose), (head, seen.pose)):
        expected = head_position(np.array(box), pose, lens, estimator.given)
        assert np.allclose(one.position, expected, atol=0.02)
    assert np.allclose(head.pose, as_placed(seen.pose, np.array(head.position)), atol=0.1)
    assert not np.allclose(head.pose, plain.pose, atol=5)
    known.perspective = False
    assert known(image, boxes=box)[0] == plain
    known.zero = Zero(pose_to_matrix(plain.pose))
    assert np.allclose(known(image, boxes=box)[0].pose, 0, atol=1e-6)
    with pytest.raises(InputError, match="not between 300"):
        HeadPoseEstimator(model=estimator.model, head_size=57)
    with pytest.raises(InputError, match="field of view"):
        HeadPoseEstimator(model=estimator.model, camera=200.0)


def still_demo() -> Demo:
    """The demonstration with a head that keeps still."""
    demo = Demo(noise=0.0)
    placed = demo.truth(0.5)
    demo.truth = lambda seconds: placed
    return demo


def test_calibrating_on_a_source(estimator, monkeypatch):
    mine = HeadPoseEstimator(model=estimator.model, detector=Detector())
    demo = still_demo()
    monkeypatch.setattr("mlx_headpose.space.zero.MIN_POSES", 2)  # a busy machine sees few frames
    zero = mine.calibrate(lambda: DemoCapture(demo), seconds=0.3, name="screen")
    assert mine.zero is zero
    assert zero.name == "screen"
    frames = mine.stream(lambda: DemoCapture(demo), smoothing="none")
    seen = next(frames)
    frames.close()
    assert np.abs(seen.heads[0].pose).max() < 0.5


def test_recordings_are_exact(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(4)]
    for suffix in (".avi", ".mp4"):
        path = tmp_path / f"r{suffix}"
        with Recorder(path) as recorder:
            recorder.begin(None)
            for number, image in enumerate(images):
                zero = Zero(np.eye(3)) if number == 2 else None
                recorder.put(Frame(3 * number, number / 7, image), zero, number == 2)
        replay = Replay(path)
        with replay:
            frames = list(replay)
        assert [f.index for f in frames] == [0, 3, 6, 9]
        assert [f.time for f in frames] == [n / 7 for n in range(4)]
        assert all(np.array_equal(f.image, i) for f, i in zip(frames, images, strict=True))
        assert replay.fps == pytest.approx(7)  # the camera's, not the file's
        assert list(replay.zeros) == [-1, 6]
        assert replay.zeros[-1] is None
        assert replay.zeros[6] is not None


def record(path, widths, error=None):
    """Record a frame for each width, and end with an error."""
    with Recorder(path) as recorder:
        for number, width in enumerate(widths):
            image = np.full((48, width, 3), number, np.uint8)
            recorder.put(Frame(number, number / 7, image))
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [InputError("the camera is gone"), BrokenPipeError()])
def test_what_was_recorded_until_a_camera_vanished_stays(tmp_path, error):
    path = tmp_path / "r.avi"
    for count in (3, 2):  # the second over the first
        with pytest.raises(type(error)):
            record(path, [64] * count, error)
        with Replay(path) as replay:
            assert [frame.index for frame in replay] == list(range(count))
        assert len(replay.frames) == count


def test_a_recording_counts_the_frames_that_it_holds(tmp_path):
    with pytest.raises(InputError, match="32×48 pixels after 64×48"):
        record(tmp_path / "r.avi", (64, 64, 32))
    assert len(Replay(tmp_path / "r.avi").frames) == 2
    with pytest.raises(InputError, match="not even"):
        record(tmp_path / "odd.avi", (65,))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "copy both"),
        (f'{{"frames": [[0, {10**400}]]}}', "not numbers and times"),
        ('{"frames": [[0, 0]], "zeros": 5}', "zeros are damaged"),
        ("[]", "not written by --record"),
        ('{"frames": ["a"]}', "not numbers and times"),
        ('{"frames": [[1, 2], [0, 3]]}', "not in order"),
        ('{"frames": [[0, 2], [1, 1]]}', "not in order"),
        ('{"frames": [[0, 0]], "zeros": [7]}', "zeros are damaged"),
        ('{"frames": [[0, 0]], "zeros": [{"frame": 0, "zero": 3}]}', "no zero"),
    ],
)
def test_what_lies_beside_a_recording_is_not_trusted(tmp_path, content, problem):
    path = tmp_path / "r.avi"
    with Recorder(path) as recorder:
        recorder.put(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8)))
    sidecar(path).unlink()
    if content is not None:
        sidecar(path).write_text(content)
    with pytest.raises(InputError, match=problem):
        Replay(path)


class Sink:
    """A stream that keeps what it gets."""

    dropped = 0

    def __init__(self) -> None:
        self.frames: list[tuple[int, float, list[Head]]] = []

    def send(self, index, time, heads) -> None:
        self.frames.append((index, time, list(heads)))

    def close(self) -> None:
        pass


def test_a_zero_by_key(estimator, tmp_path, monkeypatch):
    """Key c: a second later the direction is zero, in heads, in the file, in the recording."""
    from mlx_headpose.inference.loop import make_follower

    demo = still_demo()
    mine = HeadPoseEstimator(model=estimator.model, detector=Detector())
    monkeypatch.setattr("mlx_headpose.space.zero.SECONDS", 0.3)
    monkeypatch.setattr("mlx_headpose.space.zero.MIN_POSES", 2)
    sink, keys = Sink(), iter([-1, ord("c")])
    path = tmp_path / "zero.json"
    # Unsmoothed, so that few frames on a busy machine do.
    follower = make_follower(mine, smoothing="none")
    watch = Watch(follower, streams=[sink], zero_path=path)
    watch.run(VideoReader(lambda: DemoCapture(demo)), 2.5, lambda seen: next(keys, -1))
    assert Zero.load(path).spread < 3
    assert np.abs(sink.frames[-1][2][0].pose).max() < 1
    assert np.abs(sink.frames[0][2][0].pose).max() > 5
    assert "zero set" in watch.note
    # One that cannot be saved is used all the same.
    keys = iter([-1, ord("c")])
    watch = Watch(make_follower(mine, smoothing="none"), zero_path=tmp_path)
    watch.run(VideoReader(lambda: DemoCapture(demo)), 2.5, lambda seen: next(keys, -1))
    assert watch.note.startswith(f"zero set, but not saved: {tmp_path}")
    # One that fails leaves the zero as it was.
    zero, keys = mine.zero, iter([-1, ord("c")])
    monkeypatch.setattr("mlx_headpose.space.zero.MIN_POSES", 10_000)
    monkeypatch.setattr("mlx_headpose.space.zero.LONGEST_S", 1.5)
    watch = Watch(make_follower(mine, smoothing="none"), streams=[sink])
    watch.run(VideoReader(lambda: DemoCapture(demo)), 2.5, lambda seen: next(keys, -1))
    assert "not calibrated" in watch.note
    assert mine.zero is zero


def test_the_window_shows_rates_zones_and_dials():
    image = np.full((480, 640, 3), 90, np.uint8)
    head = Head((200, 100, 300, 230), 45.0, 0.0, 0.0, track=1, facing="screen")
    drawn = draw_hud(image, [head], 30.0, 0.02, 3, "look")
    changed = (drawn != image).any(-1)
    assert changed[:70, :250].any()
    dial = drawn[-64:, -64:].astype(int)
    blue = (dial[..., 2] > dial[..., 0] + 60).nonzero()[1]
    assert blue.mean() < 32  # positive yaw points to the image's left
    assert (image == 90).all()


ZONES = {"zone": [{"name": "ahead", "radius": 30, "direction": [0, 0, -1], "dwell": 0}]}


def test_the_command_records_and_replays_the_same_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(HeadPoseEstimator, "detector", Detector())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zones.json").write_text(json.dumps(ZONES))
    common = ["--fov", "60", "--zones", "zones.json", "--filter", "predictive", "--draw", "none"]
    run("predict.py", ["--demo", "--no_window", "--seconds", "1.5", "--record", "r.avi",
                       "--json", "a.json", "--csv", "a.csv", *common])  # fmt: skip
    run("predict.py", ["--replay", "r.avi", "--json", "b.json", "--csv", "b.csv", *common])
    (live,), (again,) = (
        json.loads(Path(name).read_text())["results"] for name in ("a.json", "b.json")
    )
    assert live["frames"] == again["frames"]
    assert live["zones"] == again["zones"]
    assert "person 1 faced" in capsys.readouterr().out
    with Path("b.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(live["frames"])
    assert {float(row["position_z"]) > 0.3 for row in rows} == {True}
    with Path("b-zones.csv").open() as file:
        seconds = {row["zone"]: float(row["seconds"]) for row in csv.DictReader(file)}
    assert sum(seconds.values()) == pytest.approx(sum(live["zones"]["1"].values()), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--demo", "--fov", "60", "--camera", "c.json"], "give one of them"),
        (["--demo", "--camera", "c.json"], "no such camera file"),
        (["--demo", "--fov", "170"], "field of view of 170°"),
        (["--demo", "--zones", "z.json"], "no such file"),
        (["--demo", "--no_window", "--zero", "z.json"], "no such zero"),
        ([str(ROOT / "docs" / "images" / "astronaut.jpg"), "--zero", "z.json"], "no such zero"),
        (["--demo", "--no_window", "--stream", "tcp://a"], "is none of"),
        (["--demo", "--no_window", "--record", "r.txt"], "end it in .avi"),
        (["--demo", "--raw", "--filter", "one-euro"], "has no use with --raw"),
        (["--demo", "0", "--record", "r.avi"], "one file for several cameras"),
        (["--demo", "--record", "r.avi", "--json", "r.avi.json"], "two results"),
        (["--demo", "--no_window", "--json", "-", "--stream", "jsonl"], "two results"),
        (["--demo", "--zero", "z.json", "--json", "z.json"], "two results"),
        (["--replay", "r.avi"], "no such video"),
        (["--replay", "r.avi", "--record", "s.avi"], "is for cameras"),
        (["--replay", "r.avi", "--zero", "z.json"], "zero of the recording"),
    ],
)
def test_options_that_cannot_be(tmp_path, monkeypatch, arguments, problem):
    monkeypatch.setattr(HeadPoseEstimator, "detector", Detector())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=problem):
        run("predict.py", arguments)


def test_lines_of_json_have_the_standard_output_to_themselves(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(HeadPoseEstimator, "detector", Detector())
    monkeypatch.chdir(tmp_path)
    run("predict.py", ["--demo", "--no_window", "--seconds", "0.5", "--stream", "jsonl"])
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines
    assert lines[0]["heads"][0]["track"] == 1
    assert "network:" in err


def test_cones_by_direction_follow_the_zero():
    from mlx_headpose.space.facing import Attention

    aside = np.array([40.0, 0, 0])
    zone = Cone("ahead", 10, direction=(0, 0, -1), dwell=0)
    place = np.array([0.0, 0, 1])
    assert Attention().update([zone], place, aside, 0.03) is None
    assert Attention().update([zone], place, aside, 0.03, relative=np.zeros(3)) == "ahead"


def test_a_replay_by_the_bundled_networks_gives_the_same_numbers(tmp_path, monkeypatch, capsys):
    """To the bit: sums of floats depend on how many threads share them."""
    monkeypatch.chdir(tmp_path)
    common = ["--detector", "bundled", "--draw", "none"]
    run("predict.py", ["--demo", "--no_window", "--seconds", "1.5", "--record", "r.avi",
                       "--json", "a.json", *common])  # fmt: skip
    run("predict.py", ["--replay", "r.avi", "--json", "b.json", *common])
    seen, again = (
        [frame["heads"] for frame in json.loads(Path(name).read_text())["results"][0]["frames"]]
        for name in ("a.json", "b.json")
    )
    assert any(seen)
    assert seen == again


@pytest.mark.parametrize(("ahead", "entered"), [(0, []), (3, ["in", "out"])])
def test_matrix_products_use_one_thread_while_a_search_goes_on_beside(monkeypatch, ahead, entered):
    seen = []

    @contextmanager
    def one_thread():
        seen.append("in")
        try:
            yield
        finally:
            seen.append("out")

    class Reader:
        live, dropped = False, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter([1, 2, 3])

    class Video(VideoEstimator):
        def __init__(self):
            self.ahead = ahead

        def __call__(self, frame):
            return [frame]

    monkeypatch.setattr(video_estimator, "one_thread", one_thread)
    assert [found.heads for found in loop.follow(Video(), Reader())] == [[1], [2], [3]]
    assert seen == entered
    left = loop.follow(Video(), Reader())
    next(left)
    left.close()
    assert seen == 2 * entered
