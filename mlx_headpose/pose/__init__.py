"""What an angle is: conversions, bins and metrics. Arrays in, arrays out; no files, no networks.

Everything but the metrics takes numpy or MLX arrays and answers in kind.
"""

from .bins import Bins
from .metrics import (
    PoseMetrics,
    angle_errors,
    geodesic_errors,
    legacy_angle_errors,
    pose_metrics,
    vector_errors,
)
from .rotations import (
    axis_endpoints,
    biwi_angles_to_pose,
    biwi_matrix_to_pose,
    dad_matrix_to_pose,
    geodesic_degrees,
    geodesic_radians,
    matrix_to_pose,
    matrix_to_quaternion,
    matrix_to_r,
    matrix_to_rotation_6d,
    nearest_rotation,
    pose_para_to_pose,
    pose_to_matrix,
    pose_to_r,
    quaternion_to_matrix,
    r_to_pose,
    rotation_6d_to_matrix,
    wrap,
)

__all__ = [
    "Bins",
    "PoseMetrics",
    "angle_errors",
    "axis_endpoints",
    "biwi_angles_to_pose",
    "biwi_matrix_to_pose",
    "dad_matrix_to_pose",
    "geodesic_degrees",
    "geodesic_errors",
    "geodesic_radians",
    "legacy_angle_errors",
    "matrix_to_pose",
    "matrix_to_quaternion",
    "matrix_to_r",
    "matrix_to_rotation_6d",
    "nearest_rotation",
    "pose_metrics",
    "pose_para_to_pose",
    "pose_to_matrix",
    "pose_to_r",
    "quaternion_to_matrix",
    "r_to_pose",
    "rotation_6d_to_matrix",
    "vector_errors",
    "wrap",
]
