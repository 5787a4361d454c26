"""The camera around synthetic heads, rendering them to disk, and training from that."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from mlx_headpose.cli import main as command
from mlx_headpose.core.crop import AROUND_HEAD, AROUND_LANDMARKS, AROUND_POINTS
from mlx_headpose.data import open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.files import locked
from mlx_headpose.pose import geodesic_degrees, pose_to_matrix
from mlx_headpose.space.perspective import as_placed, as_seen
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic import render_set as render_module
from mlx_headpose.synthetic.dataset import HEAD
from mlx_headpose.synthetic.effects import GROUPS, Effects
from mlx_headpose.synthetic.occlusion import hand
from mlx_headpose.synthetic.people import on_axis
from mlx_headpose.synthetic.processes import interrupts_noted
from mlx_headpose.synthetic.render_set import Settings
from mlx_headpose.synthetic.rendered import COLUMNS, read_list

SKIN = np.array([0.5, 0.3, 0.2], np.float32)


def taken(effects: Effects, seed: int, side: int = 48) -> np.ndarray:
    """A picture of nothing but surroundings and camera."""
    rng = np.random.default_rng(seed)
    picture = effects.background(side * 7 // 5, rng)
    effects.occlude(picture, SKIN, rng)
    return np.asarray(effects.develop(picture, side, rng))


def test_effects_are_the_same_for_a_seed_and_differ_between_seeds():
    pictures = [taken(Effects(), seed) for seed in range(30)]
    for seed, picture in enumerate(pictures):
        assert picture.shape == (48, 48, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, taken(Effects(), seed))
    assert len({picture.tobytes() for picture in pictures}) == 30


@pytest.mark.parametrize("group", GROUPS)
def test_leaving_out_one_group_changes_its_pictures_alone(group):
    """Each group has random numbers of its own: where it does nothing, nothing changes."""
    rest = [name for name in GROUPS if name not in (group, "background")]
    alone, without = Effects(rest), Effects([*rest, group])
    changed = 0
    for seed in range(60):
        a, b = taken(alone, seed), taken(without, seed)
        changed += not np.array_equal(a, b)
        if group == "background":
            assert (b == 128).all(), "without any group: one grey"
        elif group in ("resolution", "noise") and np.array_equal(a, b):
            np.testing.assert_array_equal(taken(Effects(), seed), taken(Effects([group]), seed))
    assert 5 <= changed <= 60
    if group in ("occlusion", "blur", "resolution", "noise", "compression"):
        assert changed < 60, "some pictures are spared"


def test_images_have_the_effects_that_options_name():
    plain, varied, colourless = (
        open_dataset("synthetic", samples=20, input_size=32, camera_without=groups)
        for groups in (None, "none", "colour,noise,compression,background,occlusion")
    )
    heads = SyntheticHeads(20, "val", size=40, yaw=(-75, 75))
    np.testing.assert_array_equal(plain.image(3), heads.image(3))
    different = sum(not np.array_equal(plain.image(i), varied.image(i)) for i in range(20))
    assert different > 15
    np.testing.assert_array_equal(plain.poses, varied.poses)
    np.testing.assert_array_equal(plain.boxes, colourless.boxes)
    with pytest.raises(InputError, match="no camera effect 'sound'; choose of: background"):
        open_dataset("synthetic", camera_without="blur,sound")


def test_a_hand_before_the_head_has_the_colour_of_the_skin():
    for seed in range(10):
        picture = Image.new("RGB", (96, 96), (0, 0, 255))
        hand(picture, np.array((200.0, 140.0, 110.0)), np.random.default_rng(seed))
        pixels = np.asarray(picture).astype(float)
        drawn = pixels[(pixels != (0, 0, 255)).any(axis=-1) & (pixels[..., 2] < 120)]
        assert 30 < len(drawn) < 0.8 * 96 * 96
        assert (drawn[:, 0] >= drawn[:, 2]).mean() > 0.9


SIZE = 40
RENDER = f"--size {SIZE} --seed 7 --camera_without none --yaw -120 120"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def render(words: str, folder: Path) -> None:
    command("render", [*shlex.split(f"{RENDER} {words} --out"), str(folder)])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 20 validation heads on disk."""
    folder = tmp_path_factory.mktemp("rendered")
    render("--count 60", folder)
    render("--count 20 --split val --workers 1", folder)
    return folder


