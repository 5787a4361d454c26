"""The pyramid network (PyTorch), or EfficientNetV2's ImageNet-21k weights (.npy) → .safetensors.

python convert/pyramid.py snapshot.pkl [--output FILE]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a plain clone

from mlx_headpose.cli import main

main("convert", ["--weight", *sys.argv[1:]])
