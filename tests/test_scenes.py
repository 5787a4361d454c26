"""Rendered scenes: sprites, what they are composed of, and the boxes of their heads."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlx_headpose import cli
from mlx_headpose.cli.options import make_config
from mlx_headpose.cli.train import parse
from mlx_headpose.cli.train_start import open_sets
from mlx_headpose.core.scene import HEAD, IGNORE
from mlx_headpose.errors import InputError
from mlx_headpose.files import locked
from mlx_headpose.pose import turned_in_plane
from mlx_headpose.synthetic.environments import Environments
from mlx_headpose.synthetic.scenes import compose, rendering
from mlx_headpose.synthetic.scenes.dataset import SceneSet, _mirrored, open_dataset
from mlx_headpose.synthetic.scenes.people import PeopleSprites
from mlx_headpose.synthetic.scenes.sprites import (
    Sprite,
    Sprites,
    cut_out,
    extremes,
    headless,
    write_shard,
)
from mlx_headpose.synthetic.scenes.textures import Textures

RED = (230, 20, 20)


def egg(side: int = 96) -> Sprite:
    """A red ellipse whose upper part is a head with a face in its middle, on grey shoulders."""
    y, x = np.mgrid[:side, :side] + 0.5
    head = ((x - 48) / 18) ** 2 + ((y - 36) / 26) ** 2 < 1
    body = (y > 58) & (np.abs(x - 48) < 40)
    colours = np.where(head[..., None], RED, (90, 90, 90)).astype(np.uint8)
    rows, columns = np.nonzero(head)
    places = np.stack((columns, rows), 1).astype(np.float32)
    outline = extremes(np.concatenate((places, places + 1)))
    landmarks = np.tile(np.array((48, 40), np.float32), (68, 1))
    landmarks[:2] = (38, 25), (58, 55)
    return Sprite(
        cut_out(colours, head | body, (side, side)),
        outline,
        landmarks,
        np.array((30, 0, 0), np.float32),
    )


def make_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    block = headless(np.full((40, 40, 4), 255, np.uint8))
    for name in ("people", "people-val"):
        (folder / name).mkdir(parents=True)
        write_shard(folder / name / "00000.npz", [egg(), egg(), headless(egg().pixels)])
    for name in ("things", "things-val"):
        (folder / name).mkdir()
        write_shard(folder / name / "00000.npz", [block])
    textures = folder / "textures"
    textures.mkdir()
    sheet = rng.integers(0, 256, (256, 1024, 3), np.uint8)
    Image.fromarray(sheet).save(textures / "Plaster.jpg")
    (textures / "textures.csv").write_text("file,tiles\nPlaster.jpg,14\n")
    places = folder / "environments"
    places.mkdir()
    rows = ["file,scale,maximum,use"]
    for number in range(4):
        Image.fromarray(sheet[:, :512]).save(places / f"p{number}.jpg")
        rows.append(f"p{number}.jpg,0.1,50,background")
    (places / "environments.csv").write_text("\n".join(rows) + "\n")
    radiance = rng.uniform(0, 1, (4, 64, 128, 3)).astype(np.float32)
    radiance[:, 10, 20] = 300
    np.savez(places / "lighting.npz", names=[f"p{n}" for n in range(4)], radiance=radiance)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("scenes"))


def with_hidden(folder: Path, place: Path) -> Path:
    """A copy of a folder of sprites, with a shard that is being written and a Mac's own file."""
    copy = shutil.copytree(folder, place / folder.name)
    shutil.copyfile(copy / "00000.npz", copy / ".mlx-headpose-x.part.npz")
    (copy / "._00000.npz").write_bytes(b"of a Mac")
    return copy


def test_sprites_come_back_from_their_shard_at_every_scale(folder, tmp_path):
    sprites = Sprites(folder / "people")
    assert len(sprites) == 3
    assert np.isnan(sprites.pose[2]).all()
    assert sprites.files == Sprites(with_hidden(folder / "people", tmp_path)).files
    for scale, have in ((1.0, 1.0), (0.5, 0.5), (0.3, 0.5), (0.2, 0.25)):
        colours, alpha, got = sprites.read(0, scale)
        assert got == have
        assert colours.size == alpha.size == (96 * have, 96 * have)
        middle = int(48 * have), int(36 * have)
        assert alpha.getpixel(middle) > 250
        assert np.abs(np.subtract(colours.getpixel(middle), RED)).max() < 12
        assert alpha.getpixel((1, 1)) < 5


