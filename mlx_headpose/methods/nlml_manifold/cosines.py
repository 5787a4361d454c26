"""Each factor of an angle as a cosine of that angle: a·cos(b·w + c) + d, w in radians."""

from __future__ import annotations

import numpy as np

# Frequencies outside this range are no head turning: slower ones are parabolas whose amplitude
# and offset cancel, faster ones wiggle between the angles of the grid.
FREQUENCIES = (0.25, 4.0)


def evaluate_cosines(parameters: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Factors at given angles.

    Args:
        parameters: (columns, 4): a, b, c, d of each factor.
        angles: (...,) radians.

    Returns:
        (..., columns).
    """
    a, b, c, d = np.moveaxis(np.asarray(parameters), -1, 0)
    return a * np.cos(b * np.asarray(angles)[..., None] + c) + d


def fit_cosines(factor: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Least-squares cosines through the columns of a factor matrix.

    For a given frequency b the fit is linear, so a scan over b finds the right valley, and
    scipy's trust region its bottom.

    Args:
        factor: (n, columns), a row per angle.
        angles: (n,) radians.

    Returns:
        (columns, 4): a ≥ 0, b > 0, −π < c ≤ π, d; the signs are fixed so that two runs agree.
    """
    return np.stack([fit_cosine(column, angles) for column in factor.T])


def fit_cosine(column: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """a, b, c, d of one column; see `fit_cosines`."""

    def residual(parameters: np.ndarray) -> np.ndarray:
        return evaluate_cosines(parameters[None], angles)[:, 0] - column

    low, high = FREQUENCIES
    scan = np.exp(sorted(np.linspace(np.log(low), np.log(high), 65), key=abs))
    fits = [fit_at_frequency(column, angles, b) for b in scan]
    errors = np.array([error for error, _ in fits])
    # Where several fit (three angles leave a choice), the one nearest to a plain cosine.
    best = int(np.flatnonzero(errors <= errors.min() + 1e-12 * np.sum(column**2))[0])
    b, (cosine, sine, d) = scan[best], fits[best][1]
    start = np.array([np.hypot(cosine, sine), b, np.arctan2(sine, cosine), d])
    from scipy.optimize import least_squares  # half a second, for fits alone

    fit = least_squares(
        residual,
        start,
        bounds=([0, low, -np.inf, -np.inf], [np.inf, high, np.inf, np.inf]),
        x_scale="jac",
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    a, b, c, d = fit.x
    return np.array([a, b, np.pi - (np.pi - c) % (2 * np.pi), d])


def fit_at_frequency(column: np.ndarray, angles: np.ndarray, b: float) -> tuple[float, np.ndarray]:
    """Squared error and (a·cos c, a·sin c, d) of the best cosine of frequency b."""
    basis = np.stack([np.cos(b * angles), -np.sin(b * angles), np.ones_like(angles)], axis=1)
    solution = np.linalg.lstsq(basis, column, rcond=None)[0]
    return float(np.sum((basis @ solution - column) ** 2)), solution
