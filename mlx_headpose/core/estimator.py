"""What every method shares: an estimator is a backbone and a pose head.

The backbone turns pixels (or landmarks) into features. The pose head owns everything in which one
method differs from another: its outputs, the targets it makes of a pose, its loss, and how outputs
become angles. Training, evaluation, prediction and export see only `Estimator`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import Shards, in_each_shard, shards_for
from ..errors import InputError
from ..pose import wrap
from ..process import require_mlx
from .inputs import ImageInput, Input
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..data import Dataset

Outputs = tuple[mx.array, ...]


def option(
    default: Any,
    help: str,
    *flags: str,
    choices: tuple[Any, ...] | None = None,
    least: int | None = None,
    bare: Any = None,
    metavar: str | None = None,
    group: str = "optimisation",
) -> Any:
    """A field of a dataclass that the command line offers as an option.

    Args:
        default: value where none is given.
        help: one line for `--help`.
        *flags: spellings, the first of which `--help` shows; without any, the field's name.
        choices: the allowed values, if they are few.
        least: smallest allowed number.
        bare: value of the option given without one; None where it needs one.
        metavar: name of its value in `--help`.
        group: section of `train.py --help` that lists it.
    """
    about = {"help": help, "flags": flags, "choices": choices, "least": least, "bare": bare}
    return field(default=default, metadata={**about, "metavar": metavar, "group": group})


def flag_of(field: dataclasses.Field) -> str:
    """The spelling that `--help` shows of an `option(...)` field."""
    return field.metadata["flags"][0] if field.metadata["flags"] else f"--{field.name}"


def full_yaw_option() -> Any:
    """The field of a network whose rotations can be read in two ways."""
    return option(
        False,
        "give heads seen from behind a yaw beyond 90 degrees, not a pitch and a roll near 180",
    )


def canonical(text: str, names: Sequence[str], what: str) -> str:
    """The one of some names that a text means, in any case and with other signs between its parts.

    Args:
        text: such as "RepVGG-B1g2", which means "repvgg_b1g2".
        names: all that there are.
        what: what they name, for the error.

    Raises:
        InputError: there is no such name.
    """
    plain = {name.replace("_", ""): name for name in names}
    key = re.sub("[-_.]", "", text.lower())
    if key not in plain:
        raise InputError(f"unknown {what} {text!r}; choose one of: {', '.join(names)}")
    return plain[key]


@dataclass(frozen=True)
class StepOptions:
    """How weights change in training; each field's help says what it means."""

    epochs: int = option(
        25, "passes over the training set", "--num_epochs", "--num_epoch", "--epochs", least=1
    )
    batch_size: int = option(32, "samples per step and process", least=1)
    lr: float = option(1e-3, "learning rate")
    optimizer: str = option("adam", "how gradients become steps", choices=("adam", "adamw", "sgd"))
    weight_decay: float = option(0.0, "of adamw, or of sgd's gradient", least=0)
    head_lr_scale: float = option(
        1.0,
        "learning rate of the parameters under --head_parameters, as a multiple of --lr",
        least=0,
    )
    head_parameters: tuple[str, ...] = option(
        ("head.",), "beginnings of their names", metavar="NAME"
    )
    milestones: tuple[int, ...] = option(
        (), "epochs after which the learning rate drops", metavar="EPOCH", least=1
    )
    milestone_factor: float = option(0.5, "by which factor it does", least=0)


