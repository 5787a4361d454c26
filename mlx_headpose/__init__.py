"""Head pose estimation on Apple's MLX: yaw, pitch and roll of every head in a picture.

>>> from mlx_headpose import HeadPoseEstimator
>>> estimator = HeadPoseEstimator()
>>> for head in estimator("photo.jpg"):
...     print(head.yaw, head.pitch, head.roll)

On Linux, the import loads an optimised BLAS into the process, and lets its malloc keep up to 1 GiB
of freed memory; MLX on the CPU is slow without. MLX_HEADPOSE_NO_TUNING=1 in the environment leaves
the process as it is.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .cpu import tune as _tune
from .errors import InputError
from .process import keep_standard_descriptors as _keep_standard_descriptors

_keep_standard_descriptors()
_tune()  # before anything imports mlx.core

if TYPE_CHECKING:
    from .inference.estimator import Head, HeadPoseEstimator

__all__ = ["Head", "HeadPoseEstimator", "InputError", "__version__"]


def __getattr__(name: str) -> Any:
    """Load what needs the networks only when someone asks for it."""
    if name in ("Head", "HeadPoseEstimator"):
        from .inference import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
