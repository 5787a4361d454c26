"""NLML-HPE's stages and commands, on made faces and on real ones."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_headpose import cli
from mlx_headpose.data import open_dataset
from mlx_headpose.data.base import Dataset
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.evaluate import evaluate
from mlx_headpose.inference.landmark_files import pose_of_landmarks, read_landmarks
from mlx_headpose.methods import build
from mlx_headpose.methods.nlml import stages as manifold_stages
from mlx_headpose.methods.nlml.network import Config
from mlx_headpose.methods.nlml.stages import prepare
from mlx_headpose.methods.nlml.turned import TurnedFaces, frontal_landmarks
from mlx_headpose.pose import pose_to_matrix
from mlx_headpose.training.checkpoint import Workdir
from mlx_headpose.training.loop import Training
from mlx_headpose.training.optimizer import Optimizer
from mlx_headpose.training.options import TrainingOptions
from mlx_headpose.training.step import make_step
from mlx_headpose.weights import from_pretrained, save_pretrained, tensors_of


class Faces(Dataset):
    """Made faces of 68 points, each in a pose of its own."""

    def __init__(self, count: int = 12, spread: float = 0.05):
        rng = np.random.default_rng(0)
        super().__init__(
            name="faces",
            ids=[str(i) for i in range(count)],
            poses=rng.uniform(-30, 30, (count, 3)).astype(np.float32),
            boxes=np.zeros((count, 4), np.float32),
        )
        mean, modes = rng.normal(size=(68, 3)), rng.normal(size=(4, 68, 3))
        self.shapes = mean + spread * np.einsum("nk,klc->nlc", rng.normal(size=(count, 4)), modes)

    def landmarks(self, index: int) -> np.ndarray:
        turned = self.shapes[index] @ pose_to_matrix(self.poses[index].astype(np.float64)).T
        return (50 * turned + [100, 200, 10]).astype(np.float32)


@pytest.fixture
def quick(monkeypatch):
    """Stages that take no time."""
    monkeypatch.setattr(manifold_stages, "SAMPLES", 2048)
    monkeypatch.setattr(manifold_stages, "HEAD_STEPS", 10)
    monkeypatch.setattr(manifold_stages, "TENSOR_BYTES", 30_000_000)


def test_faces_turn_to_the_front_and_to_any_pose():
    faces = Faces()
    fronts = frontal_landmarks(faces)
    expected = faces.shapes - faces.shapes.mean(axis=1, keepdims=True)
    expected /= np.sqrt((expected**2).sum(-1).mean(-1))[:, None, None]
    np.testing.assert_allclose(fronts, expected, atol=1e-5)
    turned = TurnedFaces("turned", fronts, (50, 40, 30), 100, seed=1)
    assert (np.abs(turned.poses) <= (50, 40, 30)).all()
    assert (np.abs(turned.poses).max(0) > (45, 35, 27)).all()
    np.testing.assert_allclose(frontal_landmarks(turned), fronts[turned.faces], atol=1e-5)
    again = TurnedFaces("turned", fronts, (50, 40, 30), 100, seed=1)
    np.testing.assert_array_equal(again.landmarks(7), turned.landmarks(7))
    noisy = TurnedFaces("turned", fronts, (50, 40, 30), 100, noise=0.1, seed=1)
    np.testing.assert_array_equal(noisy.landmarks(7), noisy.landmarks(7))
    far = np.stack([noisy.landmarks(i) - turned.landmarks(i) for i in range(100)])
    assert far.std() == pytest.approx(np.hypot(0.1, 0.1 / np.sqrt(3)), rel=0.2)


def stages_done(capsys) -> dict[str, bool]:
    """Stage → whether it was computed, by what was printed since the last call."""
    lines = capsys.readouterr().out.splitlines()
    return {line.split(":")[0]: "computing" in line for line in lines}


def test_each_stage_is_kept_until_what_it_depends_on_changes(tmp_path, quick, capsys):
    def run(seed: int = 0, **config):
        model = build(Config(landmarks=68, **config))
        samples = prepare(model, Faces(), tmp_path, seed, print)
        return tensors_of(model.head), samples, stages_done(capsys)

    first, samples, done = run()
    assert done == {"manifold": True, "tensor": True, "angle_networks": True}
    assert len(samples) == 2048
    again, _, done = run()
    assert done == {"manifold": False, "angle_networks": False}
    for name, value in first.items():
        np.testing.assert_array_equal(np.array(again[name]), np.array(value), err_msg=name)
    _, _, done = run(seed=1)  # only the angle networks have anything random
    assert done == {"manifold": False, "angle_networks": True}
    _, _, done = run(normalization="centroid")
    assert done == {"manifold": True, "tensor": True, "angle_networks": True}
    _, _, done = run(normalization="centroid", identity_rank=3)  # the tensor stays
    assert done["manifold"]
    assert not done["tensor"]
    manifold = from_pretrained(tmp_path / "stages" / "manifold.safetensors")
    assert manifold.config.ranks == (3, 3, 3, 3)


def test_angle_networks_learn_the_way_back_from_the_cosines(tmp_path, monkeypatch):
    monkeypatch.setattr(manifold_stages, "HEAD_STEPS", 200)
    model = build(Config(landmarks=68))
    prepare(model, Faces(), tmp_path, 0, lambda line: None)
    angles = np.random.default_rng(5).uniform([-50, -40, -30], [50, 40, 30], (500, 3))
    factors = model.head.factors(mx.array(np.radians(angles).astype(np.float32)))
    found = np.array(model.decode((model.head.angles(factors), factors)))
    assert np.abs(found - angles).mean() < 1.5


def test_bfloat16_reads_landmarks_far_from_the_corner_as_well():
    faces = Faces(8)
    poses, changes = mx.array(faces.poses), mx.zeros((8, 5))
    losses = []
    for place in (0.0, 900.0):  # in bfloat16 pixels around 900 are 4 apart
        mx.random.seed(0)
        model = build(Config(landmarks=68))
        model.train()
        options = TrainingOptions(augment=0.0, bfloat16=True)
        step = make_step(model, Optimizer(model, options), options, processes=None)
        points = np.stack([faces.landmarks(i) for i in range(8)]) + np.float32([place, place, 0])
        losses.append(float(step(mx.array(points), poses, changes).parts["factors"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_landmarks_of_another_numbering_are_refused(tmp_path):
    with pytest.raises(InputError, match="--landmarks 68"):
        prepare(build(Config()), Faces(), tmp_path, 0, print)


def test_without_a_validation_set_a_part_of_the_training_set_validates(
    shared, quick, tmp_path, monkeypatch
):
    """The poses beyond the method's limits are left out after the set was divided."""
    names = (shared / "data" / "AFLW2000" / "aflw2000_list.txt").read_text().split()[:80]
    (tmp_path / "AFLW2000").symlink_to(shared / "data" / "AFLW2000")
    (tmp_path / "list.txt").write_text("\n".join(names))
    monkeypatch.chdir(tmp_path)
    cli.main("train", ["--model", "nlml", "--landmarks", "68", "--dataset", "AFLW2000",
                       "--data_dir", "AFLW2000", "--filename_list", "list.txt",
                       "--num_epochs", "1"])  # fmt: skip
    (held_out,) = tmp_path.glob("workdirs*/validation.txt")
    assert 0 < len(held_out.read_text().split()) <= 4