@dataclass(frozen=True)
class Recipe(StepOptions):
    """How a method trains, unless options of the command line replace it.

    Attributes:
        lr: learning rate when training goes on from pretrained weights.
        lr_scratch: learning rate from random weights.
        others: see `StepOptions`.
    """

    lr_scratch: float = 1e-3


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a method's network, as plain values.

    Subclasses set `model_type` and `recipe`, add fields with `option(...)`, and check the values
    in `__post_init__`, raising `InputError`.
    """

    model_type: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe(lr=1e-5)
    # Fields that training on synthetic heads from random weights sets, unless options do: a network
    # that learns in minutes.
    quick: ClassVar[dict[str, Any]] = {}
    # Fields, as `to_dict` writes them, of a network that computes in a moment: for checks.
    small: ClassVar[dict[str, Any]] = {"preprocessing": {"size": 64}}
    # Name of the validation figure by which the best epoch is chosen; the lowest wins.
    criterion: ClassVar[str] = "mae"
    # Whether the method's published figures took the legacy minimum over 180° and 360°
    # (`pose.legacy_angle_errors`); evaluation then reports them as well.
    legacy_errors: ClassVar[bool] = False
    # Whether the network is one graph of operations; a search that looks at values is not.
    compiles: ClassVar[bool] = True
    # Largest absolute roll in degrees that the outputs can express; None where all can be.
    largest_roll: ClassVar[float | None] = None
    # Whether it trains on crops without a head as well, whose poses are NaN.
    learns_absence: ClassVar[bool] = False
    # Whether float16 moves no angle by more than 0.05°, as measured with real weights on photos
    # (bench/accuracy/float16.py).
    float16: ClassVar[bool] = False

    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def inputs(self) -> Input:
        """What the network reads."""
        return ImageInput(self.preprocessing)

    @property
    def limits(self) -> tuple[float, ...] | None:
        """Largest absolute yaw, pitch and roll that the method is for, in degrees; None: all."""
        return None

    def for_inference(self) -> ModelConfig:
        """The config of the network without what only its training computes."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON can hold it; `config_from_dict` reads it back."""
        return {"model_type": self.model_type, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build the config from `to_dict`'s form; unknown or malformed fields are an InputError."""
        values = {key: value for key, value in values.items() if key != "model_type"}
        unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise InputError(f"config of {cls.model_type} has unknown fields: {sorted(unknown)}")
        try:
            return _replace(cls(), values)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"config of {cls.model_type} is malformed: {error}") from error


def _replace(instance: Any, values: Any) -> Any:
    """`dataclasses.replace` with values from JSON, whose types must be those of the instance."""
    if not isinstance(values, dict):
        raise TypeError(f"{type(instance).__name__} must be an object, not {values!r}")
    fitting = {}
    for name, value in values.items():
        present = getattr(instance, name, None)
        if dataclasses.is_dataclass(present):
            value = _replace(present, value)
        if isinstance(present, tuple) and isinstance(value, list):
            value = tuple(value)
        if isinstance(present, float) and type(value) is int:
            value = float(value)
        if present is not None and type(value) is not type(present):
            raise TypeError(f"{name} must be {type(present).__name__}, not {value!r}")
        fitting[name] = value
    return dataclasses.replace(instance, **fitting)


def angle_error(predicted: mx.array, poses: mx.array) -> mx.array:
    """(3,) mean absolute error of (N, 3) angles in degrees, the shorter way round the circle."""
    return mx.abs(wrap(predicted - poses)).mean(0)


