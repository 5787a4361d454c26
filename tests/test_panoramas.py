"""Folders of environments and textures, made from what Poly Haven and ambientCG publish."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mlx_headpose import cli
from mlx_headpose.errors import InputError
from mlx_headpose.synthetic.environments import Environments
from mlx_headpose.synthetic.panoramas import encoded, read_panorama, write_environments
from mlx_headpose.synthetic.scenes.textures import TILE, Textures, write_textures


def write_panorama(path: Path, sun: float = 500.0) -> np.ndarray:
    """A blue sky with a sun over a green ground, (256, 512, 3) float32 RGB."""
    radiance = np.zeros((256, 512, 3), np.float32)
    radiance[:128] = 0.3, 0.5, 1.0
    radiance[128:] = 0.05, 0.1, 0.02
    radiance[40:48, 96:104] = sun
    assert cv2.imwrite(str(path), radiance[..., ::-1])
    return radiance


def test_panoramas_become_light_and_backgrounds(tmp_path, capsys):
    radiance = write_panorama(tmp_path / "field.hdr")
    write_panorama(tmp_path / "people.HDR", sun=5)
    folder = tmp_path / "environments"
    words = [str(tmp_path), "--output", str(folder), "--light_only", "people"]
    cli.main("environments", words)
    assert "wrote" in capsys.readouterr().out
    places = Environments(folder)
    assert [name for name, *_ in places.backgrounds] == ["field.jpg"]
    means = radiance.reshape(64, 4, 128, 4, 3).mean((1, 3))
    # The channels of a pixel share an exponent.
    np.testing.assert_allclose(places.radiance[0], means, rtol=0.02, atol=0.001)
    light = places.light(np.random.default_rng(0))
    assert light.direction[1] < -0.7  # the sun stands 58° above the horizon
    _, scale, maximum = places.backgrounds[0]
    pixels = np.asarray(Image.open(folder / "field.jpg").convert("RGB"), np.float64)
    seen = scale * np.expm1(pixels / 255 * np.log1p(maximum / scale))
    assert seen.shape == (512, 1024, 3)
    np.testing.assert_allclose(np.median(seen[:70], (0, 1)), radiance[0, 0], rtol=0.08)
    np.testing.assert_allclose(seen[88, 200], 500, rtol=0.1)
    assert np.asarray(places.view(64, np.random.default_rng(0))).shape == (64, 64, 3)


def test_the_scale_keeps_dark_and_bright_apart():
    radiance = np.geomspace(1e-2, 1e3, 1000).astype(np.float32)
    pixels, scale, maximum = encoded(radiance)
    again = scale * np.expm1(pixels / 255.0 * np.log1p(maximum / scale))
    assert np.median(np.abs(again / radiance - 1)) < 0.02
    pixels, scale, _ = encoded(np.zeros((2, 2, 3), np.float32))
    assert pixels.max() == 0 < scale


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    write_panorama(tmp_path / "field.hdr")
    folder = tmp_path / "environments"
    write_environments([tmp_path / "field.hdr"], folder)
    before = sorted(path.name for path in folder.iterdir())
    (tmp_path / "broken.hdr").write_bytes(b"#?RADIANCE\n")
    with pytest.raises(InputError, match=r"broken\.hdr: no Radiance file"):
        write_environments([tmp_path / "field.hdr", tmp_path / "broken.hdr"], folder)
    with pytest.raises(InputError, match="a second panorama"):
        write_environments([tmp_path / "field.hdr"] * 2, folder)
    with pytest.raises(InputError, match="crowd: no panorama has this name"):
        write_environments([tmp_path / "field.hdr"], folder, ["crowd"])
    assert sorted(path.name for path in folder.iterdir()) == before
    assert len(Environments(folder).backgrounds) == 1


def test_what_is_no_panorama_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="no Radiance file"):
        read_panorama(tmp_path / "missing.hdr")
    Image.new("RGB", (256, 128)).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(tmp_path / "photo.hdr")
    with pytest.raises(InputError, match="no Radiance file"):
        read_panorama(tmp_path / "photo.hdr")
    cv2.imwrite(str(tmp_path / "square.hdr"), np.ones((256, 256, 3), np.float32))
    with pytest.raises(InputError, match="256×256 pixels are no panorama"):
        read_panorama(tmp_path / "square.hdr")
    for command in ("environments", "textures"):
        with pytest.raises(SystemExit) as stopped:
            cli.main(command, [str(tmp_path / "none"), "--output", str(tmp_path / "out")])
        assert stopped.value.code == 2
        assert "download some" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_become_textures(tmp_path, capsys):
    surfaces = tmp_path / "surfaces"
    surfaces.mkdir()
    for number in range(9):
        Image.new("RGB", (256, 300), (20 * number, 0, 0)).save(surfaces / f"Bricks{number:03}.png")
    Image.new("RGB", (200, 128), (0, 200, 0)).save(surfaces / "Grass001_1K-JPG_Color.png")
    Image.new("RGB", (200, 128), (0, 0, 200)).save(surfaces / "Grass001_1K-JPG_NormalGL.png")
    folder = tmp_path / "textures"
    cli.main("textures", [str(surfaces), "--output", str(folder)])
    assert "10 textures of 2 kinds" in capsys.readouterr().out
    textures = Textures(folder)
    assert {kind: len(own) for kind, own in textures.kinds.items()} == {"Bricks": 9, "Grass": 1}
    assert textures.tiles.shape == (10, TILE, TILE, 3)
    reds = textures.tiles[textures.kinds["Bricks"], :, :, 0].mean((1, 2))
    np.testing.assert_allclose(reds, 20 * np.arange(9), atol=2)
    assert textures.tiles[9, 64, 64, 1] == pytest.approx(200, abs=3)


def test_a_texture_has_a_kind_and_can_be_read(tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "12.png")
    with pytest.raises(InputError, match=r"12\.png: the name must begin with a kind"):
        write_textures([tmp_path / "12.png"], tmp_path / "out")
    (tmp_path / "Wood1.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"Wood1\.png"):
        write_textures([tmp_path / "Wood1.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
