"""What NLML-HPE computes before its encoder trains: tensor, manifold and angle networks.

Each stage is kept in the training's folder with a digest of all that it depends on, and is done
again only when that changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from tqdm import tqdm

from ...data import Dataset
from ...errors import InputError
from ...figures import available
from ...files import atomic_path, digest, write_json
from ...pose import pose_to_matrix
from ...readers.safetensors_file import load_tensors
from ...weights import from_pretrained, load_strictly, save_pretrained, save_tensors, tensors_of
from .. import Estimator
from ..nlml_manifold import ANGLES, Manifold, fit_manifold
from ..nlml_manifold.fitted import estimator_of, manifold_of
from ..nlml_manifold.plots import draw_factors
from .network import RANK, Config, FactorHead, normalize_landmarks
from .turned import TurnedFaces, frontal_landmarks

SAMPLES = 51_200  # turned faces in an epoch of the encoder
# Of the largest tensor: more faces than fit teach the encoder alone. 985 faces of 68 points fit.
TENSOR_BYTES = 600_000_000
HEAD_STEPS = 2000
HEAD_BATCH = 256
MARGIN = 1.1  # the angle networks learn a little beyond the limits

Say = Callable[[str], None]


def prepare(model: Estimator, dataset: Dataset, folder: Path, seed: int, say: Say) -> Dataset:
    """Fit the manifold to a dataset's landmarks, and set the network's cosines and angle networks.

    Args:
        model: NLML-HPE's network; changed in place.
        dataset: faces with 3D landmarks and poses.
        folder: where the stages are kept.
        seed: random seed of the angle networks' start and of the samples.
        say: prints a line for people.

    Returns:
        What the encoder trains on: the same faces turned to random poses within the method's
        limits, or, of a set that shows every person at every pose of a grid, the set itself.
    """
    config = model.config
    assert isinstance(config, Config)
    assert isinstance(model.head, FactorHead)
    stages = Stages(folder / "stages", say)
    if "person" not in dataset.columns:
        fronts = frontal_landmarks(dataset)
        require_points(dataset, fronts.shape[1], config)
        grid, fill = turned_tensor(fronts, config)
        samples: Dataset = TurnedFaces(
            dataset.name, fronts, config.limits, SAMPLES, config.noise, seed
        )
        content = digest(fronts, config.normalization, {k: v.tolist() for k, v in grid.items()})
    else:
        faces = np.stack([dataset.landmarks(i) for i in range(len(dataset))])
        require_points(dataset, faces.shape[1], config)
        grid, fill = measured_tensor(faces, dataset, config)
        samples = dataset
        content = digest(faces, dataset.poses, dataset.columns["person"], config.normalization)
    manifold = stages.manifold(content, grid, fill, config)
    cosines = manifold.cosines.astype(np.float32)  # as the file keeps them
    model.head.cosines = mx.array(cosines)
    stages.angle_networks(model.head, digest(cosines, config.limits, seed), config, seed)
    return samples


def require_points(dataset: Dataset, count: int, config: Config) -> None:
    """Refuse landmarks of another numbering than the network's."""
    if count != config.landmarks:
        raise InputError(
            f"{dataset.name} has {count} landmarks and the network reads {config.landmarks}; "
            f"add --landmarks {count}"
        )