def test_the_files_are_the_same_whatever_the_workers_and_pauses(rendered, tmp_path, capsys):
    render("--count 13 --workers 1", tmp_path)
    half = files(tmp_path)
    render("--count 60 --workers 3", tmp_path)
    assert files(tmp_path / "train") == files(rendered / "train")
    assert all(files(tmp_path)[name] == held for name, held in half.items() if ".jpg" in name)
    said = capsys.readouterr().out
    assert "13 heads" in said
    assert "60 heads" in said
    assert "47 of them new" in said
    (tmp_path / "train" / "000" / "000005.jpg").unlink()
    (tmp_path / "train" / "000" / ".000009-x.jpg").write_bytes(b"half of a picture")
    render("--count 60", tmp_path)
    assert files(tmp_path / "train") == files(rendered / "train")


def start(folder: Path, count: int) -> subprocess.Popen:
    """The command as a user starts it, once it has rendered a few heads."""
    words = shlex.split(f"{RENDER} --count {count} --workers 2 --out")
    # Progress bars and matrix libraries have threads, to which the system may give a Ctrl-C.
    code = (
        "import sys, threading, time; "
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "
        "from mlx_headpose.cli import main; main('render', sys.argv[1:])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words, str(folder)],
        cwd=Path(__file__).resolve().parent.parent,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list(folder.rglob("0*.jpg"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.poll() is None, "it goes on"
    return run


def test_killing_the_command_leaves_whole_pictures_and_it_goes_on(rendered, tmp_path):
    run = start(tmp_path, 3000)
    run.kill()
    run.communicate()
    time.sleep(0.3)  # its processes see that it is gone
    whole = {name: held for name, held in files(tmp_path).items() if "/000/0" in name}
    time.sleep(0.3)
    assert whole == {name: held for name, held in files(tmp_path).items() if "/000/0" in name}
    assert not (tmp_path / "train" / "heads.csv").exists()
    same = files(rendered)
    for name, held in whole.items():
        Image.open(tmp_path / name).load()
        assert held == same.get(name, held)
    render("--count 60", tmp_path)
    assert len(read_list(tmp_path / "train" / "heads.csv")[0]) == 60


def test_a_picture_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(picture: Image.Image, file: Path, *_: object, **__: object) -> None:
        Path(file).write_bytes(b"half of a picture")
        raise KeyboardInterrupt

    worker = Settings(size=32).heads(2), tmp_path, np.zeros((2, 68, 3), np.float32)
    monkeypatch.setattr(render_module, "_worker", worker, raising=False)
    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(KeyboardInterrupt):
        render_module._render(1)
    assert not files(tmp_path)


def test_an_interrupt_saves_and_lists_what_is_there(tmp_path):
    run = start(tmp_path, 3000)
    children = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, check=True)
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGINT)
    time.sleep(0.3)
    assert run.poll() is None, "the workers leave it to the command"
    os.killpg(run.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the workers too
    for _ in range(4):  # somebody is impatient
        time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
    error = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert error.splitlines()[-1].startswith("Stopped; what was rendered is listed.")
    assert "Traceback" not in error
    names, _ = read_list(tmp_path / "train" / "heads.csv")
    assert sorted(names) == sorted(
        p.relative_to(tmp_path / "train").as_posix() for p in tmp_path.rglob("*.jpg")
    )


def test_an_interrupt_does_not_strike_amid_the_pool_s_own_code():
    struck = []
    before = signal.signal(signal.SIGINT, lambda *_: struck.append("outside"))
    try:
        with interrupts_noted() as noted:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert len(noted) == 2
        assert struck == []
        signal.raise_signal(signal.SIGINT)
        assert struck == ["outside"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_folder_holds_heads_of_one_kind(rendered, tmp_path, capsys):
    for words, folder, sentence in (
        ("--count 5 --seed 8", rendered, "heads of other settings (seed); give another"),
        ("--count 5 --size 50 --pitch 0 9", rendered, "of other settings (size, pitch);"),
        ("--count 5", Path(__file__).parent.parent, None),
        ("--count 5 --camera_without fog", tmp_path, "no camera effect 'fog'; choose of: backgr"),
    ):
        (tmp_path / "train").mkdir(exist_ok=True)
        (tmp_path / "train" / "letter.txt").write_text("Dear aunt")
        with pytest.raises(SystemExit) as stop:
            render(words, tmp_path if sentence is None else folder)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert (sentence or "is not empty and no rendered set; give another --out") in error
        assert error.count("\n") == 1
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["letter.txt"]


def test_two_commands_never_render_into_one_folder(tmp_path, capsys):
    render("--count 2 --workers 1", tmp_path)
    landmarks = (tmp_path / "train" / "landmarks.npy").read_bytes()
    with locked(tmp_path / "train", "rendering", ""), pytest.raises(SystemExit) as stop:
        render("--count 3 --workers 1", tmp_path)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    sentence = "another rendering is writing there; wait for it, or give another --out\n"
    assert error.splitlines(True)[-1] == f"error: {tmp_path / 'train'}: {sentence}"
    assert (tmp_path / "train" / "landmarks.npy").read_bytes() == landmarks
    render("--count 3 --workers 1", tmp_path)
    assert len(read_list(tmp_path / "train" / "heads.csv")[0]) == 3


def test_hidden_files_of_the_system_are_no_obstacle(tmp_path):
    (tmp_path / "train").mkdir()
    for name in (".DS_Store", ".render-x.part.json"):
        (tmp_path / "train" / name).write_bytes(b"")
    render("--count 2 --workers 1", tmp_path)
    assert len(open_dataset("rendered", tmp_path, train=True, yaw=180)) == 2


def test_heads_on_disk_are_those_of_the_set(rendered):
    heads = SyntheticHeads(60, "train", 7, size=SIZE, yaw=(-120, 120), photo=Effects(), jitter=0,
                           pitch=(-50, 50), roll=(-50, 50))  # fmt: skip
    whole = SyntheticHeads(60, "train", 7, size=SIZE, yaw=(-120, 120), jitter=0, around=HEAD,
                           pitch=(-50, 50), roll=(-50, 50))  # fmt: skip
    names, values = read_list(rendered / "train" / "heads.csv")
    np.testing.assert_allclose(values[:, 4:7], heads.poses, atol=6e-4)
    for drawn, columns in ((whole, values[:, :4]), (heads, values[:, 7:])):
        low = columns[:, :2]
        corners = np.concatenate((low, low + columns[:, 2:]), axis=1)
        np.testing.assert_allclose(corners, drawn.boxes, atol=2e-3)
    sharp = 0
    for index in range(0, 60, 7):
        stored = np.asarray(Image.open(rendered / "train" / names[index])).astype(float)
        sharp += np.abs(stored - np.asarray(heads.image(index))).mean() < 12
    assert sharp >= 7, "but for the JPEG's loss"


def test_a_face_is_seen_along_its_own_ray():
    poses = np.random.default_rng(0).uniform((-180, -60, -60), (180, 60, 60), (500, 3))
    places = on_axis(np.geomspace(430, 3000, 500))
    back = as_placed(as_seen(poses, places), places)
    assert geodesic_degrees(pose_to_matrix(back.astype(float)), pose_to_matrix(poses)).max() < 1e-3
    # In profile the face is 54 mm beside the axis.
    poses = np.array([(90.0, 0, 0), (-90.0, 0, 0), (0.0, 0, 0), (180.0, 0, 0)])
    seen = as_seen(poses, on_axis(1000))
    off = np.degrees(np.arctan(0.054))
    np.testing.assert_allclose(seen[:, 0], (90 + off, -90 - off, 0, 180), atol=1e-4)


def test_poses_on_disk_are_what_a_fit_to_the_landmarks_says(rendered):
    """As those of AFLW2000: fits of a head in 3D under weak perspective."""
    people = SyntheticHeads(60, "train", 7, size=SIZE, yaw=(-120, 120), jitter=0,
                            pitch=(-50, 50), roll=(-50, 50)).people  # fmt: skip
    _, values = read_list(rendered / "train" / "heads.csv")
    places = np.load(rendered / "train" / "landmarks.npy")[:, :, :2].astype(float)
    errors = []
    for number in np.flatnonzero(np.abs(values[:, 4]) < 60):
        points = people.points_68(np.array([number]))[0].astype(float)
        points -= points.mean(0)
        flat = places[number] - places[number].mean(0)
        poses = people.poses[number], values[number, 4:7]
        labels = [pose_to_matrix(pose.astype(float)) for pose in poses]
        first = Rotation.from_matrix(labels[0])

        def off(p, points=points, flat=flat, first=first):
            turned = (Rotation.from_rotvec(p[:3]) * first).apply(points)
            return (np.exp(p[3]) * turned[:, :2] - flat).ravel()

        fit = least_squares(off, np.array([0, 0, 0, np.log(SIZE / 250)])).x
        turn = (Rotation.from_rotvec(fit[:3]) * first).as_matrix()
        errors.append([geodesic_degrees(turn, label) for label in labels])
    camera, ray = np.mean(errors, 0)
    assert len(errors) > 20
    assert ray < 0.8 * camera


def test_landmarks_lie_in_the_face_box_and_say_what_is_seen(rendered, tmp_path):
    heads = open_dataset("rendered", rendered, train=True, yaw=180)
    values = read_list(rendered / "train" / "heads.csv")[1]
    points = np.stack([heads.image_landmarks(i) for i in range(60)])
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    np.testing.assert_allclose(low, values[:, 7:9], atol=2e-3)
    np.testing.assert_allclose(high - low, values[:, 9:], atol=2e-3)
    yaw, seen = values[:, 4], points[..., 2]
    assert set(np.unique(seen)) == {0, 1}
    assert seen[np.abs(yaw) < 30, 17:].mean() > 0.6
    # The eye on the image's left is the first to go when the head turns to the left.
    left, right = seen[:, 36:42].mean(axis=1), seen[:, 42:48].mean(axis=1)
    turned = (np.abs(yaw) > 50) & (np.abs(yaw) < 100)
    far, near = np.where(yaw > 0, (left, right), (right, left))[:, turned]
    assert near.mean() > far.mean() + 0.3
    shutil.copytree(rendered, tmp_path / "heads")
    place = tmp_path / "heads" / "train" / "landmarks.npy"
    place.write_bytes(b"hello")
    with pytest.raises(InputError, match="no file of landmarks"):
        open_dataset("rendered", tmp_path / "heads", train=True).image_landmarks(0)
    place.unlink()
    unknown = open_dataset("rendered", tmp_path / "heads", train=True).image_landmarks(0)
    assert np.isnan(unknown).all()
    assert unknown.shape == (68, 3)


def test_both_splits_and_all_crop_rules_are_read(rendered):
    train = open_dataset("rendered", rendered, crop=AROUND_POINTS, train=True, seed=3)
    assert train.margins == AROUND_POINTS.train
    assert train.dropped == {"a yaw outside ±99°": 60 - len(train)}
    assert 30 < len(train) < 60
    whole = open_dataset("rendered", rendered, crop=AROUND_HEAD, train=True)
    assert len(whole) == 60
    assert not whole.dropped
    val = open_dataset("rendered", rendered, crop=AROUND_LANDMARKS)
    assert val.margins == AROUND_LANDMARKS.test
    assert val.image(0).size == (SIZE, SIZE)
    assert val.path(0).is_file()
    assert val.path(0).is_relative_to(rendered / "val")
    assert not set(train.ids) & set(val.ids)
    assert not np.array_equal(
        train.boxes, open_dataset("rendered", rendered, train=True, seed=4).boxes
    )
    again = open_dataset("rendered", rendered / "val", seed=9)
    np.testing.assert_array_equal(again.boxes, val.boxes)
    few = open_dataset("rendered", rendered, train=True, samples=10, yaw=40)
    assert len(few) + sum(few.dropped.values()) == 10
    assert np.abs(few.poses[:, 0]).max() <= 40
    exact = read_list(rendered / "train" / "heads.csv")[1]
    face = np.concatenate((exact[:, 7:9], exact[:, 7:9] + exact[:, 9:]), axis=1)
    inside = np.abs(exact[:, 4]) <= 99
    growth = (train.boxes - face[inside]) / np.tile(exact[inside, 9:], 2)
    assert (np.abs(growth) < 0.15).all(axis=1).mean() > 0.5, "most boxes are only jittered"
    assert growth[:, 2].max() > 0.2, "some are loose"


def test_a_split_may_have_further_parts(rendered, tmp_path, capsys):
    shutil.copytree(rendered, tmp_path / "heads")
    line = (
        f"--size {SIZE} --seed 5 --yaw 120 170 --count 6 --part around --out {tmp_path / 'heads'}"
    )
    command("render", [*line.split(), "--workers", "1"])
    assert "6 heads in" in capsys.readouterr().out
    (tmp_path / "heads" / "train-notes.txt").write_text("not a part")
    both = open_dataset("rendered", tmp_path / "heads", train=True, yaw=180)
    assert len(both) == 60 + 6
    assert both.ids[0].startswith("train/")
    assert both.ids[-1].startswith("train-around/")
    assert both.path(65).is_relative_to(tmp_path / "heads" / "train-around")
    assert both.image(65).size == (SIZE, SIZE)
    assert both.poses[60:, 0].min() >= 120
    assert len(open_dataset("rendered", tmp_path / "heads", yaw=180)) == 20
    with pytest.raises(SystemExit):
        command("render", line.replace("around", "../up").split())


HEADER = ",".join(COLUMNS) + "\n"
ROW = "a.jpg,1,2,30,40,10,-5,0,8,9,20,22\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "no such list; check --data_dir, or render"),
        ("image,yaw\n", "its first line must be image,x,y,width"),
        (HEADER, "lists no head"),
        (HEADER + ROW + ROW.replace("a.jpg", "../a.jpg"), "row 2 is broken .*inside the folder"),
        (HEADER + ROW.replace("a.jpg", "/etc/a.jpg"), "row 1 is broken .*inside the folder"),
        (HEADER + "a.jpg,1,2\n", "row 1 is broken .it has 3 columns, not 12"),
        (HEADER + ROW.replace("-5", "down"), "row 1 is broken .could not convert"),
        (HEADER + ROW + ROW.replace("-5", "nan"), "row 2 has an impossible box or angle"),
        (HEADER + ROW + ROW.replace("10,-5,0", "10,,"), "row 2 is broken .could not convert"),
        (HEADER + ROW.replace("10,-5,0", ",,"), "none of its crops shows a head"),
        (HEADER + ROW.replace("30", "0"), "row 1 has an impossible box or angle"),
        (HEADER + ROW.replace("10", "181"), "row 1 has an impossible box or angle"),
        (HEADER + ROW.replace("10", "150"), "no head has a yaw within ±99°"),
        (HEADER + "\0" + ROW, "row 1 is broken"),
    ],
)
def test_a_broken_list_is_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "val").mkdir()
    if text is not None:
        (tmp_path / "val" / "heads.csv").write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        open_dataset("rendered", tmp_path)
    assert "\n" not in str(error.value)


