"""Head pose estimation on Apple's MLX: yaw, pitch and roll of every head in a picture.

>>> from mlx_headpose import HeadPoseEstimator
>>> estimator = HeadPoseEstimator()
>>> for head in estimator("photo.jpg"):
...     print(head.yaw, head.pitch, head.roll)
"""

from .cpu import blas as _blas
from .cpu import memory as _memory

_memory.keep_freed_memory()
_blas.load_optimised_blas()  # before anything imports mlx.core

from typing import TYPE_CHECKING, Any  # noqa: E402

from ._version import __version__  # noqa: E402
from .errors import InputError  # noqa: E402

if TYPE_CHECKING:
    from .inference.estimator import Head, HeadPoseEstimator

__all__ = ["Head", "HeadPoseEstimator", "InputError", "__version__"]


def __getattr__(name: str) -> Any:
    """Load what needs the networks only when someone asks for it."""
    if name in ("Head", "HeadPoseEstimator"):
        from .inference import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
