"""Synthetic heads: people, a renderer in numpy, and the datasets made of them.

There are two sources of people: `builtin/`, a procedural head that needs no file, and `mesh/`, the
people of a head model. `scene` makes an image of either; `light`, `material`, `rasterize`, `photo`
and `effects` say how; `dataset` offers it as a dataset, and `render_set` writes it to disk.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import SyntheticHeads

__all__ = ["SyntheticHeads"]


def __getattr__(name: str) -> Any:
    """Load scipy only for those who render."""
    if name == "SyntheticHeads":
        from .dataset import SyntheticHeads

        return SyntheticHeads
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
