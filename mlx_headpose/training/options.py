"""Everything that decides what a training does, apart from the network and the data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..methods import Recipe

# Each optimizer, and those of the options that only some have.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adam": (),
    "adamw": ("weight_decay",),
    "sgd": ("momentum", "weight_decay"),
}
SCHEDULES = ("constant", "cosine")
NOT_NEGATIVE = (
    *("momentum", "weight_decay", "head_lr_scale", "warmup", "milestone_factor", "clip_norm"),
    *("seed", "workers"),
)


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. `from_recipe` fills it with a method's own defaults.

    Attributes:
        epochs: passes over the training set.
        batch_size: samples per step and process.
        lr: learning rate at its highest.
        optimizer: "adam", "adamw" or "sgd".
        momentum: of SGD.
        weight_decay: of AdamW, or added to the gradient of SGD.
        head_lr_scale: factor on the learning rate of the parameters under `head_parameters`.
        head_parameters: prefixes of parameter names.
        freeze: prefixes of module names that do not train; their norms keep their statistics.
        schedule: "constant" or "cosine" (down to 1 % of `lr` at the end).
        warmup: steps over which the learning rate rises from 0.
        milestones: epochs after which the learning rate is multiplied by `milestone_factor`.
        milestone_factor: see `milestones`.
        clip_norm: largest norm of the whole gradient; 0 does not clip.
        bfloat16: compute in bfloat16, with the weights, norm statistics and losses in float32.
        augment: probability of augmenting a sample.
        flip: whether mirroring is one of the augmentations.
        seed: of the weights, the order and the augmentation.
        save_every: steps between checkpoints within an epoch.
        workers: threads that read samples; 0 means one per core.
        skip_bad: whether to go on after broken photos.
        tensorboard: whether to write TensorBoard's event files too.
    """

    epochs: int = 25
    batch_size: int = 32
    lr: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    head_lr_scale: float = 1.0
    head_parameters: tuple[str, ...] = ("head.",)
    freeze: tuple[str, ...] = ()
    schedule: str = "constant"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    milestone_factor: float = 0.5
    clip_norm: float = 0.0
    bfloat16: bool = False
    augment: float = 0.5
    flip: bool = True
    seed: int = 0
    save_every: int = 1000
    workers: int = 0
    skip_bad: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"--optimizer {self.optimizer}: choose one of {', '.join(OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise InputError(f"--schedule {self.schedule}: choose one of {', '.join(SCHEDULES)}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"--lr {self.lr}: give a positive number, such as 0.0001")
        if not 0 <= self.augment <= 1:
            raise InputError(f"--augment {self.augment}: give a probability between 0 and 1")
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--{name} {getattr(self, name)}: give a number of 0 or more")

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, pretrained: bool, **given: Any) -> TrainingOptions:
        """A method's defaults, with what was `given` (and is not None) in their place.

        From random weights the learning rate is the recipe's `lr_scratch`, the same for the whole
        network, and falls by a cosine; from pretrained ones it is `lr`, larger for the head where
        the recipe says so, and follows the recipe's milestones.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        values = {k: v for k, v in dataclasses.asdict(recipe).items() if k in names}
        if not pretrained:
            values["lr"] = recipe.lr_scratch
            values["head_lr_scale"] = 1.0
            values["schedule"] = "constant" if recipe.milestones else "cosine"
        values.update({key: value for key, value in given.items() if value is not None})
        options = cls(**values)
        for name in ("momentum", "weight_decay"):
            asked = given.get(name) not in (None, getattr(cls, name))  # the default asks nothing
            if asked and name not in OPTIMIZERS[options.optimizer]:
                raise InputError(f"--{name} is not for --optimizer {options.optimizer}")
        return options

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of step `step`, counted from the start of training."""
        total = self.epochs * steps_per_epoch
        rate = self.lr
        if self.schedule == "cosine":
            done = max(step - self.warmup, 0) / max(total - self.warmup, 1)
            rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        epoch = step // max(steps_per_epoch, 1)
        rate *= self.milestone_factor ** sum(epoch >= m for m in self.milestones)
        return rate * min(1.0, (step + 1) / self.warmup) if self.warmup else rate
