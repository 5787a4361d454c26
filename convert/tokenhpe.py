"""TokenHPE (PyTorch), or a ViT-B/16 backbone → .safetensors.

python convert/tokenhpe.py TokenHPEv1-ViTB-224_224-lyr3.tar [--output FILE]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a plain clone

from mlx_headpose.cli import main

main("convert", ["--weight", *sys.argv[1:]])