def test_after_a_head_detector_no_test_is_suggested(folder, tmp_path):
    """`test.py` measures poses, and would refuse the detector."""
    words = ["--model", "headdetector", "--data_dir", str(folder)]
    args, _ = parse("train.py", [*words, "--output_string", str(tmp_path / "run")])
    sets = open_sets(args, make_config(args, "headdetector"), tmp_path, print)
    assert sets.test is None


def test_edges_have_the_colour_of_what_they_belong_to():
    colours = np.zeros((40, 40, 3), np.uint8)
    colours[:, :21] = RED
    opaque = np.zeros((40, 40), bool)
    opaque[:, :21] = True
    cut = cut_out(colours, opaque, (20, 20))
    assert cut[10, 10, 3] in range(126, 130)  # half covered
    assert np.abs(cut[10, 10, :3].astype(int) - RED).max() < 8  # and not half black


@pytest.mark.parametrize("angle", [0.0, 20.0, -75.0])
@pytest.mark.parametrize("scale", [0.25, 1.0, 2.5])
def test_the_outline_bounds_the_head_wherever_a_sprite_is_placed(folder, angle, scale):
    sprites = Sprites(folder / "people")
    rng = np.random.default_rng(int(angle) % 7)
    middle = sprites.outline[0].mean(0)
    place = np.array((150.0, 160.0))
    placed = compose._place(sprites, 0, scale, angle, place, middle, 320, rng)
    assert placed is not None
    pixels = np.asarray(placed.colours).astype(int)
    red = (pixels[..., 0] - pixels[..., 1] > 60) & (np.asarray(placed.alpha) > 128)
    rows, columns = np.nonzero(red)
    seen = np.array((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), float)
    seen += np.tile((placed.left, placed.top), 2)
    box = np.concatenate((placed.outline.min(0), placed.outline.max(0)))
    assert np.abs(seen - box).max() < 1.5 + 2 * scale
    assert abs(abs(placed.yaw) - 30) < 1e-4
    # The line through two points that lie level on the head is as the pose's roll says.
    flat = np.asarray(turned_in_plane(np.array((placed.yaw, 0, 0)), angle))
    np.testing.assert_allclose(placed.pose, flat, atol=1e-4)


def test_a_hidden_head_is_ignored_and_a_covered_one_is_none(folder):
    sprites = Sprites(folder / "people")
    middle = sprites.outline[0].mean(0)
    place = np.array((100.0, 100.0))
    rng = np.random.default_rng(0)
    placed = compose._place(sprites, 0, 1.0, 0.0, place, middle, 200, rng)
    box = np.concatenate((placed.outline.min(0), placed.outline.max(0)))
    total = 0.8 * (box[2] - box[0]) * (box[3] - box[1])
    for hidden, kind in ((0.0, HEAD), (0.75, IGNORE), (1.0, 0.0)):
        picture, owner = Image.new("RGB", (200, 200)), np.zeros((200, 200), np.int16)
        compose._paste(picture, owner, 1, placed)
        owner[: int(box[1] + hidden * (box[3] - box[1]) + 1)] = -1
        row = compose._target(placed, box, total, owner, 1)
        assert row[10] == kind
        if kind:
            np.testing.assert_allclose(row[:4], box, atol=1e-3)
            assert (row[4:8] >= box[[0, 1, 0, 1]]).all()


def test_things_are_worn_and_held_before_the_chest(folder, monkeypatch):
    monkeypatch.setattr(compose, "WORN", 1.0)
    monkeypatch.setattr(compose, "PRINTED", 0.0)
    scenes = SceneSet(folder, 1, "train", 0, 256)
    people = scenes.composer
    pasted = []
    monkeypatch.setattr(people, "_thing", lambda *a: pasted.append(a[2:4]))
    for seed in range(40):
        picture, owner = Image.new("RGB", (256, 256)), np.zeros((256, 256), np.int16)
        place = np.array((128.0, 100.0))
        rng = np.random.default_rng(seed)
        assert people._person(picture, owner, 1, 40.0, place, rng) is not None
    heights, places = zip(*pasted, strict=True)
    assert len(heights) == 40
    assert 0.15 * 40 <= min(heights) < max(heights) <= 0.9 * 40
    far = np.linalg.norm(np.array(places) - (128, 100), axis=1)
    assert far.min() > 0.8 * 40
    assert far.max() < 2.9 * 40


