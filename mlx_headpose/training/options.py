"""Everything that decides what a training does, apart from the network and the data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..core.estimator import Recipe, StepOptions, flag_of, option
from ..data.augment import Augmentation
from ..errors import InputError

# The optimizers that have an option which others lack.
OPTIMIZERS_WITH = {"momentum": ("sgd",), "weight_decay": ("adamw", "sgd")}


@dataclass(frozen=True)
class TrainingOptions(StepOptions):
    """How to train; each field's help says what it means. `from_recipe` takes a method's defaults.

    The cosine schedule ends at 1 % of `lr`. Modules that `freeze` names keep their norms'
    statistics. In bfloat16, the weights, norm statistics and losses stay in float32.
    """

    momentum: float = option(0.9, "of sgd", least=0)
    freeze: tuple[str, ...] = option(
        (), "modules that do not train, such as backbone.conv1 backbone.bn1", metavar="MODULE"
    )
    schedule: str = option("constant", "of the learning rate", choices=("constant", "cosine"))
    warmup: int = option(0, "steps of rising learning rate", least=0)
    clip_norm: float = option(0.0, "largest norm of the gradient; 0 is no limit", least=0)
    bfloat16: bool = option(False, "compute in bfloat16")
    seed: int = option(0, "of everything random", least=0)
    skip_bad: bool = option(False, "leave out broken photos and count", group="data")
    workers: int = option(0, "reading threads; 0 is one per core", least=0, group="data")
    augment: float = option(
        0.5,
        "probability of augmenting a sample: one of flip, shift, crop, none; then one of blur, "
        "brightness-contrast, noise, none",
        bare=0.5,
        group="augmentation",
    )
    flip: bool = option(True, "whether to mirror some", group="augmentation")
    turn: float = option(
        0.0,
        "largest angle in degrees by which some heads are turned in the image",
        least=0,
        group="augmentation",
    )
    rescale: float = option(
        1.0, "largest factor by which crops are larger or smaller", least=1, group="augmentation"
    )
    exposure: float = option(
        0.0,
        "f-stops by which some crops are darker, at most; half as many brighter",
        least=0,
        group="augmentation",
    )
    save_every: int = option(1000, "steps between saves within an epoch", least=1, group="output")
    tensorboard: bool = option(False, "write TensorBoard's files too", group="output")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about = getattr(self, field.name), field.metadata
            flag = f"{flag_of(field)} {value}"
            if about.get("choices") and value not in about["choices"]:
                raise InputError(f"{flag}: choose one of {', '.join(about['choices'])}")
            least = about.get("least")
            numbers = value if isinstance(value, tuple) else (value,)
            if least is not None and not all(least <= n < math.inf for n in numbers):
                raise InputError(f"{flag}: give a number of {least} or more")
        if not 0 < self.lr < math.inf:
            raise InputError(f"--lr {self.lr}: give a positive number, such as 0.0001")
        if self.turn > 180 or self.rescale > 4 or self.exposure > 8:
            raise InputError(
                f"--turn {self.turn:g}, --rescale {self.rescale:g}, --exposure {self.exposure:g}: "
                "give at most 180, 4 and 8"
            )
        if not 0 <= self.augment <= 1:
            raise InputError(f"--augment {self.augment}: give a probability between 0 and 1")

    @property
    def augmentation(self) -> Augmentation | None:
        """What changes the samples, if anything does."""
        changes = Augmentation(self.augment, self.flip, self.turn, self.rescale, self.exposure)
        return None if changes == Augmentation(0.0, self.flip) else changes

    @classmethod
    def from_recipe(cls, recipe: Recipe, *, pretrained: bool, **given: Any) -> TrainingOptions:
        """A method's defaults, with what was `given` (and is not None) in their place.

        From random weights the learning rate is the recipe's `lr_scratch`, the same for the whole
        network, and falls by a cosine; from pretrained ones it is `lr`, larger for the head where
        the recipe says so, and follows the recipe's milestones.
        """
        values = dataclasses.asdict(recipe)
        from_random = values.pop("lr_scratch")
        if not pretrained:
            values["lr"] = from_random
            values["head_lr_scale"] = 1.0
            values["schedule"] = "constant" if recipe.milestones else "cosine"
        values.update({key: value for key, value in given.items() if value is not None})
        options = cls(**values)
        for name, optimizers in OPTIMIZERS_WITH.items():
            asked = given.get(name) not in (None, getattr(cls, name))  # the default asks nothing
            if asked and options.optimizer not in optimizers:
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
