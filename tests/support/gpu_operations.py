"""What MLX's GPU back ends lack, and what they do without launching a kernel.

Read off MLX 0.32.4: `mlx/backend/metal/primitives.cpp` and `mlx/backend/metal/distributed.cpp`
(operations whose `eval_gpu` throws), `mlx/backend/cuda/primitives.cpp` (`NO_GPU`), `mlx/ops.cpp`
(float64 is refused on a GPU), and `mlx/backend/gpu/primitives.cpp` (operations that only make a
view of their input).
"""

from __future__ import annotations

VERSION = "0.32.4"
LACKING = {
    "metal": {
        "Cholesky", "Eig", "Eigh", "Inverse", "LUF", "QRF", "SVD", "Load",
        "AllReduce", "AllGather", "ReduceScatter", "Send", "Recv",
    },
    "cuda": {"Cholesky", "Eig", "Eigh", "Inverse", "LUF", "QRF", "SVD", "Load", "Send", "Recv"},
}  # fmt: skip
DTYPES = {"float64"}  # on no GPU
VIEWS = {
    "AsStrided", "Broadcast", "BroadcastAxes", "CustomTransforms", "Depends", "ExpandDims",
    "Flatten", "Reshape", "Slice", "Split", "Squeeze", "StopGradient", "Transpose", "Unflatten",
    "View",
}  # fmt: skip
