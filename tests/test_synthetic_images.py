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
        "8311020b076b6e6507092c1f1a27b4b70e41707a201480b237364962721e21a1"
        "5c1b545c8b5d0c6b6c434161817d214c68784b426c494a2a67707e3e355a6f77",
        "070a1c2f3b5d8fa72327342c2632677b66483c31242e25276f403a2c2b3b2a0e"
        "493f3b285346362f4e3d362f40563a3b843e353d28493d2c9b3d46422d3c3d1f",
        "33345fb7b8956885333262a2a2946c8350516d9095977a858c8d7a838e95828a"
        "8d8b7e7f7b7a90808685939b7c90a981828ba0a69685aa8283939e9f9899a484",
        "63625e60665a3d31616189986a53463d58618b7a7b574f50503f779e826f535a"
        "59304d68767f5f5c5551464244444d534f58684e3b3d44444f5974614444443d",
    ),
    "built-in, effects": (
        "28242b2f271f2025252a5d614d1d1d2123293b4aa44f1a1e22202f5c8d55181d"
        "2422294c8776191e2521205168421c2028274e7b611e212429a3bec5b05e2729",
        "bfbea9aaa6a8a9aacbdab88b422c74abcfe6c46e532c34abadd39caa7c4e3697"
        "adcb9bd5a95850a9dee2d4d7835b85baefebddc15d83ccdbe4e9af9b66e9f4f4",
        "0306040f0805040903020204031d190502030a3654a03b040502217497ac2f08"
        "0704334f6d8e200a060b2b5c86a40812080721284255243906124f362c390709",
        "808083949b797d7d7d795a2032818a8a7d9b041a73708d7d7d621d24a5947986"
        "795c1535a59879947973064491808d807d79576f42797d987d7d8a9480768079",
    ),
    "egg": (
        "0000032d2c5a662c000012361a39403a0000667f331a223e00027b77807a783f"
        "000271636a7b6943000046655d5d454800001d43373b484c00358383583d4a4e",
        "7e6c3239575c6768805648425f6b585e7f67605e728359407165576f8e995f26"
        "52554c488b945233564f48417372716174635753536f7a6c8e7a685639566454",
        "a99e9761707d94a2a295372b3b769cb0b4ab4e6d95b496bdc8d878937591929f"
        "aae0ce8a61a1cbe5cab8a89395d4f5fee5b785769be8f3cfdee0b17ca7efd579",
        "746b552d78fdffbc71706a49b3c5feff707077afb699e5ff70708ea9a68beb84"
        "1f1e7e967c500b07555263573a241905746f634b322a1b02756f634d352e2403",
    ),
    "head model": (
        "0d0e12100e0c0d0d0d7df2ea690c1d8725f9fbfad4598c233ffae8eab2540e0e"
        "17e2bfbf9a3b0f0f1db5b4a6921f0e0f8b6cb86e2a0f0c0f1d3d85551c1c150d",
        "2b2837464e50281c021e37462e283b162f374f6c652e3722040b6273736c480b"
        "363f6e776d60211202085d5c606226162c3636325d604d140000000e4f544520",
        "1f2120223b3e3426222221224a4e403f1b1f1f1b8da24033191b1e1db89d3a2d"
        "27174c80bac63521271d5a91a1b0201e26278d7b6b1e051d222b99a3b11e1e23",
        "0b0d4e1826312420052aa686422c171104619f919c21200d189e848386242605"
        "607b8b758c46070565709f65851f02033e8b7a5d370602012bae7e6b88080201",
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