def test_scenes_are_the_same_for_everyone_and_differ_by_number(folder):
    first, again = (SceneSet(folder, 20, "train", 3, 96) for _ in range(2))
    images, targets = zip(*[first.scene(i) for i in range(20)], strict=True)
    for index in (7, 3):
        image, rows = again.scene(index)
        assert np.array_equal(image, images[index])
        assert np.array_equal(rows, targets[index])
    assert len({image.tobytes() for image in images}) == 20
    rows = np.concatenate(targets)
    heads = rows[rows[:, 10] == HEAD]
    assert len(heads) > 5
    assert (heads[:, :4] >= 0).all()
    assert (heads[:, :4] <= 96).all()
    assert (heads[:, 2:4] > heads[:, :2]).all()
    np.testing.assert_allclose(np.abs(heads[:, 9]), 0.5, atol=1e-5)  # yaw ±30°
    assert not np.array_equal(SceneSet(folder, 1, "train", 4, 96).scene(0)[0], images[0])


def test_a_mirrored_scene_has_mirrored_targets(folder):
    scenes = SceneSet(folder, 20, "train", 0, 96)
    image, targets = next(s for s in map(scenes.scene, range(20)) if (s[1][:, 10] == HEAD).any())
    turned, rows = _mirrored(image, targets)
    assert np.array_equal(turned, image[:, ::-1])
    there = targets[:, 10] != 0
    assert (rows[~there] == 0).all()
    np.testing.assert_allclose(rows[there, 0], 96 - targets[there, 2], atol=1e-4)
    np.testing.assert_allclose(rows[there, 6], 96 - targets[there, 4], atol=1e-4)
    assert np.array_equal(rows[:, [1, 3, 5, 7, 8, 10]], targets[:, [1, 3, 5, 7, 8, 10]])
    assert np.array_equal(_mirrored(turned, rows)[0], image)


def test_validation_shows_other_places_and_textures(folder):
    training, validation = (SceneSet(folder, 2, split, 0, 64) for split in ("train", "val"))
    tiles = [
        {tile.tobytes() for tile in scenes.composer.backgrounds.textures.tiles}
        for scenes in (training, validation)
    ]
    assert not tiles[0] & tiles[1]
    assert len(tiles[0]) + len(tiles[1]) == 14
    names = [
        {name for name, *_ in scenes.composer.backgrounds.environments.backgrounds}
        for scenes in (training, validation)
    ]
    assert not names[0] & names[1]
    assert sorted(map(len, names)) == [1, 3]


def test_light_comes_from_where_a_place_is_bright(folder):
    light = Environments(folder / "environments").light(np.random.default_rng(0))
    elevation = np.pi * (0.5 - 10.5 / 64)
    assert light.direction[1] == pytest.approx(-np.sin(elevation), abs=0.02)
    assert np.linalg.norm(light.direction) == pytest.approx(1, abs=1e-3)


