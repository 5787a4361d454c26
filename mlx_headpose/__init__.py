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
    from .inference.draw import draw_heads
    from .inference.estimator import Head, HeadPoseEstimator
    from .inference.pictures import open_picture
    from .inference.video import VideoReader, VideoWriter
    from .inference.video_estimator import VideoEstimator

__all__ = [
    "Head",
    "HeadPoseEstimator",
    "InputError",
    "VideoEstimator",
    "VideoReader",
    "VideoWriter",
    "__version__",
    "draw_heads",
    "open_picture",
]
# What needs the networks is loaded only when someone asks for it.
_MODULES = {
    "Head": "estimator",
    "HeadPoseEstimator": "estimator",
    "VideoEstimator": "video_estimator",
    "VideoReader": "video",
    "VideoWriter": "video",
    "draw_heads": "draw",
    "open_picture": "pictures",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f".inference.{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
