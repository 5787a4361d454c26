"""3×3 convolutions by Winograd's filtering: values, errors and gradients."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose.nn import conv2d, winograd
from mlx_headpose.nn.conv import Conv2d


def direct(x: mx.array, weight: mx.array, padding: int) -> np.ndarray:
    """The convolution in float64."""
    images = np.pad(
        np.array(x, np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0))
    )
    taps = np.array(weight, np.float64)
    height, width = images.shape[1] - 2, images.shape[2] - 2
    return sum(
        images[:, i : i + height, j : j + width] @ taps[:, i, j].T
        for i in range(3)
        for j in range(3)
    )


def example(batch: int, size: tuple[int, int], channels: int, outputs: int):
    mx.random.seed(3)
    x = mx.maximum(mx.random.normal((batch, *size, channels)), 0)
    return x, mx.random.normal((outputs, 3, 3, channels)) / (9 * channels) ** 0.5


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (18, 61), (35, 34)])
def test_values(monkeypatch, size, padding):
    used = []
    monkeypatch.setattr(
        winograd, "correlate", lambda *a, f=winograd.correlate: used.append(1) or f(*a)
    )
    x, weight = example(2, size, 24, 40)
    found, expected = conv2d(x, weight, padding=padding), direct(x, weight, padding)
    assert used
    assert found.shape == expected.shape
    assert np.abs(np.array(found) - expected).max() < 5e-6 * np.abs(expected).max()


def test_the_error_stays_small_with_many_channels():
    x, weight = example(4, (28, 28), 256, 64)
    expected = direct(x, weight, 1)
    found = np.array(winograd.correlate(x, weight, (1, 1), (28, 28)))
    off = np.abs(found - expected)
    assert off.max() < 6e-6 * np.abs(expected).max()
    assert off.mean() < 5e-7 * np.abs(expected).max()


def test_gradients_are_those_of_the_direct_product(monkeypatch):
    x, weight = example(2, (26, 31), 24, 26)
    cotangent = mx.random.normal((2, 26, 31, 26))

    def slopes():
        return mx.grad(lambda *p: (conv2d(*p, padding=1) * cotangent).sum(), (0, 1))(x, weight)

    fast = slopes()
    monkeypatch.setattr(winograd, "pays", lambda *_: False)
    for one, other in zip(fast, slopes(), strict=True):
        assert np.abs(np.array(one - other)).max() < 1e-5 * np.abs(np.array(other)).max()


@pytest.mark.parametrize(
    ("shape", "outputs", "wanted"),
    [
        ((1, 40, 40, 32), 32, True),
        ((8, 14, 14, 256), 256, True),
        ((8, 13, 13, 256), 256, False),  # as many tiles as 16 pixels need
        ((1, 16, 16, 64), 64, False),  # too few pixels to pay for the weights
        ((64, 7, 7, 512), 512, False),  # too small for tiles
        ((1, 224, 224, 3), 64, False),
        ((1, 40, 40, 33), 32, False),  # pairs of floats are copied
    ],
)
def test_where_it_is_used(shape, outputs, wanted):
    x, weight = mx.zeros(shape), mx.zeros((outputs, 3, 3, shape[3]))
    assert winograd.pays(x, weight, shape[1:3]) == wanted
    assert not winograd.pays(x.astype(mx.float16), weight, shape[1:3])


@pytest.mark.parametrize("setting", [{"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_other_geometries_are_left_alone(monkeypatch, setting):
    def refuse(*_):
        raise AssertionError("not for this geometry")

    monkeypatch.setattr(winograd, "correlate", refuse)
    layer = Conv2d(48, 48, 3, padding=1, **setting)
    mx.eval(layer(mx.zeros((1, 40, 40, 48))))


def test_a_broadcast_gradient():
    """The gradient of a sum is one number for all pixels, which lies nowhere in memory."""
    x, weight = example(1, (40, 40), 24, 24)
    slope = mx.grad(lambda v: conv2d(v, weight, padding=1).sum())(x)
    inner = np.array(weight, np.float64).sum((0, 1, 2))
    np.testing.assert_allclose(np.array(slope)[0, 20, 20], inner, atol=1e-4)


def test_whole_numbers_stay_whole_where_they_must():
    mx.random.seed(0)
    x = mx.random.randint(-127, 128, (1, 40, 40, 32)).astype(mx.float32)
    weight = mx.random.randint(-127, 128, (32, 3, 3, 32)).astype(mx.float32)
    expected = direct(x, weight, 1)
    assert np.array_equal(conv2d(x, weight, padding=1, exact=True), expected)
    assert not np.array_equal(conv2d(x, weight, padding=1), expected)
