"""Tucker decomposition of a tensor whose last mode, the features, is kept whole."""

from __future__ import annotations

import math

import numpy as np

BLOCK = 1 << 24  # numbers that are held in double precision at a time


def multiply(tensor: np.ndarray, matrix: np.ndarray, mode: int) -> np.ndarray:
    """Mode-n product: `matrix` (m, n_mode) takes mode `mode` from n_mode to m."""
    shape = tensor.shape
    stack = tensor.reshape(-1, shape[mode], math.prod(shape[mode + 1 :]))
    product = matrix.astype(tensor.dtype) @ stack
    return product.reshape(*shape[:mode], len(matrix), *shape[mode + 1 :])


def leading_vectors(tensor: np.ndarray, mode: int, rank: int) -> np.ndarray:
    """(n_mode, rank) leading left singular vectors of the mode's unfolding X, largest first.

    They are the eigenvectors of the small matrix X·Xᵀ, summed in float64 block by block, without
    a copy of the tensor.
    """
    shape = tensor.shape
    stack = tensor.reshape(-1, shape[mode], math.prod(shape[mode + 1 :]))
    gram = np.zeros((shape[mode], shape[mode]))
    rows = max(1, BLOCK // stack[0].size)
    columns = max(1, BLOCK // shape[mode])
    for i in range(0, len(stack), rows):
        for j in range(0, stack.shape[2], columns):
            part = stack[i : i + rows, :, j : j + columns].astype(np.float64)
            gram += (part @ part.transpose(0, 2, 1)).sum(axis=0)
    return np.linalg.eigh(gram)[1][:, ::-1][:, :rank]


def tucker(
    tensor: np.ndarray, ranks: tuple[int, ...], tolerance: float = 1e-8, iterations: int = 50
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle, 2000).

    Args:
        tensor: (n_1, ..., n_k, features).
        ranks: ranks of the first k modes.
        tolerance: stop when the kept part of the norm grows by less than this fraction.
        iterations: stop after this many in any case.

    Returns:
        core (r_1, ..., r_k, features) and k factor matrices (n_i, r_i) with orthonormal columns,
        ordered by falling singular value and free of sign ambiguity: see `fix_signs`.
    """
    tensor = np.ascontiguousarray(tensor)
    modes = range(len(ranks))
    ranks = tuple(min(rank, tensor.shape[mode]) for mode, rank in enumerate(ranks))
    factors = [np.empty((0, 0))] * len(ranks)
    # The first guess cuts one mode after the other; the first mode, the longest, comes last.
    projected = tensor
    for mode in (*modes[1:], 0):
        factors[mode] = leading_vectors(projected, mode, ranks[mode])
        projected = multiply(projected, factors[mode].T, mode)
    kept = float(np.linalg.norm(projected))
    for _ in range(iterations):
        for mode in modes:
            projected = tensor
            for other in (m for m in modes if m != mode):
                projected = multiply(projected, factors[other].T, other)
            factors[mode] = leading_vectors(projected, mode, ranks[mode])
        core = multiply(projected, factors[modes[-1]].T, modes[-1])
        now = float(np.linalg.norm(core))
        if now - kept <= tolerance * now:
            break
        kept = now
    return fix_signs(core, factors)


def fix_signs(core: np.ndarray, factors: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Make the signs of a decomposition unique, so that two runs agree.

    A column of a factor may change sign if the core does too. Every column is made positive in its
    last row (for an angle: at the largest angle). Columns are already ordered by singular value.
    """
    fixed = []
    for mode, factor in enumerate(factors):
        signs = np.where(factor[-1] < 0, -1.0, 1.0)
        fixed.append(factor * signs)
        core = multiply(core, np.diag(signs), mode)
    return core, fixed
