"""The YuNet face detector (ONNX) → .safetensors.

python convert/yunet.py face_detection_yunet_2023mar.onnx [--output FILE]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a plain clone

from mlx_headpose.cli import main

main("convert", ["--weight", *sys.argv[1:]])
