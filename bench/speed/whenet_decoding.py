"""WHENet's two decodings of yaw on a ring of synthetic heads that training never saw.

    python -m bench.speed.whenet_decoding --snapshot workdirs_whenet_circle/best.safetensors

The published expectation of the 120 yaw bins averages the two sides of the seam at ±180° to 0°;
the circular one is the direction of the bins' mean. Both read the same network outputs.
"""

from __future__ import annotations

import mlx_headpose  # noqa: F401  (loads the fast BLAS before MLX)
from mlx_headpose.synthetic.dataset import HEAD

import mlx.core as mx  # isort: skip
import numpy as np

from mlx_headpose.cli.options import Parser, positive
from mlx_headpose.evaluation.evaluate import sample_inputs
from mlx_headpose.pose import angle_errors
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.weights import from_pretrained

# By |yaw| in degrees.
BANDS = {"whole ring": (0, 181), "0..60": (0, 60), "60..120": (60, 120), "120..170": (120, 170)}
BANDS |= {"170..180": (170, 181)}


def main() -> None:
    parser = Parser("bench/speed/whenet_decoding.py", "Compare WHENet's two decodings of yaw.")
    parser.add_argument("--snapshot", required=True, help="a trained WHENet (.safetensors)")
    parser.add_argument("--heads", type=positive, default=1440, help="heads on the ring")
    options = parser.parse_args()
    model = from_pretrained(options.snapshot)
    size = model.config.preprocessing.size
    # Another seed than validation's: nobody here has been seen, not even to choose an epoch.
    level = (-10.0, 10.0)
    ring = SyntheticHeads(
        options.heads, "val", 1, size * 5 // 4, pitch=level, roll=level, around=HEAD
    )
    decoded: dict[str, list[np.ndarray]] = {"expectation": [], "circular": []}
    for _, inputs in sample_inputs(model, ring, 32, []):
        outputs = model(mx.array(inputs))
        for decoding, poses in decoded.items():
            model.head.decoding = decoding
            poses.append(np.array(model.decode(outputs)))
    turned = np.abs(ring.poses[:, 0])
    print(f"{'|yaw|':>10} {'heads':>6} " + " ".join(f"{name:>24}" for name in decoded))
    print(f"{'':>17} " + " ".join(f"{'mean':>12}{'over 90°':>12}" for _ in decoded))
    for band, (low, high) in BANDS.items():
        inside = (turned >= low) & (turned < high)
        row = f"{band:>10} {inside.sum():>6} "
        for poses in decoded.values():
            errors = angle_errors(np.concatenate(poses), ring.poses)[inside, 0]
            row += f" {errors.mean():>10.2f}° {100 * (errors > 90).mean():>9.1f} % "
        print(row)


if __name__ == "__main__":
    main()
