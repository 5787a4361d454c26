"""The stored values of `selfcheck`, in float64: mlx_headpose/selfcheck/values.safetensors.

    python -m bench.reference.selfcheck_values

MLX only lists the operations of each network and layer; PyTorch computes them in double precision,
and its automatic differentiation gives the gradients (`graph64`). The step and its clipping are
written out here. So the values share neither arithmetic nor derivatives with what is checked.
Beside each stands what rounding may do to it: how far it moves at most when all parameters change,
several times over, at random by a relative 2⁻²⁰, sixteen roundings of float32. And beside each
network the loss that a training step in bfloat16 should see: that of weights and inputs that are
rounded to bfloat16, computed in float64, and how far it moves when they change at random by a
relative 2⁻⁹, bfloat16's rounding.

--compare computes everything on MLX's CPU back end too and prints the distances.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)

# isort: split
import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_unflatten
from tqdm import tqdm

from bench.reference.graph64 import Graph, in_float64
from mlx_headpose.nn import BatchNorm, GroupNorm, is_statistic
from mlx_headpose.selfcheck.cases import Case, all_cases
from mlx_headpose.selfcheck.compute import CLIP, RATE, compute
from mlx_headpose.selfcheck.values import (
    STORED,
    Short,
    Stored,
    Values,
    distances,
    read_stored,
    write_stored,
)

ROUNDING, BFLOAT16 = 2.0**-20, 2.0**-9
TIMES = 5  # that rounding is tried


class Reference:
    """A case in float64.

    Args:
        case: the network or layer.
    """

    def __init__(self, case: Case):
        self.case = case
        flat = tree_flatten(case.module.parameters())
        self.names = [name for name, _ in flat]
        arrays = [value for _, value in flat]
        self.parameters = [np.array(value, np.float64) for value in arrays]
        self.learns = [name for name, _ in tree_flatten(case.module.trainable_parameters())]
        inputs, targets = mx.array(case.inputs), mx.array(case.targets)
        network = case.network
        if network is not None:
            self.normalized = network.config.inputs.normalize(inputs)
            modules = network.named_modules()
            norms = tuple(f"{n}." for n, m in modules if isinstance(m, BatchNorm | GroupNorm))
            self.narrow = [not name.startswith(norms) for name in self.names]
            self.narrow_training = Graph(self._train, self.normalized, targets, *arrays)
        self.evaluation = Graph(self._evaluate, inputs, *arrays)
        self.training = Graph(self._train, inputs, targets, *arrays)
        case.module.load_weights(list(zip(self.names, arrays, strict=True)))

    def _evaluate(self, inputs: mx.array, *parameters: mx.array) -> list[mx.array]:
        self._set(parameters)
        return list(self.case.outputs(inputs))

    def _train(self, inputs: mx.array, targets: mx.array, *parameters: mx.array) -> list[mx.array]:
        tree = tree_unflatten(list(zip(self.names, parameters, strict=True)))
        loss = self.case.loss(tree, inputs, targets)
        after = tree_flatten(self.case.module.parameters())
        return [loss, *[value for name, value in after if is_statistic(name)]]

    def _set(self, parameters: tuple[mx.array, ...]) -> None:
        self.case.module.update(tree_unflatten(list(zip(self.names, parameters, strict=True))))

    def values(self, rng: np.random.Generator | None = None) -> Values:
        """What the case computes, with parameters changed at random if there is a generator."""
        tensors = []
        for name, value in zip(self.names, self.parameters, strict=True):
            if rng is not None:
                value = value * (1 + ROUNDING * rng.standard_normal(value.shape))
            tensors.append(in_float64(value).requires_grad_(name in self.learns))
        inputs = in_float64(self.case.inputs)
        with torch.no_grad():
            outputs = [output.numpy() for output in self.evaluation(inputs, *tensors)]
        loss, *after = self.training(inputs, in_float64(self.case.targets), *tensors)
        loss.backward()
        # What the loss does not see has no gradient, which MLX makes zeros.
        gradients = {
            name: (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).numpy()
            for name, tensor in zip(self.names, tensors, strict=True)
            if name in self.learns
        }
        values = Values(outputs, loss.item(), gradients)
        if self.case.network is not None:
            length = np.sqrt(sum(np.square(value).sum() for value in gradients.values()))
            rate = RATE * min(1.0, CLIP / length)
            values.moved = {name: -rate * value for name, value in gradients.items()}
            names = [name for name in self.names if is_statistic(name)]
            values.statistics = {
                name: value.detach().numpy() for name, value in zip(names, after, strict=True)
            }
        return values

    def bfloat16_loss(self, rng: np.random.Generator | None = None) -> float:
        """The training loss of weights and inputs in bfloat16; the norms stay in float32.

        Args:
            rng: changes them at random by another rounding.
        """
        values = [np.array(self.normalized, np.float64), *self.parameters]
        rounded = []
        for value, narrow in zip(values, (True, *self.narrow), strict=True):
            tensor = torch.from_numpy(value)
            if narrow:
                tensor = tensor.float().bfloat16().double()
            if narrow and rng is not None:
                tensor = tensor * (1 + BFLOAT16 * torch.from_numpy(rng.uniform(-1, 1, value.shape)))
            rounded.append(tensor)
        inputs, *parameters = rounded
        with torch.no_grad():
            targets = in_float64(self.case.targets)
            return self.narrow_training(inputs, targets, *parameters)[0].item()


def stored(case: Case) -> Stored:
    """A case's values and what rounding does to them."""
    reference = Reference(case)
    values = Short.of(reference.values())
    rounding: dict[str, np.ndarray] = {}
    for seed in range(TIMES):
        changed = Short.of(reference.values(np.random.default_rng(seed)))
        for distance in distances(changed, values, case.finds_angles):
            before = rounding.get(distance.quantity, 0.0)
            rounding[distance.quantity] = np.maximum(before, distance.errors)
    if case.network is None:
        return Stored(values, rounding)
    loss = reference.bfloat16_loss()
    others = [reference.bfloat16_loss(np.random.default_rng(seed)) for seed in range(TIMES)]
    change = max(abs(other / loss - 1) for other in others)
    return Stored(values, rounding, (loss, change))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases to compute again; by default all")
    parser.add_argument("--output", type=Path, default=STORED)
    parser.add_argument("--compare", action="store_true", help="print MLX's distances as well")
    options = parser.parse_args()
    mx.set_default_device(mx.cpu)
    torch.set_num_threads(1)  # several wait for each other on a busy machine
    makers = all_cases()
    known = read_stored(options.output) if options.names else {}
    cases = {name: case for name, case in known.items() if name in makers}
    for name in tqdm(options.names or makers, disable=None):
        case = makers[name]()
        cases[name] = stored(case)
        if options.compare:
            found = Short.of(compute(case))
            for distance in distances(found, cases[name].values, case.finds_angles):
                rounding = np.maximum(cases[name].rounding[distance.quantity], 1e-12)
                error, likely, where = distance.worst(rounding)
                print(
                    f"{name:50}{distance.quantity:12}{error:10.2e}{likely:10.2e}"
                    f"{error / likely:8.1f}  {where or ''}"
                )
        write_stored(options.output, cases)
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
