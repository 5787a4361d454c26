"""Head pose estimation on Apple's MLX: yaw, pitch and roll of every head in a picture.

>>> from mlx_headpose import HeadPoseEstimator
>>> estimator = HeadPoseEstimator.from_pretrained("weights/squeezenet_1_1.safetensors")
>>> for head in estimator("photo.jpg"):
...     print(head.yaw, head.pitch, head.roll)
"""

from . import _blas

_blas.load_optimised_blas()  # before anything imports mlx.core

from ._version import __version__  # noqa: E402
from .errors import InputError  # noqa: E402

__all__ = ["InputError", "__version__"]
