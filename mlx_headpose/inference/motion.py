"""A predictive filter of rotations: does a head rest, or does it turn at some speed?

An interacting multiple model filter (Blom & Bar-Shalom, "The Interacting Multiple Model Algorithm
for Systems with Markovian Switching Coefficients", IEEE Transactions on Automatic Control, 1988) of
two Kalman filters on the rotation group. One says that the head rests and only drifts. The other
has a constant angular velocity, disturbed by angular accelerations. Each frame is explained by
both, and what is returned is their mean, weighted by how well they have explained the frames so
far: at rest it is smooth, and in a turn it does not lag, for the turn goes on.

Errors are taken for equally large about all axes, so that a filter has one 2×2 covariance of angle
and velocity for all three, and one gain. The rotation between two filters' states is their
difference on the group (Barfoot, "State Estimation for Robotics", 2nd edition, chapter 8).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from ..pose import pose_to_matrix
from ..space.perspective import nearest_triple

REST, TURN = 0, 1
# The network's noise is measured by the third differences of the poses, which a smooth motion
# hardly has. Of independent errors their squared length is 20 · noise² · χ² with three degrees of
# freedom, which has this median. So many frames are looked at; fewer than the least say nothing
# yet.
MEDIAN = 20 * 2.366
FRAMES, LEAST = 45, 8
NOISE_RANGE = (0.1, 6.0)


@dataclass
class _State:
    """Of one model: rotation, (3,) angular velocity in degrees per second, covariance."""

    rotation: Rotation
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))
    covariance: np.ndarray = field(default_factory=lambda: np.diag([1.0, 0.0]))


class PredictiveFilter:
    """The filter of one head's pose.

    Args:
        smoothness: poses are taken for this many times as noisy as they are: higher means less
            jitter.
        drift: times its noise that a resting head drifts in a second.
        acceleration: degrees per second that a turning head's velocity changes in a second.
        rest_s, turn_s: seconds that a rest and a turn last on average.
    """

    def __init__(
        self,
        smoothness: float = 1.0,
        drift: float = 0.6,
        acceleration: float = 300.0,
        rest_s: float = 5.0,
        turn_s: float = 0.5,
    ):
        self.smoothness = smoothness
        self.noise = smoothness  # standard deviation about each axis in degrees
        self.drift = drift
        self.acceleration = acceleration
        self.stays_s = np.array([rest_s, turn_s])
        self.states: list[_State] = []
        self.chances = np.array([0.9, 0.1])
        self._measured: Rotation | None = None
        self._differences = np.zeros((3, 3))  # the last step, its change, the change of that
        self._squares: deque[float] = deque(maxlen=FRAMES)

    def __call__(self, pose: np.ndarray, dt: float) -> np.ndarray:
        """Filter the next pose.

        Args:
            pose: (3,) yaw, pitch, roll in degrees.
            dt: seconds since the pose before.

        Returns:
            (3,) the filtered pose; of its two triples the one nearer to `pose`.
        """
        pose = np.asarray(pose, np.float64)
        measured = Rotation.from_matrix(pose_to_matrix(pose))
        self._measure_noise(measured)
        if not self.states:
            start = np.diag([self.noise**2, 0.0]), np.diag([self.noise**2, 60.0**2])
            self.states = [_State(measured, covariance=c) for c in start]
            return pose
        dt = max(dt, 1e-6)
        likelihoods = []
        self._mix(dt)
        for model, state in enumerate(self.states):
            likelihoods.append(self._update(model, state, measured, dt))
        weights = self.chances * np.exp(np.array(likelihoods) - max(likelihoods))
        self.chances = np.clip(weights / weights.sum(), 1e-3, 1)
        self.chances /= self.chances.sum()
        apart = (self.states[REST].rotation.inv() * self.states[TURN].rotation).as_rotvec()
        mean = self.states[REST].rotation * Rotation.from_rotvec(self.chances[TURN] * apart)
        return nearest_triple(mean.as_matrix(), pose)

    def _measure_noise(self, measured: Rotation) -> None:
        if self._measured is not None:
            step = np.degrees((self._measured.inv() * measured).as_rotvec())
            change = step - self._differences[0]
            self._differences = np.stack([step, change, change - self._differences[1]])
            self._squares.append(float(np.sum(self._differences[2] ** 2)))
        self._measured = measured
        # The first two steps have no third difference.
        usable = list(self._squares)[2:] if len(self._squares) < FRAMES else self._squares
        if len(usable) >= LEAST:
            noise = np.sqrt(np.median(usable) / MEDIAN)
            self.noise = self.smoothness * float(np.clip(noise, *NOISE_RANGE))

    def _mix(self, dt: float) -> None:
        """Each model begins from both states, as likely as it is that they change into it."""
        stay = np.exp(-dt / self.stays_s)
        change = np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])  # from, to
        after = self.chances @ change
        mixed = []
        for model in (REST, TURN):
            share = self.chances * change[:, model] / after[model]
            apart = (self.states[REST].rotation.inv() * self.states[TURN].rotation).as_rotvec()
            rotation = self.states[REST].rotation * Rotation.from_rotvec(share[TURN] * apart)
            velocity = share @ [state.velocity for state in self.states]
            covariance = np.zeros((2, 2))
            for part, state in zip(share, self.states, strict=True):
                off = np.stack(
                    [
                        np.degrees((rotation.inv() * state.rotation).as_rotvec()),
                        state.velocity - velocity,
                    ]
                )
                covariance += part * (state.covariance + off @ off.T / 3)
            mixed.append(_State(rotation, velocity, covariance))
        self.states, self.chances = mixed, after

    def _update(self, model: int, state: _State, measured: Rotation, dt: float) -> float:
        """Predict and correct one model's state; returns the logarithm of its likelihood."""
        if model == REST:
            state.velocity = np.zeros(3)
            state.covariance = np.diag(
                [state.covariance[0, 0] + (self.drift * self.noise) ** 2 * dt, 0.0]
            )
        else:
            state.rotation = state.rotation * Rotation.from_rotvec(np.radians(state.velocity * dt))
            step = np.array([[1, dt], [0, 1]])
            noise = np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
            state.covariance = step @ state.covariance @ step.T + self.acceleration**2 * noise
        error = np.degrees((state.rotation.inv() * measured).as_rotvec())
        expected = state.covariance[0, 0] + self.noise**2
        gain = state.covariance[:, 0] / expected
        state.rotation = state.rotation * Rotation.from_rotvec(np.radians(gain[0] * error))
        state.velocity = state.velocity + gain[1] * error
        state.covariance = state.covariance - np.outer(gain, gain) * expected
        return float(-0.5 * (error @ error) / expected - 1.5 * np.log(expected))
