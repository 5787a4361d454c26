"""How far rendered heads are from photographed ones, in numbers and side by side.

`python -m bench.accuracy.rendered_against_photos --photos FOLDER [--mesh FILE] [--sheet sheet.png]`
cuts heads out of AFLW2000 and out of rendered images by the same rule, at 64 px, and prints for
each statistic of a crop its median on both sides and the Kolmogorov-Smirnov distance between them,
with the camera effects and with the plain camera: 0 where the two are spread alike, 1 where they
never overlap.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import ks_2samp

from mlx_headpose.core.crop import AROUND_LANDMARKS, CLOSE, BoxMargins
from mlx_headpose.data import open_dataset
from mlx_headpose.data.base import Dataset
from mlx_headpose.files import atomic_path
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.effects import Effects
from mlx_headpose.synthetic.photo import PLAIN, Photo

SIZE = 64
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def crops(dataset: Dataset, indices: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size, 3) uint8."""
    return np.stack([dataset.cut(int(i), dataset.crop_box(int(i)), size) for i in indices])


def statistics(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 64, 64, 3) crops → name → (N,) values."""
    x = pictures.astype(np.float32)
    grey = x @ LUMA
    face = slice(SIZE * 5 // 16, SIZE * 11 // 16)
    inner = grey[:, 1:-1, 1:-1] * 4
    edges = inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    high, low = x.max(-1), x.min(-1)
    colour = x[:, face, face].mean((1, 2))
    border = np.concatenate((grey[:, :, :4], grey[:, :, -4:]), 2)
    return {
        "brightness": grey.mean((1, 2)),
        "brightness of the face": grey[:, face, face].mean((1, 2)),
        "brightness at the sides": border.mean((1, 2)),
        "contrast": grey.std((1, 2)),
        "contrast in the face": grey[:, face, face].std((1, 2)),
        "darkest 2 %": np.percentile(grey, 2, (1, 2)),
        "brightest 2 %": np.percentile(grey, 98, (1, 2)),
        "saturation": ((high - low) / np.maximum(high, 8)).mean((1, 2)),
        "red less green in the face": colour[:, 0] - colour[:, 1],
        "green less blue in the face": colour[:, 1] - colour[:, 2],
        "sharpness (log variance of the Laplacian)": np.log10(edges.var((1, 2)) + 1),
        "noise (least 20 % of the Laplacian)": np.percentile(np.abs(edges), 20, (1, 2)),
    }


def sheet(photos: np.ndarray, rendered: np.ndarray) -> Image.Image:
    """64 photos to the left and 64 rendered heads to the right."""
    side = photos.shape[1]
    picture = Image.new("RGB", (16 * side + 16, 8 * side), "white")
    for number in range(64):
        row, column = divmod(number, 8)
        for pictures, left in ((photos, 0), (rendered, 8 * side + 16)):
            at = left + column * side, row * side
            picture.paste(Image.fromarray(pictures[number % len(pictures)]), at)
    return picture


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of AFLW2000")
    parser.add_argument("--mesh", type=Path, help="head model (default: the built-in heads)")
    parser.add_argument("--count", type=int, default=500, help="heads on each side")
    parser.add_argument("--sheet", type=Path, help="image to write")
    args = parser.parse_args()
    real = open_dataset("AFLW2000", args.photos, crop=AROUND_LANDMARKS)
    chosen = np.linspace(0, len(real) - 1, args.count).astype(int)
    numbers = np.arange(args.count)

    def rendered(photo: Photo) -> SyntheticHeads:
        limits = (-99, 99), (-50, 50), (-50, 50)
        natural = args.mesh is not None
        return SyntheticHeads(
            args.count, "val", 3, 160, *limits, BoxMargins("landmarks", CLOSE), photo=photo,
            mesh=args.mesh, natural=natural,
        )  # fmt: skip

    photos = statistics(crops(real, chosen, SIZE))
    varied = statistics(crops(rendered(Effects()), numbers, SIZE))
    plain = statistics(crops(rendered(PLAIN), numbers, SIZE))
    print(f"{'':44} median: photos   effects    plain   distance: effects  plain")
    for name, values in photos.items():
        sides = values, varied[name], plain[name]
        medians = "".join(f"{np.median(side):9.2f}" for side in sides)
        distances = [ks_2samp(values, side).statistic for side in sides[1:]]
        print(f"{name:44}        {medians}            {distances[0]:7.2f}{distances[1]:7.2f}")
    if args.sheet:
        with atomic_path(args.sheet) as temporary:
            few = slice(None, None, max(len(chosen) // 64, 1))
            both = crops(real, chosen[few], 112), crops(rendered(Effects()), numbers[:64], 112)
            sheet(*both).save(temporary)


if __name__ == "__main__":
    main()
