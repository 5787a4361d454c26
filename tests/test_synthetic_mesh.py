"""The head model: its file, its people, their poses and boxes."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from mlx_headpose.cli import main as run_command
from mlx_headpose.data import open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.pose import pose_to_matrix
from mlx_headpose.readers.head_model import read_head_model
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.material import Material
from mlx_headpose.synthetic.mesh.identity import Identities, rows_of, sliders_of
from mlx_headpose.synthetic.mesh.model import load_head
from mlx_headpose.synthetic.mesh.people import sample_body, sample_poses, tilt
from mlx_headpose.synthetic.mesh.places import LANDMARKS_68
from mlx_headpose.synthetic.rasterize import rasterize
from mlx_headpose.synthetic.render_set import Settings, claimed, digest
from tests.test_scenes import make_folder


def egg(rows: int = 24, columns: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface of the base mesh's size and place, in decimetres, and its quads."""
    down, around = np.meshgrid(
        np.linspace(0.05, np.pi - 0.05, rows), np.arange(columns) * 2 * np.pi / columns,
        indexing="ij",
    )  # fmt: skip
    x, z = np.sin(down) * np.sin(around), np.sin(down) * np.cos(around)
    vertices = np.stack((0.75 * x, 7.3 + 1.2 * np.cos(down), 0.6 + 1.0 * z), -1).reshape(-1, 3)
    number = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(number, -1, axis=1)
    quads = np.stack((number[:-1], number[1:], right[1:], right[:-1]), -1).reshape(-1, 4)
    return vertices.astype(np.float32), quads


def tiny(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a made-up head model: an egg, two targets, a cap of hair."""
    vertices, quads = egg()
    cap = quads[vertices[quads, 1].min(axis=1) > 7.8]
    used, corners = np.unique(cap, return_inverse=True)
    wider = np.flatnonzero(np.abs(vertices[:, 0]) > 0.3)
    delta = np.zeros((len(wider), 3), np.float16)
    delta[:, 0] = np.sign(vertices[wider, 0]) * 0.1
    hair = "asset/hair/short01/"
    zero = np.zeros((len(used), 2), np.float16)
    arrays = {
        "vertices": vertices,
        "quads": quads.astype(np.int32),
        "quad_group": np.zeros(len(quads), np.int16),
        "group_names": np.array(["body"]),
        "target_names": np.array(["head/head-scale-horiz-incr", "head/head-scale-horiz-decr"]),
        "target_offsets": np.array([0, len(wider), 2 * len(wider)]),
        "target_vertex": np.concatenate((wider, wider)).astype(np.uint16),
        "target_delta": np.concatenate((delta, -delta)),
        hair + "quads": corners.reshape(cap.shape).astype(np.int32),
        hair + "quads_uv": corners.reshape(cap.shape).astype(np.int32),
        hair + "uv": zero,
        hair + "fit_vertex": np.tile(used[:, None], 3).astype(np.uint16),
        hair + "fit_weight": np.tile(np.float16([1, 0, 0]), (len(used), 1)),
        hair + "fit_offset": np.tile(np.float16([0, 0.1, 0]), (len(used), 1)),
        hair + "fit_scale": np.array([[0, 1, 1.0], [0, 500, 1.0], [0, 2, 1.0]]),
    }
    return arrays | changes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "tiny.npz"
    np.savez(path, **tiny())
    return path


@pytest.fixture(scope="module")
def real(shared):
    path = shared / "meshes" / "makehuman_head.npz"
    if not path.is_file():
        pytest.skip("no head model in ../shared/meshes")
    return path


def write_makehuman(folder) -> None:
    """A folder like MakeHuman's, of the same egg."""
    vertices, quads = egg()

    def obj(path, points, faces, group):
        lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in points]
        lines += ["vt 0.1 0.2", "vt 0.3 0.4", f"g {group}"]
        lines += ["f " + " ".join(f"{i + 1}/{1 + i % 2}" for i in face) for face in faces]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# made by a test\n" + "\n".join(lines) + "\n")

    base = folder / "data" / "3dobjs" / "base.obj"
    obj(base, vertices, quads, "body")
    with base.open("a") as file:
        file.write("g joint-head\nf 1/1 2/1 3/1 4/1\n")
    targets = folder / "data" / "targets"
    (targets / "head").mkdir(parents=True)
    text = "# comment\n" + "".join(f"{i} 0.1 -0.05 0\n" for i in (3, 5, 8))
    (targets / "head" / "head-scale-horiz-incr.target").write_text(text)
    with gzip.open(targets / "head" / "head-scale-horiz-decr.target.gz", "wt") as file:
        file.write("3 -.1 0 0\n")
    hair = folder / "data" / "hair" / "short01"
    obj(hair / "short01.obj", vertices[[40, 41, 73, 72]], [[0, 1, 2, 3], [0, 1, 2]], "hair")
    (hair / "short01.mhclo").write_text(
        "# a hat\nname short01\nobj_file short01.obj\nz_scale 7 9 0.7\nx_scale 0 300 1.5\n\n"
        "verts 0\n40\n41\n"
        "73 72 41 0.5 0.25 0.25 0.0 0.2 -0.1\n72\n\ndelete_verts\n 5 - 9\n"
    )