def turned_tensor(
    fronts: np.ndarray, config: Config
) -> tuple[dict[str, np.ndarray], Callable[[], np.ndarray]]:
    """The grid of poses, and what fills the tensor with every face turned to every pose of it."""
    grid = dict(zip(ANGLES, config.grid(), strict=True))
    cells = np.stack(np.meshgrid(*grid.values(), indexing="ij"), axis=-1).reshape(-1, 3)
    matrices = pose_to_matrix(cells).astype(np.float32)
    shape = tuple(len(row) for row in grid.values())
    count = min(len(fronts), TENSOR_BYTES // (4 * len(cells) * fronts[0].size))

    def fill() -> np.ndarray:
        tensor = np.empty((count, len(cells), fronts[0].size), np.float32)
        for i in tqdm(range(count), "tensor", unit="face", disable=None, leave=False):
            turned = mx.array(fronts[i] @ matrices.transpose(0, 2, 1))
            tensor[i] = np.array(normalize_landmarks(turned, config.normalization))
        return tensor.reshape(count, *shape, -1)

    return grid, fill


def measured_tensor(
    faces: np.ndarray, dataset: Dataset, config: Config
) -> tuple[dict[str, np.ndarray], Callable[[], np.ndarray]]:
    """The grid of a set's own poses, and what fills the tensor with its landmarks as they are.

    A cell without landmarks (no face was found in the photo) takes the person's frontal ones,
    turned; the dataset has counted and named it.
    """
    poses = dataset.poses.round(3)
    grid = {name: np.unique(poses[:, k]) for k, name in enumerate(ANGLES)}
    for name, angles in grid.items():
        if len(angles) < RANK:
            raise InputError(
                f"{dataset.name}: its faces have {len(angles)} different angles of {name}, and a "
                f"manifold needs {RANK} or more; add faces that turn further"
            )
    where = [np.searchsorted(grid[name], poses[:, k]) for k, name in enumerate(ANGLES)]
    people, person = np.unique(dataset.columns["person"], return_inverse=True)
    shape = (len(people), *(len(row) for row in grid.values()))

    def fill() -> np.ndarray:
        features = np.array(normalize_landmarks(mx.array(faces), config.normalization))
        tensor = np.full((*shape, features.shape[1]), np.nan, np.float32)
        tensor[(person, *where)] = features
        empty = np.isnan(tensor[..., 0])
        angles = np.stack(np.meshgrid(*grid.values(), indexing="ij"), axis=-1)
        for i in np.flatnonzero(empty.any(axis=(1, 2, 3))):
            mine = np.flatnonzero(person == i)
            nearest = mine[np.argmin(np.abs(poses[mine]).sum(axis=1))]
            front = faces[nearest] @ pose_to_matrix(poses[nearest].astype(np.float64))
            turned = front @ pose_to_matrix(angles[empty[i]]).transpose(0, 2, 1)
            turned = mx.array(turned.astype(np.float32))
            tensor[i, empty[i]] = np.array(normalize_landmarks(turned, config.normalization))
        return tensor

    return grid, fill


class Stages:
    """The stages of one training's folder, and the digests of what they were made of."""

    def __init__(self, folder: Path, say: Say):
        self.folder = folder
        self.say = say
        self.record = folder / "stages.json"
        try:
            self.digests: dict[str, str] = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.digests = {}

    def fresh(self, path: Path, content: str) -> bool:
        """Whether a stage's file is there and made of the same content."""
        fresh = self.digests.get(path.name) == content and path.is_file()
        self.say(f"{path.stem}: {'kept from before' if fresh else 'computing'} ({path})")
        return fresh

    def done(self, path: Path, content: str) -> None:
        """Note what a stage's file was made of."""
        self.digests[path.name] = content
        write_json(self.record, self.digests)

    def tensor(self, content: str, fill: Callable[[], np.ndarray]) -> np.ndarray:
        """(people, yaws, pitches, rolls, features)."""
        path = self.folder / "tensor.npy"
        if self.fresh(path, content):
            return np.load(path, allow_pickle=False)
        tensor = fill()
        with atomic_path(path) as temporary:
            np.save(temporary, tensor)
        self.done(path, content)
        return tensor

    def manifold(
        self,
        content: str,
        grid: dict[str, np.ndarray],
        fill: Callable[[], np.ndarray],
        config: Config,
    ) -> Manifold:
        """The decomposition with its cosines; the tensor is read only where it is needed."""
        path = self.folder / "manifold.safetensors"
        ranked = digest(content, config.identity_rank)
        if self.fresh(path, ranked):
            return manifold_of(from_pretrained(path))
        ranks = (config.identity_rank, RANK, RANK, RANK)
        manifold = fit_manifold(self.tensor(content, fill), grid, ranks)
        save_pretrained(estimator_of(manifold, config.normalization), path)
        if available():
            draw_factors(manifold, path.with_name("factors.png"))
        self.done(path, ranked)
        return manifold

    def angle_networks(self, head: FactorHead, content: str, config: Config, seed: int) -> None:
        """Train the three angle networks on the cosines, or take them from before."""
        path = self.folder / "angle_networks.safetensors"
        networks = {name: getattr(head, name) for name in ANGLES}
        if self.fresh(path, content):
            for name, network in networks.items():
                tensors = load_tensors(path)
                part = {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name)}
                load_strictly(network, part, path)
            return
        train_angle_networks(head, config.limits, seed)
        tensors = {
            f"{name}.{key}": value
            for name, network in networks.items()
            for key, value in tensors_of(network).items()
        }
        save_tensors(path, tensors, {"model_type": "nlml_angle_networks"})
        self.done(path, content)


def train_angle_networks(head: FactorHead, limits: tuple[float, ...], seed: int) -> None:
    """Teach the angle networks the way from the cosines back to the angles."""
    random = np.random.default_rng(seed)
    reach = MARGIN * np.radians(limits)
    schedule = optim.cosine_decay(5e-3, HEAD_STEPS, 1e-5)
    optimizer = optim.Adam(schedule)

    def loss(angles: mx.array) -> mx.array:
        return nn.losses.mse_loss(head.angles(head.factors(angles)), angles)

    step = nn.value_and_grad(head, loss)
    for _ in tqdm(range(HEAD_STEPS), "angle networks", disable=None, leave=False):
        angles = random.uniform(-reach, reach, (HEAD_BATCH, 3)).astype(np.float32)
        _, gradients = step(mx.array(angles))
        optimizer.update(head, gradients)
        mx.eval(head.parameters(), optimizer.state)
