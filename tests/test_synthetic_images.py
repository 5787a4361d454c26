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
        "5b5a5844371d0f0c5b6a77513f2b0e0c598298744d3c100d56778d7d6243120f"
        "535b7c5650381412514e4d38381e16144f4c45392a1d17154f4c4437291e1816",
        "1b1923432c0c15192b1e384148281c1e2e2e487f926e292622305f9b6b632c24"
        "162f628b544819152730585f4c1f111025293522110f141622201b150d0c1419",
        "746b552d78fdffbc71706a46b4bcfcff707074acb59cdbff70708aa8a68ceb84"
        "1f1e7494774f0b075552625337251905746f634b322a1b02756f634d352e2403",
    ),
    "head model": (
        "be6c2344b76252b3bdc6cdcdba3a38bbbfd4d4d4956077bcbba7807f4594bb9d"
        "bd5a26272d85ba95bd9615080c9bbb9baa72260b43acbdbd0c11200f030647b7",
        "d0cfbe9b87a3bee2d79e466b503d6551c1766992984b5725905090a09a937523"
        "ba8b929b8b743734a9b1876c678d5f39a3afa08e8a988236b8884644778d8f57",
        "7e9a95773930392e665c7a705531362338454337906719222a2d2c34956c1315"
        "672e5a718a872e1cd0a2687b7f741e1ba8da9067642f0b0b498b767d7d486977",
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
