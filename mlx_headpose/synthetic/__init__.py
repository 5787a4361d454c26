"""Synthetic heads: people, a renderer in numpy, and the datasets made of them.

There are two sources of people: `builtin/`, a procedural head that needs no file, and `mesh/`, the
people of a head model. `scene` makes an image of either; `light`, `material`, `rasterize`, `photo`
and `effects` say how; `dataset` offers it as a dataset, and `render_set` writes it to disk.
"""

from .dataset import SyntheticHeads, open_dataset

__all__ = ["SyntheticHeads", "open_dataset"]