def test_a_head_model_is_made_of_a_makehuman_folder(tmp_path, capsys):
    write_makehuman(tmp_path)
    output = tmp_path / "head.npz"
    run_command("makehuman", [str(tmp_path), "--output", str(output)])
    assert "768 vertices, 2 targets, 1 assets" in capsys.readouterr().out
    made = read_head_model(output)
    vertices, quads = egg()
    np.testing.assert_allclose(made.vertices, vertices, atol=1e-5)
    np.testing.assert_array_equal(made.quads, quads)
    vertex, delta = made.targets["head/head-scale-horiz-incr"]
    assert vertex.tolist() == [3, 5, 8]
    np.testing.assert_allclose(delta[0], (0.1, -0.05, 0), atol=1e-4)
    assert made.targets["head/head-scale-horiz-decr"][1][0, 0] == pytest.approx(-0.1, abs=1e-4)
    hair = made.assets["hair"]["short01"]
    assert hair.anchors.tolist() == [[40] * 3, [41] * 3, [73, 72, 41], [72] * 3]
    np.testing.assert_allclose(hair.weights[2], (0.5, 0.25, 0.25))
    np.testing.assert_allclose(hair.offsets[2], (0, 0.2, -0.1), atol=1e-4)
    assert hair.scales[[0, 2]].tolist() == [[0, 300, 1.5], [7, 9, 0.7]]
    assert hair.scales[1, 2] == pytest.approx(np.ptp(vertices[:, 1]), abs=1e-4)
    assert hair.corners[hair.quads].tolist() == [[0, 1, 2, 3], [0, 1, 2, 2]]
    assert SyntheticHeads(1, size=32, mesh=output).image(0).size == (32, 32)


def test_a_broken_makehuman_folder_is_refused_in_one_sentence(tmp_path, capsys):
    def refusal() -> str:
        with pytest.raises(SystemExit) as stopped:
            run_command("makehuman", [str(tmp_path), "--output", str(tmp_path / "x.npz")])
        assert stopped.value.code == 2
        assert not (tmp_path / "x.npz").exists()
        return capsys.readouterr().err

    assert "MakeHuman" in refusal()
    write_makehuman(tmp_path)
    target = tmp_path / "data" / "targets" / "head" / "head-scale-horiz-incr.target"
    for text, words in (("3 1 2\n", "4 numbers"), ("9999 0 0 0\n", "does not have")):
        target.write_text(text)
        assert words in refusal()
    target.write_text("3 0 0 0\n")
    asset = tmp_path / "data" / "hair" / "short01" / "short01.mhclo"
    whole = asset.read_text()
    for old, new, words in (
        ("\n41\n", "\n", "fits 3 vertices"),
        ("73 72 41", "73 72 9999", "does not have"),
        ("obj_file short01.obj", "", "no obj_file"),
        ("short01.obj", "../../../../short02.obj", "no such file"),
    ):
        asset.write_text(whole.replace(old, new))
        assert words in refusal()