def test_missing_folders_end_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="holds no sprites"):
        Sprites(tmp_path)
    with pytest.raises(InputError, match="no folder of textures"):
        Textures(tmp_path)
    with pytest.raises(InputError, match="no folder of environments"):
        Environments(tmp_path)
    (tmp_path / "environments.csv").write_text("file,use,scale,maximum\na.jpg,lighting,1,1\n")
    for damaged in (b"", b"PK\3\4 and no more"):
        (tmp_path / "lighting.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"lighting\.npz: (not an|damaged) \.npz file"):
            Environments(tmp_path)
    with pytest.raises(InputError, match="--data_dir"):
        open_dataset()
    (tmp_path / "00000.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="render it again"):
        Sprites(tmp_path)


def own_folder(folder: Path, name: str, place: Path) -> Path:
    """A copy of a part of the folder, to be changed."""
    return shutil.copytree(folder / name, place / name)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("../secret.png,1", "'../secret.png' is no picture inside the folder"),
        ("/secret.png,1", "'/secret.png' is no picture inside the folder"),
        ("Plaster.jpg", "no folder of textures"),
        ("Plaster.jpg,17", "Plaster.jpg has no 17 tiles"),
        ("drawing.jpg,1", "drawing.jpg: no picture that can be read"),
        ("large.png,1", "large.png: over 108 megapixels"),
        ("Plaster.jpg,0", "holds 0 textures; give at least 6"),
    ],
)
def test_a_folder_of_textures_is_not_trusted(folder, tmp_path, rows, sentence):
    textures = own_folder(folder, "textures", tmp_path)
    Image.new("RGB", (1024, 128)).save(tmp_path / "secret.png")
    Image.new("RGB", (1024, 128)).save(textures / "drawing.jpg", "EPS")
    png = bytearray((tmp_path / "secret.png").read_bytes())
    png[16:24] = struct.pack(">II", 30_000, 30_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (textures / "large.png").write_bytes(png)
    (textures / "textures.csv").write_text(f"file,tiles\n{rows}\n")
    with pytest.raises(InputError, match=re.escape(sentence)):
        Textures(textures, (0,), 6)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("../p0.jpg,1,1,background", "'../p0.jpg' is no picture inside the folder"),
        ("p0.jpg,0,1,background", "'p0.jpg' has an impossible scale or maximum"),
        ("p0.jpg,1,nan,background", "'p0.jpg' has an impossible scale or maximum"),
        ("p0.jpg,,,background", "no folder of environments"),
        ("p9.jpg,1,1,lighting", "lighting.npz lacks 'p9'"),
        ("", "lists no panorama"),
        ("p0.jpg,1,1,background", "give at least 2 background panoramas"),
        ("p0.jpg,1,1,lighting", "give at least 2 background panoramas"),
    ],
)
def test_a_folder_of_environments_is_not_trusted(folder, tmp_path, rows, sentence):
    places = own_folder(folder, "environments", tmp_path)
    (places / "environments.csv").write_text(f"file,scale,maximum,use\n{rows}\n")
    with pytest.raises(InputError, match=re.escape(sentence)):
        Environments.of_split(places, "train")