class PoseHead(nn.Module):
    """Base of all pose heads; a subclass is the part of a method that is not the backbone."""

    # Whether every output is the logits of a classifier over bins.
    classifies: ClassVar[bool] = False
    # Confidence below which a crop most likely shows no head.
    min_confidence: ClassVar[float] = 0.15
    # Names of its layers that only training computes; weights to start from may lack them.
    training_only: ClassVar[tuple[str, ...]] = ()

    def views(self, inputs: mx.array) -> mx.array:
        """Normalised inputs (N, ...) → what the backbone reads of them outside training.

        A head that looks at each sample V times returns (V·N, ...), and joins the V answers itself.
        """
        return inputs

    def __call__(self, features: Any) -> Outputs:
        """Features → the method's raw outputs, always a tuple of arrays with batch first."""
        raise NotImplementedError

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """Training loss.

        Args:
            outputs: what the network returned.
            pose: (N, 3) yaw, pitch, roll in degrees.

        Returns:
            The scalar to minimise, and its named parts (scalars) for the log.
        """
        raise NotImplementedError

    def decode(self, outputs: Outputs) -> mx.array:
        """Outputs → (N, 3) yaw, pitch, roll in degrees. NumPy outputs are answered in NumPy."""
        raise NotImplementedError

    def error(self, outputs: Outputs, pose: mx.array) -> mx.array:
        """(3,) mean absolute error of yaw, pitch and roll on a batch, in degrees."""
        return angle_error(mx.stop_gradient(self.decode(outputs)), pose)

    def probabilities(self, outputs: Outputs) -> Outputs:
        """Outputs as another program wants them: probabilities of bins in place of logits."""
        if not self.classifies:
            return outputs
        return tuple(mx.softmax(logits, axis=-1, precise=True) for logits in outputs)

    def confidence(self, outputs: Outputs) -> mx.array | None:
        """(N,) in 0..1, higher where the outputs are surer; None where the method has none.

        NumPy outputs are answered in NumPy.
        """
        return None


class Estimator(nn.Module):
    """A backbone and a pose head, with the config that built them."""

    def __init__(self, config: ModelConfig, backbone: nn.Module, head: PoseHead):
        super().__init__()
        self.config = config
        # Set where layers were replaced by smaller ones: a `quantization.Quantization`.
        self.quantization: Any = None
        self.backbone = backbone
        self.head = head

    def __call__(self, inputs: mx.array) -> Outputs:
        """Inputs → outputs.

        Args:
            inputs: what `config.inputs` makes, such as (N, H, W, 3) images, uint8 or already
                normalised floats.
        """
        require_mlx()
        reads = self.config.inputs
        inputs = reads.normalize(inputs)
        count = shards_for(len(inputs)) if reads.in_shards else 1
        if self.training:
            if count == 1 or not self.trains_in_shards:
                return self.head(self.backbone(inputs))
            return self.head(self.backbone(Shards.split(inputs, count)).join())
        if count == 1:
            return self._predict(inputs)
        outputs = in_each_shard(self._predict, Shards.split(inputs, count).parts)
        return tuple(mx.concatenate(list(parts)) for parts in zip(*outputs, strict=True))

    def features(self, inputs: mx.array) -> Any:
        """Normalised inputs → what the head reads outside training, for exports too."""
        return self.backbone(self.head.views(inputs))

    def _predict(self, inputs: mx.array) -> Outputs:
        return self.head(self.features(inputs))

    def with_preprocessing(self, preprocessing: Preprocessing) -> Estimator:
        """The same network, its layers shared, with another preprocessing."""
        config = dataclasses.replace(self.config, preprocessing=preprocessing)
        other = Estimator(config, self.backbone, self.head)
        other.quantization = self.quantization
        other.train(self.training)
        return other

    @property
    def trains_in_shards(self) -> bool:
        """Whether the backbone takes `Shards`. In evaluation samples are independent anyway."""
        return getattr(self.backbone, "takes_shards", False)

    def prepare(
        self, dataset: Dataset, folder: Path, seed: int, say: Callable[[str], None]
    ) -> Dataset:
        """Compute what the method needs of the training set before its first step.

        Args:
            dataset: training set.
            folder: where results may be kept for the next time.
            seed: random seed.
            say: function that prints a line of progress.

        Returns:
            The samples to train on.
        """
        return dataset

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """See `PoseHead.loss`."""
        return self.head.loss(outputs, pose)

    def decode(self, outputs: Outputs) -> mx.array:
        """See `PoseHead.decode`."""
        return self.head.decode(outputs)

    def error(self, outputs: Outputs, pose: mx.array) -> mx.array:
        """See `PoseHead.error`."""
        return self.head.error(outputs, pose)

    def confidence(self, outputs: Outputs) -> mx.array | None:
        """See `PoseHead.confidence`."""
        return self.head.confidence(outputs)
