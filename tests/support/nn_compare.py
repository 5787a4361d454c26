"""How the tests of `mlx_headpose.nn` compare a layer with a reference and with its own slope."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np

Function = Callable[..., mx.array]


def assert_close(got: mx.array, want: mx.array, tolerance: float, what: str) -> None:
    """Equal shapes, and no difference above the tolerance times the largest absolute value."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    ours = np.array(got.astype(mx.float32))
    theirs = np.array(want.astype(mx.float32))
    assert np.isfinite(ours).all(), f"{what} is not finite"
    worst = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6)
    assert worst <= tolerance, f"{what}: off by {worst:.2e} of the largest value"


def assert_same_function(ours: Function, reference: Function, *args: mx.array, tolerance=1e-5):
    """Same values, and same gradients with respect to every argument."""
    want = reference(*args)
    assert_close(ours(*args), want, tolerance, "value")
    cotangent = mx.random.normal(want.shape)
    _, got_gradients = mx.vjp(ours, list(args), [cotangent])
    _, want_gradients = mx.vjp(reference, list(args), [cotangent])
    for number, (got, want) in enumerate(zip(got_gradients, want_gradients, strict=True)):
        assert_close(got, want, tolerance, f"gradient {number}")


def assert_slopes(function: Function, *args: mx.array, step=1e-2, tolerance=5e-3) -> None:
    """The gradients equal central differences along random directions."""
    cotangent = mx.random.normal(function(*args).shape)
    _, gradients = mx.vjp(function, list(args), [cotangent])
    weights = np.array(cotangent, dtype=np.float64)
    for number, gradient in enumerate(gradients):
        direction = mx.random.normal(args[number].shape)

        def value(sign: float, number=number, direction=direction) -> float:
            moved = list(args)
            moved[number] = moved[number] + sign * step * direction
            return float((np.array(function(*moved), dtype=np.float64) * weights).sum())

        want = (value(1.0) - value(-1.0)) / (2 * step)
        got = float((np.array(gradient, dtype=np.float64) * np.array(direction)).sum())
        size = float(np.linalg.norm(np.array(gradient)) * np.linalg.norm(np.array(direction)))
        assert abs(got - want) <= tolerance * size, f"gradient {number}: {got}, not {want}"