def test_panoramas_are_read_like_other_pictures(folder, tmp_path):
    places = own_folder(folder, "environments", tmp_path)
    Image.new("RGB", (64, 32)).save(places / "p0.jpg", "EPS")
    with pytest.raises(InputError, match=r"p0\.jpg: no picture that can be read"):
        Environments(places, ["p0.jpg"]).view(32, np.random.default_rng(0))
    (places / "environments.csv").write_text("file,scale,maximum,use\np0.jpg,1,1,lighting\n")
    with pytest.raises(InputError, match="are for lighting; add backgrounds"):
        Environments(places).view(32, np.random.default_rng(0))
    np.savez(places / "lighting.npz", names=["p0"], radiance=np.ones((1, 64, 128)))
    with pytest.raises(InputError, match=r"lighting\.npz: holds no light of panoramas"):
        Environments(places)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--kind people --count 1", "--kind people needs --count and --mesh"),
        ("--kind things --textures x", "--kind things needs --count and --textures"),
        ("--kind things --count 1 --textures x --poses wide", "--poses: not for --kind things"),
        ("--count 1 --textures x", "--textures: for --kind things"),
        ("--count 1 --scenes x", "--scenes: for --kind crops"),
        ("--count 1 --environments x", "--environments and --poses natural or wide need --mesh"),
        ("--kind crops --count 1 --scenes x", "--kind crops needs --out, --part, --count and"),
        ("--kind crops --count 1 --part a --scenes x --yaw 0 1", "--yaw: not for --kind crops"),
        ("--kind people --count 1 --mesh missing.npz", "missing.npz: cannot be read"),
        ("--kind people --count 1 --mesh FOLDER/people/00000.npz", "00000.npz: "),
        ("--kind things --count 1 --textures x", "x: no folder of textures"),
        ("--kind things --count 1 --textures FOLDER/textures --environments x", "x: no folder of"),
    ],
)
def test_the_options_of_sprites(folder, tmp_path, capsys, words, sentence):
    words = words.replace("FOLDER", str(folder)).split()
    with pytest.raises(SystemExit) as stop:
        cli.main("render", [*words, "--out", str(tmp_path / "x")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_things_are_rendered_in_shards_and_added_to(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rendering, "PER_SHARD", 2)
    words = ["--kind", "things", "--textures", str(folder / "textures"), "--workers", "1"]
    for count, new in ((1, 1), (3, 3), (4, 2), (4, 0)):
        cli.main("render", [*words, "--count", str(count), "--out", str(tmp_path)])
        assert f"{count} sprites in {tmp_path}, {new} of them new" in capsys.readouterr().out
    assert len(Sprites(tmp_path)) == 4
    (tmp_path / "00001.npz").write_bytes(b"PK and no more")  # is rendered again
    cli.main("render", [*words, "--count", "4", "--out", str(tmp_path)])
    assert "2 of them new" in capsys.readouterr().out
    assert len(Sprites(tmp_path)) == 4
    with pytest.raises(SystemExit):
        cli.main("render", [*words, "--seed", "1", "--count", "4", "--out", str(tmp_path)])
    assert "holds sprites of other settings (seed); give another --out" in capsys.readouterr().err


def test_sprites_of_other_textures_or_places_are_not_mixed(folder, tmp_path, capsys):
    textures, places = (own_folder(folder, n, tmp_path) for n in ("textures", "environments"))
    out = tmp_path / "things"
    words = ["--kind", "things", "--textures", str(textures), "--out", str(out), "--workers", "1"]
    lit = [*words, "--environments", str(places)]

    def refused(words: list[str], names: str) -> None:
        with pytest.raises(SystemExit):
            cli.main("render", [*words, "--count", "2"])
        sentence = f"{out}: holds sprites of other settings ({names}); give another --out"
        assert sentence in capsys.readouterr().err

    cli.main("render", [*lit, "--count", "1"])
    refused(words, "environments")
    shutil.move(tmp_path / "environments", tmp_path / "moved")  # their content counts
    lit[-1] = str(tmp_path / "moved")
    cli.main("render", [*lit, "--count", "2"])
    np.savez(
        tmp_path / "moved" / "lighting.npz",
        names=[f"p{n}" for n in range(4)],
        radiance=np.ones((4, 64, 128, 3), np.float32),
    )
    Image.new("RGB", (1024, 256)).save(textures / "Plaster.jpg")
    refused(lit, "environments, textures")
    noted = json.loads((out / "sprites.json").read_text())
    for name in ("environments", "textures"):
        del noted[name]
    (out / "sprites.json").write_text(json.dumps(noted))  # as they were noted before
    cli.main("render", [*lit, "--count", "2"])


def test_sprites_are_rendered_by_one_command_at_a_time(tmp_path):
    tmp_path.joinpath(".mlx-headpose-x.part.npz").write_bytes(b"half of a shard")
    with locked(tmp_path, "rendering", ""):
        tmp_path.joinpath(".mlx-headpose-y.part.npz").write_bytes(b"of the other command")
        with pytest.raises(InputError, match="another rendering is writing there; wait for it"):
            rendering.render_sprites(DiesElsewhere, (os.getpid(),), 1, tmp_path, {}, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        ".mlx-headpose-y.part.npz",
    ]


class DiesElsewhere(rendering.SpriteSource):
    """Ends every process but one."""

    def __init__(self, parent: int):
        super().__init__(None, (0,))
        if os.getpid() != parent:
            os._exit(1)

    def draw(self, number: int) -> Sprite:
        raise NotImplementedError


def test_a_rendering_process_that_dies_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="a rendering process died"):
        rendering.render_sprites(DiesElsewhere, (os.getpid(),), 1, tmp_path, {}, workers=1)


def test_people_are_rendered_with_their_heads_boxes(shared):
    people = PeopleSprites(shared / "meshes" / "makehuman_head.npz", None, (0, 1), 8)
    for number in range(3):
        sprite = people.draw(number)
        side = sprite.pixels.shape[0]
        low, high = sprite.outline.min(0), sprite.outline.max(0)
        size = high - low
        assert (size > 0.15 * side).all()
        assert (size < 0.75 * side).all()
        middle = sprite.pixels[int((low[1] + high[1]) / 2), int((low[0] + high[0]) / 2)]
        assert middle[3] > 200
        # The face lies in the head's box, up to the chin that hair may hide from behind.
        face = np.concatenate((sprite.landmarks.min(0), sprite.landmarks.max(0)))
        assert (face[:2] > low - 0.1 * size).all()
        assert (face[2:] < high + 0.2 * size).all()
        assert abs(sprite.pose[0]) <= 180
    again = people.draw(1)
    assert np.array_equal(again.pixels, people.draw(1).pixels)
