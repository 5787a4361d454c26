"""People of a parametric head model: MakeHuman's mesh, targets and assets.

`model` deforms the mesh, `identity` and `looks` say who somebody is, `wear` what they wear that no
asset holds, `paint` what colour each place has, `scene` is one of them in a pose and `people` a
set of them.
"""

from .people import MeshPeople

__all__ = ["MeshPeople"]