def refused(tmp_path, **changes) -> str:
    path = tmp_path / "bad.npz"
    np.savez(path, **tiny(**changes))
    with pytest.raises(InputError) as error:
        read_head_model(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path):
    vertices, quads = egg()
    assert "points outside" in refused(tmp_path, quads=quads + 5)
    assert "impossible" in refused(tmp_path, vertices=vertices * np.float32("nan"))
    huge = np.full((680, 3), 1e30, np.float32)
    assert "impossible" in refused(tmp_path, target_delta=huge)
    assert "has shape" in refused(tmp_path, vertices=vertices[:, :2])
    assert "no strings" in refused(tmp_path, target_names=np.array([1, 2]))
    assert "points outside" in refused(tmp_path, target_vertex=tiny()["target_vertex"] + 900)
    assert "do not fit" in refused(tmp_path, target_offsets=np.array([0, 900, 10]).clip(0, 100))
    assert "no numbers" in refused(tmp_path, quads=np.array([[object()] * 4]))
    hair = "asset/hair/short01/"
    assert "scale" in refused(tmp_path, **{hair + "fit_scale": np.zeros((3, 3))})
    assert "points outside" in refused(tmp_path, **{hair + "fit_vertex": np.full((5, 3), 60000)})
    assert "no group" in refused(tmp_path, group_names=np.array(["helper"]))
    np.savez(tmp_path / "far.npz", **tiny(vertices=vertices - 100))
    with pytest.raises(InputError, match=r"far\.npz: its body has no head"):
        load_head(tmp_path / "far.npz")
    with pytest.raises(InputError, match="no such file"):
        read_head_model(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.npz"):
        read_head_model(tmp_path / "text.npz")


def test_a_sample_is_the_same_in_any_order_and_in_a_set_of_any_length(model):
    heads = SyntheticHeads(6, "val", size=48, mesh=model)
    longer = SyntheticHeads(12, "val", size=48, mesh=model)
    first = np.asarray(heads.image(4))
    longer.image(2)
    np.testing.assert_array_equal(first, longer.image(4))
    np.testing.assert_array_equal(heads.poses, longer.poses[:6])
    np.testing.assert_allclose(heads.boxes, longer.boxes[:6], atol=1e-3)
    longer.select(np.arange(12) == 4)
    np.testing.assert_array_equal(first, longer.image(0))


def test_rows_of_uniform_numbers_do_not_depend_on_where_reading_begins():
    rows = rows_of(np.random.SeedSequence(1), 7)
    np.testing.assert_array_equal(rows(0, 9)[4:6], rows(4, 2))


def test_a_slider_moves_opposite_targets_and_both_sides():
    names = [
        *("eyes/l-eye-scale-incr", "eyes/r-eye-scale-incr"),
        *("eyes/l-eye-scale-decr", "eyes/r-eye-scale-decr"),
        *("nose/nose-trans-up", "nose/nose-trans-down", "nose/nose-trans-in"),
        *("head/head-angle-in", "expression/units/caucasian/mouth-open"),
    ]
    sliders = sliders_of(names)
    assert [(s.positive, s.negative) for s in sliders] == [
        ((0, 1), (2, 3)),
        ((4,), (5,)),
        ((), (6,)),
    ]
    drawn = Identities(names)
    weights = drawn.weights(np.random.default_rng(0).random((500, drawn.columns)))
    assert (weights >= 0).all()
    assert weights.max() <= 0.85
    assert not (weights[:, 0] * weights[:, 2]).any(), "never both ends at once"
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])


def test_identities_come_from_a_pool(model):
    heads = SyntheticHeads(60, size=32, mesh=model, identities=5)
    assert set(heads.people.person) == set(range(5))
    first, second = np.flatnonzero(heads.people.person == 3)[:2]
    assert repr(heads.people.looks(first)) == repr(heads.people.looks(second))
    np.testing.assert_array_equal(heads.frontal_landmarks(first), heads.frontal_landmarks(second))
    other = SyntheticHeads(60, "val", size=32, mesh=model, identities=5)
    assert repr(heads.people.looks(first)) != repr(other.people.looks(first))


def test_boxes_hold_the_projected_landmarks(model):
    heads = SyntheticHeads(9, size=64, mesh=model, jitter=0)
    people, index = heads.people, 7
    points = people.landmarks(np.array([index]))[0].astype(float)
    points = points @ pose_to_matrix(people.poses[index].astype(float)).T
    camera = people.cameras[index]
    near = camera.distance / (camera.distance - points[:, 2])
    flat = points[:, :2] * near[:, None] * camera.scale + camera.centre
    expected = np.concatenate((flat.min(axis=0), flat.max(axis=0))) * 64
    np.testing.assert_allclose(heads.boxes[index], expected, atol=0.01)


def test_landmarks_are_the_frontal_face_turned_by_its_pose(model):
    heads = SyntheticHeads(3, mesh=model)
    turned = heads.landmarks_of(1, np.array([[40, 10, -5]], np.float32))[0]
    expected = heads.frontal_landmarks(1) @ pose_to_matrix(np.array((40.0, 10, -5))).T
    np.testing.assert_allclose(turned, expected, atol=1e-3)


def test_natural_poses_are_denser_in_front_and_reach_everywhere():
    u = np.random.default_rng(0).random((20000, 6))
    limits = np.array([[-180, 180], [-60, 60], [-60, 60]])
    poses = sample_poses(u, limits, natural=True)
    yaw = np.abs(poses[:, 0])
    assert (yaw < 30).mean() > 1.7 * ((yaw > 30) & (yaw < 60)).mean()
    assert np.histogram(poses[:, 0], 12, (-180, 180))[0].min() > 200
    assert (np.abs(poses[:, 1:]) < 20).mean() > 0.6
    assert (np.abs(poses[:, 1:]) > 45).mean() > 0.05
    uniform = sample_poses(u, limits, natural=False)
    np.testing.assert_allclose(uniform.std(axis=0), (104, 34.6, 34.6), rtol=0.03)