def test_options_of_pictures_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures = ["--augment", "--flip", "--turn", "--rescale", "--exposure", "--input_size"]
    values = [[number] for number in ("0.9", "0", "10", "1.5", "1", "64")]
    for words in zip([*pictures, "--crop_margin"], [*values, ["0.1", "0.3"]], strict=True):
        with pytest.raises(SystemExit):
            cli.main("train", ["--model", "nlml", "--samples", "40", words[0], *words[1]])
        assert f"{words[0]} is for networks that read " in capsys.readouterr().err


def aflw2000(shared: Path, folder: Path, first: int) -> Dataset:
    """Every eighth name of the list, from the first or the second on."""
    data = shared / "data" / "AFLW2000"
    names = (data / "aflw2000_list.txt").read_text().split()[first::8]
    (folder / f"{first}.txt").write_text("\n".join(names))
    return open_dataset("AFLW2000", data, folder / f"{first}.txt")


def test_real_landmarks_of_unseen_people(shared, tmp_path, monkeypatch):
    """Trained on some faces of AFLW2000, tested on others (docs/nlml.md has all of them)."""
    monkeypatch.setattr(manifold_stages, "SAMPLES", 20480)
    monkeypatch.setattr(manifold_stages, "HEAD_STEPS", 400)
    monkeypatch.setattr(manifold_stages, "TENSOR_BYTES", 60_000_000)  # a hundred faces
    mx.random.seed(0)
    seen, unseen = aflw2000(shared, tmp_path, 0), aflw2000(shared, tmp_path, 1)
    model = build(Config(landmarks=68, noise=0.0))
    options = TrainingOptions(epochs=3, batch_size=256, lr=1e-3, schedule="cosine")
    quiet = {"say": lambda line: None}
    Training(model, seen, unseen, Workdir(tmp_path), options, **quiet).run()
    model.eval()
    within = evaluate(model, unseen, 256).bands()["within ±50° ±40° ±30°"]
    assert within["mae"] < 2
    manifold = from_pretrained(tmp_path / "stages" / "manifold.safetensors")
    within = evaluate(manifold, unseen, 256).bands()["within ±50° ±40° ±30°"]
    assert within["mae"] < 0.8  # rigid Procrustes to the mean shape


