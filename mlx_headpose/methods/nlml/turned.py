"""Landmarks can be turned exactly: to the front by their own pose, and to any other."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from ...data.base import Dataset
from ...pose import pose_to_matrix


def frontal_landmarks(dataset: Dataset) -> np.ndarray:
    """(N, L, 3) float32: every sample's landmarks turned back to the front by its own pose.

    They are centred and scaled to an RMS radius of 1.
    """
    matrices = pose_to_matrix(dataset.poses.astype(np.float64))
    faces = tqdm(range(len(dataset)), "landmarks", unit="face", disable=None, leave=False)
    # Points are rows, so x·D is Dᵀ, the inverse rotation, of each.
    fronts = np.stack([dataset.landmarks(i) @ matrices[i] for i in faces])
    fronts -= fronts.mean(axis=1, keepdims=True)
    fronts /= np.sqrt((fronts**2).sum(axis=-1).mean(axis=-1))[:, None, None]
    return fronts.astype(np.float32)


class TurnedFaces(Dataset):
    """Faces turned to random poses, evenly spread within limits.

    Args:
        name: what reports call it.
        fronts: (I, L, 3) landmarks of faces that look straight ahead, in image axes.
        limits: largest absolute yaw, pitch and roll in degrees.
        count: number of samples; each shows one of the faces in one pose.
        noise: how far each sample's shape is from the face's: the standard deviation of every
            coordinate, and of a stretch along each of the head's axes. Found landmarks differ by
            about as much from made heads, and a network that never saw such faces trusts details
            that are not there.
        seed: random seed.
    """

    def __init__(
        self,
        name: str,
        fronts: np.ndarray,
        limits: tuple[float, float, float],
        count: int,
        noise: float = 0.0,
        seed: int = 0,
    ):
        rng = np.random.default_rng(seed)
        poses = rng.uniform(-np.array(limits), limits, (count, 3)).astype(np.float32)
        super().__init__(
            name=name,
            ids=[f"{name}-{i}" for i in range(count)],
            poses=poses,
            boxes=np.zeros((count, 4), np.float32),
            protocol=f"{name}, {len(fronts)} faces turned to {count} poses",
        )
        self.fronts = fronts
        self.faces = rng.integers(len(fronts), size=count)
        self.matrices = pose_to_matrix(poses)
        self.noise = noise
        self.seed = seed

    def landmarks(self, index: int) -> np.ndarray:
        """(L, 3) float32 landmarks of sample `index`; see `Dataset.landmarks`."""
        face = self.fronts[self.faces[index]]
        if self.noise > 0:
            rng = np.random.default_rng((self.seed, index))
            stretch = 1 + self.noise * rng.standard_normal(3, np.float32)
            face = stretch * face + self.noise * rng.standard_normal(face.shape, np.float32)
        return (face @ self.matrices[index].T).astype(np.float32)
