"""Poses for other programs, as they are found: opentrack, OSC, lines of JSON.

No receiver slows the camera: packets go out through sockets that never wait, and of lines that a
slow reader has no room for, whole ones are left out and counted.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from ..errors import InputError
from ..inference.estimator import Head
from ..pose import pose_to_matrix

STDOUT = 1
OPENTRACK_PORT = 4242
OSC_PORT = 9000
CENTIMETRES = 100.0
# A pipe that is ready takes this many bytes without waiting (POSIX: PIPE_BUF is 512 at least).
CHUNK = 512
LAST_S = 1.0  # that the end of a line waits for its reader in the end


class Stream(Protocol):
    """Where results go, frame by frame.

    Attributes:
        dropped: frames that its receiver had no room for.
    """

    dropped: int

    def send(self, index: int, time: float, heads: Sequence[Head]) -> None:
        """Pass on a frame: its number, its time in seconds, and the heads in it."""

    def close(self) -> None:
        """End it."""


def open_stream(address: str, live: bool = True) -> Stream:
    """A stream by its address.

    Args:
        address: `opentrack://HOST:PORT`, `osc://HOST:PORT`, or `jsonl` for standard output.
        live: whether frames come from a camera, so that a reader that is too slow misses lines. It
            gets all lines of a file.

    Raises:
        InputError: there is no such stream, or the host is not known.
    """
    if address == "jsonl":
        return JsonLines(STDOUT, live)
    kinds: dict[str, tuple[Callable[[str, int], Stream], int]]
    kinds = {"opentrack": (Opentrack, OPENTRACK_PORT), "osc": (Osc, OSC_PORT)}
    scheme = address.partition("://")[0].lower()
    if scheme not in kinds:
        raise InputError(
            f"--stream {address}: is none of opentrack://HOST:PORT, osc://HOST:PORT and jsonl"
        )
    make, usual = kinds[scheme]
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or usual
    except ValueError as error:
        raise InputError(f"--stream {address}: {error}; write {scheme}://HOST:PORT") from None
    if not host or parts.path not in ("", "/") or parts.query:
        raise InputError(f"--stream {address}: write {scheme}://HOST:PORT")
    return make(host, port)


class _Udp:
    """A UDP socket that never waits."""

    def __init__(self, host: str, port: int):
        self.dropped = 0
        self._target: Any
        try:
            family, kind, protocol, _, self._target = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM
            )[0]
        except (OSError, UnicodeError) as error:
            raise InputError(f"{host}: no such host ({error}); check the address") from None
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)

    def _put(self, packet: bytes) -> None:
        try:
            self._socket.sendto(packet, self._target)
        except OSError:  # nobody listens, the network is gone, the buffer is full: it may come back
            self.dropped += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Opentrack(_Udp):
    """The first head, for opentrack's input "UDP over network".

    A packet is six little-endian float64: x, y, z in centimetres, yaw, pitch, roll in degrees (the
    order of `Axis` in opentrack's api/plugin-api.hpp, which tracker-udp copies as it is). The axes
    are those of opentrack's own face tracker (tracker-neuralnet): x to the image's right, y up, z
    away from the camera; yaw positive to the person's right, pitch up, roll as ours. There yaw
    turns about the upright axis first, so that angles are not ours unless roll and pitch or yaw are
    0.

    Args:
        host, port: where opentrack runs.
    """

    def send(self, index: int, time: float, heads: Sequence[Head]) -> None:
        """See `Stream`. Without a head nothing is sent, and opentrack keeps the last pose."""
        if heads:
            values = opentrack_values(heads[0])
            if all(map(math.isfinite, values)):
                self._put(struct.pack("<6d", *values))


def opentrack_values(head: Head) -> list[float]:
    """x, y, z in centimetres, yaw, pitch, roll in degrees, as opentrack has them."""
    x, y, z = (CENTIMETRES * v for v in head.position or (0.0, 0.0, 0.0))
    turn = np.asarray(pose_to_matrix(head.pose))
    face = turn[:, 2]
    yaw = math.atan2(-face[0], face[2])
    pitch = math.atan2(-face[1], math.hypot(face[0], face[2]))
    roll = math.atan2(turn[1, 0], turn[1, 1])
    return [x, -y, z, *map(math.degrees, (yaw, pitch, roll))]


class Osc(_Udp):
    """All heads as OSC messages, one bundle a frame; needs `pip install "mlx-headpose[osc]"`.

    Of each head `/headpose/N/pose` (yaw, pitch, roll in degrees), `/headpose/N/position` (x, y, z
    in metres, in camera axes), `/headpose/N/facing` (the zone's name, empty for none), with N the
    track's number, or the head's number in the frame; and `/headpose/heads`, how many there are.

    Args:
        host, port: host and port of the receiver.
    """

    def __init__(self, host: str, port: int):
        try:
            from pythonosc import osc_bundle_builder, osc_message_builder
        except ImportError:
            raise InputError("osc:// needs python-osc; run `pip install python-osc`") from None
        self._bundles, self._messages = osc_bundle_builder, osc_message_builder
        super().__init__(host, port)

    def send(self, index: int, time: float, heads: Sequence[Head]) -> None:
        """See `Stream`."""
        bundle = self._bundles.OscBundleBuilder(self._bundles.IMMEDIATELY)

        def add(address: str, *values: Any) -> None:
            message = self._messages.OscMessageBuilder(address)
            for value in values:
                message.add_arg(value)
            bundle.add_content(message.build())

        add("/headpose/heads", len(heads))
        for number, head in enumerate(heads, 1):
            place = f"/headpose/{head.track or number}"
            add(f"{place}/pose", *map(float, head.pose))
            if head.position is not None:
                add(f"{place}/position", *map(float, head.position))
            add(f"{place}/facing", head.facing or "")
        self._put(bundle.build().dgram)


class JsonLines:
    """One JSON object a frame and line: `frame`, `time` and `heads` as `--json` writes them.

    Args:
        descriptor: descriptor of the file or pipe to write to.
        live: see `open_stream`.

    Raises:
        BrokenPipeError: by `send`, when the reader has ended.
        InputError: by `send`, it cannot be written.
    """

    def __init__(self, descriptor: int, live: bool = True):
        self.descriptor = descriptor
        self.live = live
        self.dropped = 0
        self._rest = b""  # of a line that was begun

    def send(self, index: int, time: float, heads: Sequence[Head]) -> None:
        """See `Stream`."""
        self._flush(0 if self.live else None)
        if self._rest:
            self.dropped += 1
            return
        values = {"frame": index, "time": round(time, 4), "heads": [h.to_dict() for h in heads]}
        self._rest = json.dumps(values).encode() + b"\n"
        self._flush(0 if self.live else None)

    def close(self) -> None:
        """Finish the line that was begun, if its reader still takes it."""
        if self._rest:
            self._flush(LAST_S if self.live else None)

    def _flush(self, wait: float | None) -> None:
        """Write what is left, waiting so many seconds (None: for ever) until there is room."""
        while self._rest:
            _, ready, _ = select.select([], [self.descriptor], [], wait)
            if not ready:
                return
            try:
                written = os.write(self.descriptor, self._rest[:CHUNK])
            except BrokenPipeError:
                raise
            except OSError as error:  # such as a full disk
                self._rest = b""
                raise InputError(
                    f"the standard output cannot be written ({error.strerror})"
                ) from None
            self._rest = self._rest[written:]