def test_commands(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main("train", ["--model", "nlml", "--samples", "40", "--num_epochs", "1"])
    folder = Path("workdirs_nlml_synthetic")
    assert (folder / "best.safetensors").is_file()
    assert (folder / "stages" / "factors.png").is_file()
    assert "python test.py --dataset synthetic" in capsys.readouterr().out

    for snapshot in (folder / "best.safetensors", folder / "stages" / "manifold.safetensors"):
        words = ["--val_set", "synthetic", "--snapshot", str(snapshot), "--json", "report.json"]
        cli.main("test", [*words, "--intervals", "intervals.png"])
        printed = capsys.readouterr().out
        report = json.loads(Path("report.json").read_text())
        band = report["bands"]["within ±50° ±40° ±30°"]
        assert 0 < band["used"] < report["used"]
        assert "within ±50° ±40° ±30°" in printed
        assert Path("intervals.png").stat().st_size > 10_000
    assert band["mae"] < 5  # the search

    face = open_dataset("synthetic").landmarks(0)
    np.save("face.npy", face)
    np.savetxt("face.csv", face, delimiter=",")
    words = ["--model", str(folder / "best.safetensors"), "--json", "pose.json"]
    cli.main("predict", [*words, "--landmarks", "face.npy", "face.csv"])
    first, second = json.loads(Path("pose.json").read_text())["results"]
    assert first["yaw"] == pytest.approx(second["yaw"], abs=0.01)
    cli.main("predict", ["--model", words[1], "--landmarks", "face.npy", "--csv", "pose.csv"])
    header, row = Path("pose.csv").read_text().splitlines()
    assert header == "file,yaw,pitch,roll"
    assert float(row.split(",")[1]) == first["yaw"]


def test_networks_of_landmarks_are_quantised_with_landmarks(tmp_path, monkeypatch, capsys, shared):
    monkeypatch.chdir(tmp_path)
    save_pretrained(build(Config(landmarks=68)), "net.safetensors")
    words = ["--snapshot", "net.safetensors", "--calibration_images", "5"]
    words += ["--quantize", "int8", "--calibration_dataset", "AFLW2000"]
    cli.main("export", [*words, "--calibration_dir", str(shared / "data" / "AFLW2000")])
    assert "images of AFLW2000 that calibration did not see" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main("export", ["--snapshot", "net.safetensors", "--quantize", "half"])
    assert "synthetic has 468 landmarks and the network reads 68" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"a,b,c\n", b"1,2\n3,4\n", b"nan,0,0\n", b"0,0,0\n"])
def test_landmark_files_that_hold_no_face_are_refused(content, tmp_path):
    path = tmp_path / "face.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"face\.csv"):
        pose_of_landmarks(build(Config(landmarks=68)), read_landmarks(path), path)
