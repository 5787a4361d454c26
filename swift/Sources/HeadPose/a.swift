import MLX
import HeadPoseCore
public let two = one + 1