def test_tilted_cameras_reach_steep_poses_within_the_limits():
    u = np.random.default_rng(0).random((20000, 10))
    limits = np.array([[-180, 180], [-80, 80], [-95, 95.0]])
    upright = sample_poses(u[:, :6], np.clip(limits, -50, 50), natural=True)
    poses, tilts = tilt(u[:, 6:], upright, limits)
    assert (np.abs(poses) <= limits[:, 1]).all()
    assert (np.abs(poses[:, 2]) > 60).mean() > 0.05
    assert (np.abs(poses[:, 1]) > 50).mean() > 0.03
    assert (tilts == 0).all(axis=1).mean() > 0.25
    # Turned back by its camera, every head is as it was.
    elevation, roll = np.radians(tilts[:200]).T
    zero, one = np.zeros(200), np.ones(200)
    up = np.array([[one, zero, zero], [zero, np.cos(elevation), -np.sin(elevation)],
                   [zero, np.sin(elevation), np.cos(elevation)]]).transpose(2, 0, 1)  # fmt: skip
    turn = np.array([[np.cos(roll), -np.sin(roll), zero], [np.sin(roll), np.cos(roll), zero],
                     [zero, zero, one]]).transpose(2, 0, 1)  # fmt: skip
    back = np.swapaxes(turn @ up, 1, 2) @ pose_to_matrix(poses[:200].astype(float))
    np.testing.assert_allclose(back, pose_to_matrix(upright[:200].astype(float)), atol=1e-4)


def test_people_before_a_tilted_camera_lean_as_a_whole(model):
    heads = SyntheticHeads(
        200, size=32, mesh=model, natural=True, tilted=True, pitch=(-80, 80), roll=(-95, 95)
    )
    assert np.abs(heads.poses[:, 2]).max() > 80
    number = int(np.argmax(np.abs(heads.people.tilts[:, 1])))
    scene = heads.people.scene(number, heads.poses[number], np.random.default_rng(0))
    assert scene.body[1, 1] < 0.5, "the shoulders are not upright in the image"
    assert heads.image(number).size == (32, 32)


def test_landmarks_lie_where_their_names_say():
    x, y, z = LANDMARKS_68.T
    assert LANDMARKS_68.shape == (68, 3)
    np.testing.assert_allclose(x[:17], -x[16::-1][:17], atol=1e-9)
    assert y[8] == y.min()
    assert z[30] == z.max()
    assert x[36] < x[39] < 0 < x[42] < x[45]
    assert x[48] == -x[54] < 0
    assert y[19] > y[37] > y[41]


def test_the_command_line_draws_a_head_model(model):
    heads = open_dataset("synthetic", mesh=str(model), samples=4, train=True, identities=2)
    assert len(heads) == 4
    assert "head model" in heads.protocol
    assert heads.image(0).size == (160, 160)


def test_heads_of_the_real_model_turn_as_their_poses_say(real):
    """The nose's tip, which is foremost at pose 0, moves to the left for positive yaw, up for
    positive pitch."""
    heads = SyntheticHeads(8, mesh=real)
    frontal = heads.frontal_landmarks(0)
    assert np.argmax(frontal[:, 2]) == 30
    turned = heads.landmarks_of(0, np.array([[30, 0, 0], [0, 30, 0]], np.float32))
    assert turned[0, 30, 0] < frontal[30, 0]
    assert turned[1, 30, 1] < frontal[30, 1]


def test_the_real_model_draws_varied_faces(real):
    heads = SyntheticHeads(6, size=64, mesh=real, yaw=(-40, 40))
    pictures = np.stack([np.asarray(heads.image(i)) for i in range(6)]).astype(float)
    assert (pictures.std(axis=(1, 2)).mean(axis=-1) > 8).all()
    assert pictures.mean(axis=(1, 2)).std() > 8


def test_faces_of_the_real_model_look_ahead_at_pose_zero(real, shared):
    """Its people's features, averaged, are those of AFLW2000 turned back to the front."""
    folder = shared / "data" / "AFLW2000"
    photos = open_dataset("AFLW2000", folder, folder / "aflw2000_list.txt")
    turns = pose_to_matrix(photos.poses.astype(float))
    theirs = np.mean(
        [photos.landmarks(i)[17:].astype(float) @ turns[i] for i in range(0, 1969, 40)], axis=0
    )
    heads = SyntheticHeads(40, mesh=real)
    ours = np.mean([heads.frontal_landmarks(i)[17:] for i in range(40)], axis=0)
    ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
    left, _, right = np.linalg.svd(theirs.T @ ours)
    turn = left @ right
    angle = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
    assert np.linalg.det(turn) > 0
    assert angle < 4


