"""Built-in synthetic heads: a procedural head, its looks, and a renderer in numpy.

`shape` says what a head's surface is, `person` who somebody is, `parts` what hair, ears, shoulders
and glasses add, `paint` what colour each place has, `scene` how one picture is made, `geometry`
and `landmarks` where everything lies, and `dataset` offers it all as a dataset.
"""

from .dataset import SyntheticHeads, open_dataset

__all__ = ["SyntheticHeads", "open_dataset"]
