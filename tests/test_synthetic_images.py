"""Rendered heads stay as they are: averages over an 8 × 8 grid, so that last bits may differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_synthetic_mesh import tiny

from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.effects import Effects

# Name → which head model, plain or full camera, split and seed.
SETS = {
    "built-in": (None, False, "train", 0),
    "built-in, effects": (None, True, "val", 3),
    "egg": ("egg", False, "val", 1),
    "head model": ("real", True, "train", 2),
}
COUNT = 4
# Grey values 0..255 of each head, row by row, in hexadecimal.
PINNED: dict[str, tuple[str, ...]] = {
    "built-in": (
        "8311030c08716e65070c3124192cb4b70e407081251383b23435495d7b1e25a4"
        "591b565c8a680b6d6c3f3d60817f1c4c6878463f6b4b472967707c3a365b6f77",
        "070a1c2f3b5d8fa72327332c2630617b664d402e2a2e23286f43362d323b2c0e"
        "483d35466044342f4b3a31375257363c7a37433c2e4c382c773d5a402b3e3d1f",
        "33345fb7b8956885333263a3a2946c8350516c9196997b858c8d7b848e93818a"
        "8d8a7e7d797c9280868595997791a981828da2a58c81aa82848d9d9e9796a584",
        "63625e60665a3d31616188986b53463d58618a7979594f50513f759d7e6d535a"
        "59314d6a747d5e5c5551454145474d534f58684e3b3d44444f5974614444443d",
    ),
    "built-in, effects": (
        "28252b30261f212525295f604c1c1d2123283a4da54d1a1e22212e608a55181d"
        "242029508a73191d2521204f6a401c202725497a631e2123229dbdc4b15e2828",
        "bfbda9aba6a8a9abcbdab789412c72aacee6c470542d35acadd39bb081523896"
        "adcb9cd6a85751a9dde2d4d47f5a83b9eeebdcc05e81cadae4eab19c65ebf4f4",
        "0305040e0805040903020204032519040203103f60a6370405022a7296a82d07"
        "0605314867871e09060b275c81a1081107071c273e522236060c46332f3c0609",
        "807d83949b797d7d7d795c1f337e8a8a799b061976718d7d79621a2aa2947986"
        "795f1839a59479947973064491808d7d7d79576c42797d947d7d8a9179767d79",
    ),
    "egg": (
        "0000032d2d58662c0000123a1c383f3a000066883b1c223e00027a777d857f3f"
        "0003736368796943000047645c5b454800001d43383b484c00358383583d4a4e",
        "7e6d3139575b6768805849476168585e7f675e6b7485594071655671989c5f26"
        "52554b4d898e5233564f48437170716174635753536f7a6c8e7a685639566454",
        "a99e9862727d94a2a295392b3e799cb0b4ab4f759ab596bdc8d87c946e90929f"
        "aae0d08961a4cbe5cab8a99394d4f5fee5b785769be8f3cfdee0b17ca7efd579",
        "746b552d78fdffbc71706a46b4bcfcff707074acb59cdbff70708aa8a68ceb84"
        "1f1e7494774f0b075552625337251905746f634b322a1b02756f634d352e2403",
    ),
    "head model": (
        "0d0e100f0f0d0e0e0d70ece76b0d1d891ef9fbfac95b8d2331fae9e7a7560f0f"
        "13d6bac3963a0f0f1dabb6ac961e0e0f8c5fba762e0f0d101e37885a1f1d170e",
        "2b2834484e50281c021f3749302534142f365368682b3725040b6273736c4f09"
        "363c6b7a706025150205575f5d6226182c35362f5a6049160000000a4f544824",
        "1b1b1d21373c342420201f2155483f3c1c201d1ea49b3d3118191d28bb963729"
        "26164c8bbac1301f231a638fa0ac1e1a232481766b1c071e1f20949eb5211c20",
        "0b0d4e172730241f072ba887422c171206609e929c22210d189c85867f262605"
        "617a84768c46070665729f65871e02043e89795b430701012ead7c6898120101",
    ),
}


def grey(name: str, models: dict[str, Path]) -> np.ndarray:
    """(COUNT, 8, 8) averages of the heads of a set."""
    model, effects, split, seed = SETS[name]
    camera = {"photo": Effects()} if effects else {}
    mesh = None if model is None else models[model]
    heads = SyntheticHeads(COUNT, split, seed, size=64, mesh=mesh, yaw=(-100, 100), **camera)
    images = np.stack([np.asarray(heads.image(i)) for i in range(COUNT)]).astype(float)
    return images.reshape(COUNT, 8, 8, 8, 8, 3).mean(axis=(2, 4, 5))


@pytest.mark.parametrize("name", SETS)
def test_heads_are_rendered_as_before(name, tmp_path, request):
    models = {"egg": tmp_path / "egg.npz"}
    np.savez(models["egg"], **tiny())
    if SETS[name][0] == "real":
        models["real"] = request.getfixturevalue("shared") / "meshes" / "makehuman_head.npz"
        if not models["real"].is_file():
            pytest.skip("no head model in ../shared/meshes")
    pinned = np.stack([np.frombuffer(bytes.fromhex(text), np.uint8) for text in PINNED[name]])
    np.testing.assert_allclose(grey(name, models).reshape(COUNT, 64), pinned, atol=1)
