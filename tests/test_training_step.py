"""The step: optimizers, learning rates, clipping, bfloat16."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from support.toy_training import ToySet, toy_model

from mlx_headpose import InputError
from mlx_headpose.core.estimator import angle_error
from mlx_headpose.data.augment import UNCHANGED
from mlx_headpose.methods import Estimator, Recipe
from mlx_headpose.training.distributed import Processes
from mlx_headpose.training.optimizer import Optimizer, single_optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import StepResult, in_bfloat16, make_step


def batch() -> tuple[mx.array, mx.array, mx.array]:
    """Sixteen toy samples."""
    dataset = ToySet(16)
    images = np.stack([np.asarray(dataset.image(i))[::2, ::2] for i in range(16)])
    return mx.array(images), mx.array(dataset.poses), mx.array(np.tile(UNCHANGED, (16, 1)))


def train(
    steps: int = 1, norm: str = "group", **options: object
) -> tuple[Estimator, StepResult, dict[str, np.ndarray]]:
    """Take steps on one batch; returns the network, the last result and how the weights moved."""
    model = toy_model(norm)
    before = {k: np.array(v) for k, v in tree_flatten(model.parameters())}
    settings = TrainingOptions(**{"augment": 0.0, "lr": 1e-3, **options})
    optimizer = Optimizer(model, settings)
    step = make_step(model, optimizer, settings, Processes())
    model.train()
    for _ in range(steps):
        optimizer.set_learning_rate(settings.lr)
        result = step(*batch())
    after = dict(tree_flatten(model.parameters()))
    return model, result, {k: np.array(after[k]) - v for k, v in before.items()}


def torch_weights(optimizer: str, steps: int, **options: float) -> np.ndarray:
    """What PyTorch's optimizer makes of a weight whose gradient is the weight itself."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    chosen = kinds[optimizer]([weight], lr=0.1, **options)
    for _ in range(steps):
        chosen.zero_grad()
        (weight**2 / 2).sum().backward()
        chosen.step()
    return weight.detach().numpy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {}),
        ("adamw", {"weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ],
)
def test_optimizers_are_pytorchs(name: str, options: dict[str, float]) -> None:
    optimizer = single_optimizer(TrainingOptions(optimizer=name, lr=0.1, **options))
    weight = {"w": mx.linspace(-1, 1, 5)}
    for _ in range(4):
        weight = optimizer.apply_gradients(weight, weight)
    np.testing.assert_allclose(
        np.array(weight["w"]), torch_weights(name, 4, **options), rtol=1e-4, atol=1e-6
    )


def test_a_compiled_step_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: optimizer, norms' statistics, dropout and learning rate go on from step to step.

    Without a C++ compiler MLX does not compile for the CPU, and this compares equals.
    """

    def three_steps() -> dict[str, np.ndarray]:
        mx.random.seed(1)
        return train(steps=3, norm="batch")[2]

    plain = three_steps()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    compiled = three_steps()
    for name, moved in plain.items():
        np.testing.assert_allclose(compiled[name], moved, rtol=1e-3, atol=1e-6, err_msg=name)


def test_the_head_learns_faster() -> None:
    plain = train(optimizer="sgd", momentum=0.0)[2]
    faster = train(optimizer="sgd", momentum=0.0, head_lr_scale=5.0)[2]
    for name, moved in plain.items():
        factor = 5 if name.startswith("head.") else 1
        np.testing.assert_allclose(faster[name], factor * moved, rtol=1e-3, atol=1e-8)


def test_clipping_limits_the_whole_gradient() -> None:
    options = {"optimizer": "sgd", "momentum": 0.0, "lr": 1.0}
    free, clipped = train(**options)[2], train(clip_norm=0.01, **options)[2]
    length = np.sqrt(sum((v**2).sum() for v in clipped.values()))
    assert length == pytest.approx(0.01, rel=1e-3)
    scale = length / np.sqrt(sum((v**2).sum() for v in free.values()))
    for name, moved in free.items():
        np.testing.assert_allclose(clipped[name], scale * moved, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_bfloat16_computes_short_and_keeps_long(norm: str) -> None:
    long = train(steps=8, norm=norm, bfloat16=False)
    model, result, moved = train(steps=8, norm=norm, bfloat16=True)
    assert all(v.dtype == mx.float32 for _, v in tree_flatten(model.parameters()))
    assert result.loss.dtype == mx.float32
    assert float(result.loss) == pytest.approx(float(long[1].loss), rel=0.1)
    assert any(not np.array_equal(moved[k], long[2][k]) for k in moved)
    cast = dict(tree_flatten(in_bfloat16(model, model.trainable_parameters())))
    kept = {name for name, value in cast.items() if value.dtype == mx.float32}
    assert kept == {name for name in cast if ".norm." in name}


def test_frozen_weights_survive_bfloat16() -> None:
    model = toy_model()
    model.backbone.conv1.freeze()
    before = np.array(model.backbone.conv1.weight)
    settings = TrainingOptions(augment=0.0, bfloat16=True)
    step = make_step(model, Optimizer(model, settings), settings, Processes())
    step(*batch())
    assert np.array_equal(np.array(model.backbone.conv1.weight), before)


def test_the_figures_of_a_step() -> None:
    model, result, _ = train(optimizer="sgd", lr=1e-12)
    model.eval()
    images, poses, _ = batch()
    outputs = model(images)
    loss, parts = model.loss(outputs, poses)
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-5)
    assert {k: float(v) for k, v in result.parts.items()} == pytest.approx(
        {k: float(v) for k, v in parts.items()}, rel=1e-5
    )
    error = np.abs(np.array(model.decode(outputs)) - np.array(poses)).mean(0)
    np.testing.assert_allclose(np.array(result.error), error, rtol=1e-4)


def test_angle_errors_go_the_short_way() -> None:
    predicted, poses = mx.array([[179.0, -179.0, 10.0]]), mx.array([[-179.0, 179.0, -10.0]])
    assert np.array(angle_error(predicted, poses)).tolist() == [2, 2, 20]


def test_learning_rates_over_time() -> None:
    constant = TrainingOptions(lr=1.0, epochs=10)
    assert {constant.learning_rate(step, 5) for step in range(50)} == {1.0}
    warm = TrainingOptions(lr=1.0, epochs=10, warmup=4)
    assert [warm.learning_rate(step, 5) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = TrainingOptions(lr=1.0, epochs=10, schedule="cosine")
    rates = [cosine.learning_rate(step, 5) for step in range(50)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1
    assert rates[25] == pytest.approx(0.505)
    assert rates[49] == pytest.approx(0.01, abs=2e-3)
    steps = TrainingOptions(lr=1.0, epochs=10, milestones=(2, 4), milestone_factor=0.5)
    assert [steps.learning_rate(5 * epoch, 5) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]


def test_recipes_give_defaults_and_options_go_first() -> None:
    recipe = Recipe(lr=2e-5, lr_scratch=3e-3, batch_size=7, milestones=(3,), epochs=9)
    pretrained = TrainingOptions.from_recipe(recipe, pretrained=True, batch_size=None)
    assert (pretrained.lr, pretrained.batch_size, pretrained.epochs) == (2e-5, 7, 9)
    assert (pretrained.schedule, pretrained.milestones) == ("constant", (3,))
    scratch = TrainingOptions.from_recipe(Recipe(lr_scratch=3e-3), pretrained=False, epochs=2)
    assert (scratch.lr, scratch.schedule, scratch.epochs) == (3e-3, "cosine", 2)
    fast = Recipe(head_lr_scale=5.0)
    scales = [TrainingOptions.from_recipe(fast, pretrained=p).head_lr_scale for p in (True, False)]
    assert scales == [5, 1]
    with pytest.raises(InputError, match="--optimizer lion"):
        TrainingOptions(optimizer="lion")
    with pytest.raises(InputError, match="--momentum is not for --optimizer adam"):
        TrainingOptions.from_recipe(recipe, pretrained=True, optimizer="adam", momentum=0.5)
    TrainingOptions.from_recipe(recipe, pretrained=True, optimizer="adam", momentum=0.9)