@pytest.mark.parametrize("pose", [(0, 0, 0), (35, 0, 0), (-35, 20, 0), (0, -25, 30), (60, 10, -20)])
def test_the_surface_is_drawn_where_the_landmarks_are(real, pose):
    """What the picture shows of the nose's tip lies at landmark 30, projected by hand."""
    side, pose = 256, np.array(pose, np.float32)
    people = SyntheticHeads(4, mesh=real).people
    scene = people.scene(2, pose, np.random.default_rng(0)).mesh()
    camera = people.cameras[2].sized(side)
    skin = scene.material[scene.triangles[0]] == Material.SKIN
    found = rasterize(camera.project(scene.vertices), scene.triangles[:, skin], side, side)
    rest = found.interpolate(scene.attributes[:, 5:8])
    nose = np.linalg.norm(rest - people.head.skin.rest[people.head.landmarks[30]], axis=1) < 0.05
    seen = np.stack((found.pixel[nose] % side + 0.5, found.pixel[nose] // side + 0.5), -1)
    assert len(seen) > 2
    tip = pose_to_matrix(pose.astype(float)) @ people.landmarks(np.array([2]))[0, 30]
    near = camera.distance / (camera.distance - tip[2])
    at = tip[:2] * near * camera.scale + camera.centre
    np.testing.assert_allclose(seen.mean(axis=0), at, atol=4)


def test_shoulders_stay_upright_unless_the_neck_would_break():
    rng = np.random.default_rng(0)

    def lean(pose) -> list[float]:
        bodies = [sample_body(rng, np.array(pose, np.float32)) for _ in range(200)]
        head = pose_to_matrix(np.array(pose, float))
        necks = [np.arccos(np.clip((np.trace(head.T @ b) - 1) / 2, -1, 1)) for b in bodies]
        assert np.degrees(max(necks)) < 81
        return [float(np.degrees(np.arccos(np.clip(body[1, 1], -1, 1)))) for body in bodies]

    assert np.mean(lean((20, 10, 5))) < 15
    assert np.mean(lean((170, 0, 0))) < 15, "also of people who turn their back"
    assert np.mean(lean((0, 85, 60))) > 15


def test_hair_hats_and_glasses_are_drawn_where_somebody_has_them(real):
    heads = SyntheticHeads(20, mesh=real)
    seen = set()
    for number in range(20):
        looks = heads.people.looks(number)
        pose = np.zeros(3, np.float32)
        mesh = heads.people.scene(number, pose, np.random.default_rng(0)).mesh()
        kinds = set(mesh.material.tolist())
        assert (Material.HAIR in kinds) == (looks.hair is not None)
        assert (Material.HAT in kinds) == (looks.hat is not None)
        assert (Material.FRAME in kinds) == (looks.person.glasses is not None)
        seen |= kinds
    assert seen >= {Material.SKIN, Material.EYE, Material.TEETH, Material.CLOTH, Material.HAIR}


def test_places_light_and_surround_half_of_the_heads(model, tmp_path, capsys):
    folder = make_folder(tmp_path / "scenes") / "environments"
    without = Settings(seed=2, size=48, mesh=model, camera_without=())
    places = replace(without, environments=folder)
    plain, lit, again = (settings.heads(16) for settings in (without, places, places))
    images = [[np.asarray(s.rendered(i)[0]) for i in range(16)] for s in (plain, lit, again)]
    np.testing.assert_array_equal(images[1], images[2])
    np.testing.assert_array_equal(plain.poses, lit.poses)
    same = [np.array_equal(a, b) for a, b in zip(*images[:2], strict=True)]
    assert not all(same)
    record = places.record()
    assert record.pop("environments") == digest(folder / "lighting.npz")
    assert record == without.record()
    with claimed(tmp_path / "lit", record | {"environments": "0"}):
        pass
    other = pytest.raises(InputError, match=r"of other settings \(environments\); give")
    with other, claimed(tmp_path / "lit", record):
        pass
    words = ["--mesh", str(model), "--environments", str(tmp_path), "--count", "1"]
    with pytest.raises(SystemExit):
        run_command("render", [*words, "--out", str(tmp_path / "out")])
    assert "no folder of environments" in capsys.readouterr().err
