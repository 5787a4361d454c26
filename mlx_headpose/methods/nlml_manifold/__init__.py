"""NLML-HPE's manifold: landmarks as a product of identity, yaw, pitch and roll.

A package that knows no network: decomposition (`tucker`), cosine fits (`cosines`),
the manifold that they make (`model`), and pose by searching on it (`search`).
"""

from .cosines import evaluate_cosines, fit_cosines
from .model import ANGLES, Manifold, fit_manifold
from .search import search_batch, search_powell
from .tucker import tucker

__all__ = [
    "ANGLES",
    "Manifold",
    "evaluate_cosines",
    "fit_cosines",
    "fit_manifold",
    "search_batch",
    "search_powell",
    "tucker",
]
