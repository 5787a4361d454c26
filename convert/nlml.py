"""NLML_HPE: the folder of its networks, or of its Tucker files → .safetensors.

python convert/nlml.py models/ [--output FILE]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a plain clone

from mlx_headpose.cli import main

main("convert", ["--weight", *sys.argv[1:]])
