"""Stochastic depth."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose.cpu.shards import Shards
from mlx_headpose.nn import drop_branch


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_whole_samples_are_left_out_and_the_others_scaled(dtype):
    mx.random.seed(0)
    got = drop_branch(mx.ones((400, 2, 2, 3), dtype), 0.25)
    assert got.dtype == dtype
    values = np.array(got.astype(mx.float32)).reshape(400, -1)
    assert (values == values[:, :1]).all()
    np.testing.assert_allclose(np.unique(values), [0, 4 / 3], rtol=4e-3)
    assert 0.15 < (values[:, 0] == 0).mean() < 0.35


def test_shards_drop_the_same_samples():
    x = mx.random.normal((7, 2, 2, 3))
    mx.random.seed(1)
    whole = drop_branch(x, 0.5)
    mx.random.seed(1)
    assert mx.array_equal(drop_branch(Shards.split(x, 2), 0.5).join(), whole)
