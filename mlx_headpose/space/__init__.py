"""Where heads are and what they face: cameras, the ray through a head, its distance, a zero, zones.

Camera axes are OpenCV's: x to the image's right, y down, z away from the camera, in metres. They
are the image axes of docs/conventions.md with z flipped.
"""
