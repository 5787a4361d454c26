"""predict.py on videos and cameras: frames, times, tracks, and what is kept when they end early."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from test_predict import fails, read_results

from mlx_headpose.inference.estimator import Head
from mlx_headpose.inference.video import Frame
from mlx_headpose.inference.video_estimator import VideoEstimator

cv2 = pytest.importorskip("cv2")


def test_a_video(predict, photos, capsys, tmp_path: Path) -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    face = cv2.resize(cv2.imread(str(photos[2])), (240, 240))
    for step in range(12):
        frame = np.full((240, 320, 3), 60, np.uint8)
        frame[:, 2 * step : 2 * step + 240] = face
        writer.write(frame)
    writer.release()
    predict("clip.avi", "--json", "o.json", "--csv", "o.csv")
    printed = capsys.readouterr().out
    assert "12 frames, 1 person" in printed
    (result,) = read_results(tmp_path / "o.json")
    assert result["undecoded_frames"] == 0
    assert [frame["frame"] for frame in result["frames"]] == list(range(12))
    assert all([head["track"] for head in frame["heads"]] == [1] for frame in result["frames"])
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 13
    played = cv2.VideoCapture(str(tmp_path / "output" / "clip.mp4"))
    assert played.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_frames_are_written_as_they_come(
    predict, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    face = cv2.resize(cv2.imread(str(photos[2])), (320, 240))
    for _ in range(300):
        writer.write(face)
    writer.release()
    sizes = []

    def found(self: VideoEstimator, frame: Frame) -> list[Head]:
        sizes.append(sum(p.stat().st_size for p in tmp_path.glob(".mlx-headpose-*")))
        return [Head((10.0, 20.0, 110.0, 140.0), 1.0, 2.0, 3.0, track=1)]

    monkeypatch.setattr(VideoEstimator, "__call__", found)
    predict("clip.avi", "--json", "o.json", "--csv", "o.csv", "--draw", "none")
    assert len({*sizes}) > 2  # the buffers of two files went to the disk several times
    (result,) = read_results(tmp_path / "o.json")
    assert (result["file"], result["undecoded_frames"]) == ("clip.avi", 0)
    assert result["fps"] == pytest.approx(10, abs=0.01)
    assert [frame["frame"] for frame in result["frames"]] == list(range(300))
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 301


def test_a_film_keeps_the_time_of_a_rate_that_varies(predict, shared: Path, tmp_path: Path) -> None:
    for name in ("vfr.mp4", "cut.mp4"):
        predict(shared / "faults" / name, "--json", "o.json")
        (result,) = read_results(tmp_path / "o.json")
        played = cv2.VideoCapture(str(tmp_path / "output" / name))
        count, fps = played.get(cv2.CAP_PROP_FRAME_COUNT), played.get(cv2.CAP_PROP_FPS)
        times = [frame["time"] for frame in result["frames"]]
        assert count == len(times)
        assert (count - 1) / fps == pytest.approx(times[-1], abs=0.01)
        assert result["undecoded_frames"] == 0


def test_a_camera_that_fails_loses_no_results(
    predict, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Camera:
        left = 3

        def __init__(self, number: int):
            pass

        def isOpened(self) -> bool:
            return True

        def get(self, _: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, np.ndarray]:
            threading.Event().wait(0.02)
            Camera.left -= 1
            return Camera.left >= 0, np.zeros((48, 64, 3), np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr("mlx_headpose.inference.video.CAMERA_WAIT_S", 0.1)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    error = fails(predict, capsys, "0", "--json", "o.json")
    assert "camera 0: delivers no more pictures" in error
    (result,) = read_results(tmp_path / "o.json")
    assert 1 <= len(result["frames"]) <= 3
    Camera.left = 0
    assert "delivers no pictures" in fails(predict, capsys, "0", "--json", "p.json")
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    "name", ["14:05:33.mp4", "file:clip.mp4", "clip.ts", "clip", "clip.jpg", "clip.flv"]
)
def test_a_video_of_any_name(predict, shared: Path, capsys, tmp_path: Path, name: str) -> None:
    shutil.copy(shared / "faults" / "cut.mp4", tmp_path / name)
    (tmp_path / "clip.mp4").write_bytes(b"another") if ":" in name else None
    predict(name, "--draw", "none")
    assert f"{name}: 81 frames" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_found(
    predict, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(9):
        writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    real = VideoEstimator.__call__

    def interrupted(self: VideoEstimator, frame: Frame) -> list[Head]:
        if frame.index == 5:
            raise KeyboardInterrupt
        return real(self, frame)

    monkeypatch.setattr(VideoEstimator, "__call__", interrupted)
    with pytest.raises(SystemExit) as stopped:
        predict(photos[0], "clip.avi", "--json", "o.json", "--csv", "o.csv")
    assert stopped.value.code == 130
    photo, film = read_results(tmp_path / "o.json")
    assert len(photo["heads"]) == 1
    assert [frame["frame"] for frame in film["frames"]] == list(range(5))
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 2


def test_the_webcam_window(predict, photos, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    frame = cv2.imread(str(photos[2]))

    class Camera:
        def __init__(self, number: int):
            assert number == 0

        def isOpened(self) -> bool:
            return True

        def get(self, _: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, np.ndarray]:
            return True, frame

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(cv2, "imshow", lambda name, pixels: shown.append(pixels))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 4 else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0 if len(shown) != 6 else 0.0)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    predict("--source", 0)
    assert len(shown) == 4
    assert "4 frames" in capsys.readouterr().out
    predict("--source", 0)  # this time the window is closed, after two frames more
    assert len(shown) == 6

    def no_window(name: str, pixels: np.ndarray) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "imshow", no_window)
    assert "pip install opencv-python" in fails(predict, capsys, "0")
