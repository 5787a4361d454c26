"""Photographable people from a parametric head model: MakeHuman's mesh, targets and assets.

`file` reads the model, `model` deforms it, `identity` and `looks` say who somebody is, `paint` and
`shade` what colour each visible place has, `scene` makes one picture and `people` a set of them.
"""

from .people import MeshPeople

__all__ = ["MeshPeople"]
