"""HopeNet and HopeLessNet (PyTorch), or HopeNet-in-MLX (.npz) → .safetensors.

python convert/hopenet.py hopenet_snapshot_a1.pkl [--output FILE]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a plain clone

from mlx_headpose.cli import main

main("convert", ["--weight", *sys.argv[1:]])
