"""What every method shares: an estimator is a backbone and a pose head.

The backbone turns pixels (or landmarks) into features. The pose head owns everything in which one
method differs from another: its outputs, the targets it makes of a pose, its loss, and how outputs
become angles. Training, evaluation, prediction and export see only `Estimator`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from ..cpu.shards import Shards, in_each_shard, shards_for
from ..errors import InputError
from .preprocessing import Preprocessing

Outputs = tuple[mx.array, ...]


@dataclass(frozen=True)
class Recipe:
    """How a method trains where the command line does not say otherwise.

    Attributes:
        lr: learning rate when training goes on from pretrained weights.
        lr_scratch: learning rate from random weights.
        optimizer: "adam", "adamw" or "sgd".
        weight_decay: of AdamW, or added to the gradient of SGD.
        batch_size: samples per step.
        epochs: passes over the training set.
        head_lr_scale: factor on the learning rate of the parameters named in `head_parameters`.
        head_parameters: prefixes of the parameters that train faster.
        milestones: epochs after which the learning rate is multiplied by `milestone_factor`.
    """

    lr: float = 1e-5
    lr_scratch: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 25
    head_lr_scale: float = 1.0
    head_parameters: tuple[str, ...] = ("head.",)
    milestones: tuple[int, ...] = ()
    milestone_factor: float = 0.5


def option(default: Any, help: str, *flags: str, choices: tuple[Any, ...] | None = None) -> Any:
    """A config field that the command line offers as an option.

    Args:
        default: its value where nobody says otherwise.
        help: one line for `--help`.
        *flags: further spellings, such as "--efficient". The field's own name is always one.
        choices: the allowed values, if they are few.
    """
    return field(default=default, metadata={"help": help, "flags": flags, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a method's network, as plain values.

    Subclasses set `model_type` and `recipe`, add fields with `option(...)`, and check the values
    in `__post_init__`, raising `InputError`.
    """

    model_type: ClassVar[str] = ""
    recipe: ClassVar[Recipe] = Recipe()
    # What the network reads: "image" or "landmarks".
    inputs: ClassVar[str] = "image"
    # Fields that training on synthetic heads from random weights sets, unless options do: a network
    # that learns in minutes.
    quick: ClassVar[dict[str, Any]] = {}
    # Module of `training` whose `prepare` computes what the method needs before its first step.
    preparation: ClassVar[str] = ""
    # Whether the method's published figures took the legacy minimum over 180° and 360°
    # (`pose.legacy_angle_errors`); evaluation then reports them as well.
    legacy_errors: ClassVar[bool] = False

    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def limits(self) -> tuple[float, float, float] | None:
        """Largest absolute yaw, pitch and roll in degrees that the method is for, if it says."""
        return None

    @property
    def landmark_count(self) -> int:
        """How many landmarks of a face the network reads; 0 if it reads pictures."""
        return 0

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
        preprocessing = values.pop("preprocessing", {})
        try:
            config = _replace(cls(), values)
            return _replace(
                config, {"preprocessing": _replace(config.preprocessing, preprocessing)}
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"config of {cls.model_type} is malformed: {error}") from error


def _replace(instance: Any, values: Any) -> Any:
    """`dataclasses.replace` with values from JSON, whose types must be those of the instance."""
    if not isinstance(values, dict):
        raise TypeError(f"{type(instance).__name__} must be an object, not {values!r}")
    fitting = {}
    for name, value in values.items():
        present = getattr(instance, name, None)
        if isinstance(present, tuple) and isinstance(value, list):
            value = tuple(value)
        if isinstance(present, float) and type(value) is int:
            value = float(value)
        if present is not None and type(value) is not type(present):
            raise TypeError(f"{name} must be {type(present).__name__}, not {value!r}")
        fitting[name] = value
    return dataclasses.replace(instance, **fitting)


class PoseHead(nn.Module):
    """Base of all pose heads; a subclass is the part of a method that is not the backbone."""

    # Whether every output is the logits of a classifier over bins.
    classifies: ClassVar[bool] = False
    # Confidence below which a crop most likely shows no head.
    least_confidence: ClassVar[float] = 0.15

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
        """Outputs → (N, 3) yaw, pitch, roll in degrees."""
        raise NotImplementedError

    def probabilities(self, outputs: Outputs) -> Outputs:
        """Outputs as another program wants them: probabilities of bins in place of logits."""
        if not self.classifies:
            return outputs
        return tuple(mx.softmax(logits, axis=-1, precise=True) for logits in outputs)

    def confidence(self, outputs: Outputs) -> mx.array | None:
        """(N,) in 0..1, higher where the outputs are surer; None where a method cannot tell."""
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
            inputs: (N, H, W, 3) images, uint8 or already normalised floats, or what the config's
                `inputs` says.
        """
        if self.config.inputs == "image":
            inputs = self.config.preprocessing.normalize(inputs)
        count = shards_for(len(inputs)) if self.config.inputs == "image" else 1
        if count == 1 or (self.training and not self.trains_in_shards):
            return self.head(self.backbone(inputs))
        batch = Shards.split(inputs, count)
        if self.training:
            return self.head(self.backbone(batch).join())
        outputs = in_each_shard(lambda part: self.head(self.backbone(part)), batch.parts)
        return tuple(mx.concatenate(list(parts)) for parts in zip(*outputs, strict=True))

    @property
    def trains_in_shards(self) -> bool:
        """Whether the backbone takes `Shards`. In evaluation samples are independent anyway."""
        return getattr(self.backbone, "takes_shards", False)

    def loss(self, outputs: Outputs, pose: mx.array) -> tuple[mx.array, dict[str, mx.array]]:
        """See `PoseHead.loss`."""
        return self.head.loss(outputs, pose)

    def decode(self, outputs: Outputs) -> mx.array:
        """See `PoseHead.decode`."""
        return self.head.decode(outputs)

    def confidence(self, outputs: Outputs) -> mx.array | None:
        """See `PoseHead.confidence`."""
        return self.head.confidence(outputs)
