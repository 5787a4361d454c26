"""Streams, read by receivers of another hand."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlx_headpose.errors import InputError
from mlx_headpose.inference.estimator import Head
from mlx_headpose.live.streams import JsonLines, open_stream
from mlx_headpose.pose import pose_to_matrix

HEAD = Head((10, 20, 110, 140), 25.0, -10.0, 5.0, track=3, position=(0.1, -0.05, 0.8))


@pytest.fixture
def receiver():
    """A UDP socket on a free port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        yield udp


def opentrack_pose(turn: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch, roll of a head by the axes and formulas of opentrack's tracker-neuralnet.

    Its x axis comes out of the face, y is up, z to the person's right; R = Ry · Rz · Rx.
    """
    ours_to_theirs = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]])
    x, y, z = (ours_to_theirs @ turn @ ours_to_theirs.T).T
    yaw, pitch = math.atan2(x[2], x[0]), -math.atan2(-x[1], math.hypot(x[2], x[0]))
    roll = math.atan2(-z[1], y[1])
    return math.degrees(yaw), math.degrees(pitch), -math.degrees(roll)


@pytest.mark.parametrize("pose", [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, 15), (50, -30, 20)])
def test_opentrack_gets_six_doubles(receiver, pose):
    stream = open_stream(f"opentrack://127.0.0.1:{receiver.getsockname()[1]}")
    head = Head((10, 20, 110, 140), *map(float, pose), position=(0.1, -0.05, 0.8))
    stream.send(0, 0.0, [head, HEAD])
    packet = receiver.recv(1000)
    stream.close()
    assert len(packet) == 48
    x, y, z, *angles = struct.unpack("<dddddd", packet)
    assert (x, y, z) == pytest.approx((10, 5, 80))
    assert angles == pytest.approx(opentrack_pose(pose_to_matrix(np.array(pose, float))))
    if sum(map(bool, pose)) <= 1:  # single turns have the same sign in both
        assert angles == pytest.approx(pose)


def test_opentracks_angles_turn_the_head_back():
    """Against scipy: yaw about the upright axis, then pitch, then roll about the face's axis."""
    turn = pose_to_matrix(np.array([35.0, 25.0, -15.0]))
    yaw, pitch, roll = opentrack_pose(turn)
    again = Rotation.from_euler("YXZ", [-yaw, pitch, roll], degrees=True).as_matrix()
    assert np.allclose(again, turn)


def test_nothing_is_sent_without_a_head(receiver):
    stream = open_stream(f"opentrack://127.0.0.1:{receiver.getsockname()[1]}")
    stream.send(0, 0.0, [])
    stream.send(0, 0.0, [Head((0, 0, 1, 1), float("nan"), 0.0, 0.0)])
    stream.send(1, 0.1, [HEAD])
    assert struct.unpack("<6d", receiver.recv(1000))[0] == pytest.approx(10)
    stream.close()


def test_osc_by_python_oscs_server():
    pythonosc = pytest.importorskip("pythonosc", reason="needs python-osc, which is not installed")
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.osc_server import BlockingOSCUDPServer

    assert pythonosc
    got: dict[str, list] = {}
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: got.update({address: list(values)}))
    with BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        stream = open_stream(f"osc://127.0.0.1:{server.server_address[1]}")
        stream.send(0, 0.0, [HEAD, Head((0, 0, 9, 9), 1.0, 2.0, 3.0, track=7, facing="screen")])
        server.handle_request()
    stream.close()
    assert got["/headpose/heads"] == [2]
    assert got["/headpose/3/pose"] == pytest.approx([25, -10, 5])
    assert got["/headpose/3/position"] == pytest.approx([0.1, -0.05, 0.8])
    assert got["/headpose/3/facing"] == [""]
    assert got["/headpose/7/facing"] == ["screen"]
    assert "/headpose/7/position" not in got


def test_lines_of_json():
    reader, writer = os.pipe()
    stream = JsonLines(writer)
    for frame in range(3):
        stream.send(frame, frame / 30, [HEAD])
    stream.close()
    os.close(writer)
    with os.fdopen(reader) as file:
        lines = [json.loads(line) for line in file]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert lines[0]["heads"][0] == HEAD.to_dict()


def test_a_slow_reader_misses_whole_lines_and_slows_nobody():
    reader, writer = os.pipe()
    stream = JsonLines(writer)
    start = time.monotonic()
    for frame in range(3000):  # far more than a pipe holds
        stream.send(frame, frame / 30, [HEAD])
    assert time.monotonic() - start < 5
    assert 0 < stream.dropped < 3000
    # Who reads on gets whole lines to the end.
    closed = threading.Thread(target=lambda: (stream.close(), os.close(writer)))
    closed.start()
    with os.fdopen(reader) as file:
        lines = [json.loads(line) for line in file]
    closed.join()
    assert len(lines) == 3000 - stream.dropped


def test_of_a_file_a_slow_reader_gets_all_lines():
    reader, writer = os.pipe()
    stream = JsonLines(writer, live=False)

    def write() -> None:
        for frame in range(500):
            stream.send(frame, 0.0, [HEAD])
        stream.close()
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.1)
    with os.fdopen(reader) as file:
        assert len([json.loads(line) for line in file]) == 500
    thread.join()
    assert stream.dropped == 0


def test_a_reader_that_ended():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        JsonLines(writer).send(0, 0.0, [HEAD])
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = JsonLines(descriptor, live=False)
    with pytest.raises(InputError, match=r"standard output cannot be written \(No space left"):
        stream.send(0, 0.0, [HEAD])
    stream.close()
    os.close(descriptor)


def test_nobody_listens():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
    stream = open_stream(f"opentrack://127.0.0.1:{port}")
    for frame in range(5):
        stream.send(frame, 0.0, [HEAD])  # raises nothing, whatever the system says
    stream.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "udp://a:1",
        "opentrack://",
        "osc://a:99999",
        "osc://[::1",
        "opentrack://a:1/b",
        "opentrack://a b:1",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(InputError, match=r"--stream|no such host"):
        open_stream(address)