def test_training_and_testing_on_rendered_heads(rendered, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = (
        f"--dataset rendered --data_dir {rendered} --arch squeezenet1_1 --input_size 64 "
        "--num_epochs 1 --samples 24 --batch_size 8 --output_string t --yaw 120"
    )
    command("train", line.split())
    said = capsys.readouterr().out
    assert f"--dataset rendered --data_dir {rendered} --yaw 120" in said
    assert "Warning" not in said
    snapshot = next((tmp_path).rglob("best.safetensors"))
    command("test", f"--dataset rendered --data_dir {rendered} --snapshot {snapshot}".split())
    said = capsys.readouterr().out
    inside = (np.abs(read_list(rendered / "val" / "heads.csv")[1][:, 4]) <= 99).sum()
    assert f"{inside} of 20 images; {20 - inside} have a yaw outside ±99°" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--sheet rendr", "rendr: not the name of an image that can be written; end it in .png"),
        ("--sheet s.psd", "s.psd: not the name of an image that can be written; end it in .png"),
        ("--sheet sheet.png --yaw 1 -1", "--yaw 1 -1: give two angles from -180 to 180"),
        ("--count 2 --out x --pitch -95 0", "--pitch -95 0: give two angles from -90 to 90"),
        ("--count 2 --out x --roll nan 0", "--roll nan 0: give two angles"),
        ("--out x", "--out needs --count"),
        ("--count 2", "one of the arguments --out --sheet is required"),
        ("--sheet s.png --part p", "--part and --workers are for --out"),
        ("--sheet s.png --poses wide", "--identities, --environments and --poses natural or"),
    ],
)
def test_impossible_wishes_are_refused_in_a_sentence(
    words, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command("render", words.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert not list(tmp_path.iterdir())


def test_a_sheet_of_any_number_of_heads(tmp_path):
    words = f"--sheet {tmp_path / 'sheet.png'} --count 9 --size 24 --camera_without none"
    command("render", words.split())
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (8 * 24, 2 * 24)
