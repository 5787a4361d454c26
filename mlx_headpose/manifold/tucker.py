"""Tucker decomposition of a tensor whose last mode, the features, is kept whole."""

from __future__ import annotations

import numpy as np


def unfold(tensor: np.ndarray, mode: int) -> np.ndarray:
    """Mode-n unfolding: (n_mode, all other modes)."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def multiply(tensor: np.ndarray, matrix: np.ndarray, mode: int) -> np.ndarray:
    """Mode-n product: `matrix` (m, n_mode) takes mode `mode` from n_mode to m."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)


def leading_vectors(tensor: np.ndarray, mode: int, rank: int) -> np.ndarray:
    """(n_mode, rank) leading left singular vectors of an unfolding, largest first.

    They are the eigenvectors of the small matrix X·Xᵀ, which a float64 sum over blocks makes
    without a double-precision copy of the tensor.
    """
    matrix = unfold(tensor, mode)
    gram = np.zeros((len(matrix), len(matrix)))
    block = max(1, (1 << 24) // len(matrix))
    for start in range(0, matrix.shape[1], block):
        part = matrix[:, start : start + block].astype(np.float64)
        gram += part @ part.T
    return np.linalg.eigh(gram)[1][:, ::-1][:, :rank]


def tucker(
    tensor: np.ndarray, ranks: tuple[int, ...], tolerance: float = 1e-8, iterations: int = 50
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle, 2000).

    Args:
        tensor: (n_1, ..., n_k, features).
        ranks: of the first k modes.
        tolerance: stop when the kept part of the norm grows by less than this fraction.
        iterations: stop after this many in any case.

    Returns:
        core (r_1, ..., r_k, features) and k factor matrices (n_i, r_i) with orthonormal columns,
        ordered by falling singular value and free of sign ambiguity: see `fix_signs`.
    """
    modes = range(len(ranks))
    ranks = tuple(min(rank, tensor.shape[mode]) for mode, rank in enumerate(ranks))
    factors = [leading_vectors(tensor, mode, ranks[mode]) for mode in modes]
    kept = 0.0
    for _ in range(iterations):
        for mode in modes:
            # Largest reductions first keeps the intermediate tensors small.
            others = sorted(
                (m for m in modes if m != mode), key=lambda m: ranks[m] / len(factors[m])
            )
            projected = tensor
            for other in others:
                projected = multiply(projected, factors[other].T.astype(tensor.dtype), other)
            factors[mode] = leading_vectors(projected, mode, ranks[mode])
        core = multiply(projected, factors[modes[-1]].T.astype(tensor.dtype), modes[-1])
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
        core = multiply(core, np.diag(signs).astype(core.dtype), mode)
    return core, fixed
