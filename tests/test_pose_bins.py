"""Bins: edges, outside, the published expectation and the circular one."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_headpose.pose import Bins, wrap

HOPENET = Bins(66, 3, -99)
WHENET_YAW = Bins(120, 3, -180)
PYRAMID = Bins(10, 20, -100)
ALL = [HOPENET, WHENET_YAW, PYRAMID, Bins(20, 1, 0), Bins(1, 360, -180), Bins(7, 0.1, -0.35)]
LINEAR = [bins for bins in ALL if not bins.circular]

moderate = settings(max_examples=100, deadline=None, derandomize=True)
makers = pytest.mark.parametrize(
    "make", [np.asarray, lambda x: mx.array(np.float32(x))], ids=["numpy", "mlx"]
)


def scores(bins, index):
    """Logits that are sure of bins `index`."""
    return np.where(np.arange(bins.count) == np.asarray(index)[..., None], 0.0, -200.0)


def test_edges_and_centres():
    np.testing.assert_array_equal(PYRAMID.lower_edges, np.arange(-100, 100, 20))
    np.testing.assert_array_equal(PYRAMID.centres, np.arange(-90, 110, 20))


@pytest.mark.parametrize("bins", ALL)
@makers
def test_centre_of_each_bin_lies_in_it(bins, make):
    np.testing.assert_array_equal(bins.encode(make(bins.centres)), np.arange(bins.count))
    assert np.array(bins.contains(make(bins.centres))).all()


@pytest.mark.parametrize("bins", [HOPENET, WHENET_YAW, PYRAMID])
@makers
def test_lower_edge_belongs_to_its_bin(bins, make):
    np.testing.assert_array_equal(bins.encode(make(bins.lower_edges)), np.arange(bins.count))
    below = bins.encode(make(bins.lower_edges[1:] - 1e-4))
    np.testing.assert_array_equal(below, np.arange(bins.count - 1))


@pytest.mark.parametrize("bins", ALL)
@makers
def test_nothing_falls_out_of_the_bins(bins, make):
    angles = make(np.array([-1e4, -181, -180, -100, -99, 99, 100, 179.999, 180, 181, 1e4]))
    index = np.array(bins.encode(angles))
    assert index.dtype in (np.int64, np.int32)
    assert index.min() >= 0
    assert index.max() < bins.count


@makers
def test_outside_is_clipped_and_known(make):
    angles = make(np.array([-99.1, -99, 98.9, 99, 150]))
    np.testing.assert_array_equal(HOPENET.encode(angles), [0, 0, 65, 65, 65])
    np.testing.assert_array_equal(HOPENET.contains(angles), [0, 1, 1, 0, 0])


@makers
def test_what_is_no_number_lies_in_no_bin(make):
    assert not np.array(HOPENET.contains(make(np.array([np.nan, np.inf])))).any()
    assert not np.array(WHENET_YAW.contains(make(np.array([np.nan, np.inf])))).any()


@makers
def test_circle_is_wrapped(make):
    angles = make(np.array([-180, 180, -177.5, 182.5, 179.5, -180.5, 540]))
    np.testing.assert_array_equal(WHENET_YAW.encode(angles), [0, 0, 0, 0, 119, 119, 0])
    assert np.array(WHENET_YAW.contains(angles)).all()


@moderate
@given(st.sampled_from(LINEAR), st.floats(0, 1, exclude_max=True))
def test_same_as_digitize(bins, share):
    angle = bins.offset + share * bins.count * bins.width
    edges = np.append(bins.lower_edges, bins.offset + bins.count * bins.width)
    if np.abs(angle - edges).min() > 1e-9:
        assert bins.encode(angle) == np.digitize(angle, edges) - 1


@moderate
@given(st.sampled_from(ALL), st.floats(-400, 400))
def test_an_angle_lies_between_the_edges_of_its_bin(bins, angle):
    for make, rounding in ((np.float64, 1e-9), (lambda x: mx.array(np.float32(x)), 1e-4)):
        index = int(bins.encode(make(angle)))
        above = angle - bins.lower_edges[index]
        if bins.circular:
            above = wrap(above - bins.width / 2) + bins.width / 2
        elif not bool(bins.contains(make(angle))):
            assert index in (0, bins.count - 1)
            assert above < rounding or above >= bins.width - rounding
            continue
        assert -rounding <= above <= bins.width + rounding


@moderate
@given(st.floats(-1e5, 1e5), st.integers(-3, 3))
@example(180.0, 1)
def test_circle_does_not_know_turns(angle, turns):
    turned = angle + 360 * turns
    if min(angle % 3, 3 - angle % 3) > 1e-6:
        assert WHENET_YAW.encode(angle) == WHENET_YAW.encode(turned)


@pytest.mark.parametrize("bins", ALL)
@makers
def test_sure_scores_decode_to_the_lower_edge(bins, make):
    logits = make(scores(bins, np.arange(bins.count)))
    np.testing.assert_allclose(bins.expectation(logits), bins.lower_edges, atol=1e-4)
    if bins.circular:
        result = np.array(bins.circular_expectation(logits))
        np.testing.assert_allclose(wrap(result - bins.lower_edges), 0, atol=1e-4)


@makers
def test_hopenet_expectation(make):
    logits = np.random.default_rng(0).normal(size=(4, 66)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = (softmax * np.arange(66)).sum(-1) * 3 - 99
    np.testing.assert_allclose(HOPENET.expectation(make(logits)), expected, rtol=1e-4)


@makers
def test_seam(make):
    logits = scores(WHENET_YAW, [0]) * scores(WHENET_YAW, [118]) / -200  # both equally likely
    assert abs(np.array(WHENET_YAW.expectation(make(logits)))[0]) < 4
    assert abs(np.array(WHENET_YAW.circular_expectation(make(logits)))[0]) > 176.9


@moderate
@given(st.integers(0, 119), st.integers(1, 119))
def test_circular_expectation_turns_with_its_scores(peak, turn):
    logits = -np.minimum((np.arange(120) - peak) % 120, (peak - np.arange(120)) % 120) / 2.0
    result = WHENET_YAW.circular_expectation(logits)
    turned = WHENET_YAW.circular_expectation(np.roll(logits, turn))
    assert abs(wrap(result - WHENET_YAW.lower_edges[peak])) < 1e-9
    assert abs(wrap(turned - result - 3 * turn)) < 1e-9


@makers
@pytest.mark.parametrize("bins", LINEAR)
def test_spread_is_the_standard_deviation(bins, make):
    logits = np.random.default_rng(2).normal(size=(2, 3, bins.count)) * 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = (weights * bins.lower_edges).sum(-1, keepdims=True)
    expected = np.sqrt((weights * (bins.lower_edges - mean) ** 2).sum(-1))
    np.testing.assert_allclose(bins.spread(make(logits)), expected, rtol=1e-4)
    assert np.allclose(bins.spread(make(scores(bins, [0]))), 0, atol=1e-3)


def test_circular_expectation_needs_a_circle():
    with pytest.raises(ValueError, match="360"):
        HOPENET.circular_expectation(np.zeros(66))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    logits = mx.array(scores(HOPENET, np.arange(66)) * 300).astype(dtype)  # −60000
    np.testing.assert_allclose(HOPENET.expectation(logits), HOPENET.lower_edges, atol=1e-4)
    large = mx.full((66,), 60000.0).astype(dtype)
    assert abs(HOPENET.expectation(large).item() + 1.5) < 1e-3


@pytest.mark.parametrize("name", ["expectation", "circular_expectation"])
def test_gradient_equals_finite_differences(name):
    decode = getattr(WHENET_YAW, name)
    logits = np.random.default_rng(1).normal(size=120) * 2
    gradient = mx.grad(decode)(mx.array(logits.astype(np.float32)))
    steps = np.eye(120) * 1e-5
    expected = (decode(logits + steps) - decode(logits - steps)) / 2e-5
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("arguments", [(0, 3, 0), (3, 0, 0), (3, -1, 0), (3, float("nan"), 0)])
def test_impossible_bins(arguments):
    with pytest.raises(ValueError, match="bins need"):
        Bins(*arguments)
