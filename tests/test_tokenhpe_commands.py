"""TokenHPE's commands as its publication has them, and the pictures of its tokens."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from support.commands import installed, run

from mlx_headpose.convert import convert_file, write_torch
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.hopenet.network import Config as HopeNet
from mlx_headpose.methods.tokenhpe.attention import region_names, view_tokens
from mlx_headpose.methods.tokenhpe.network import Config
from mlx_headpose.pose import pose_metrics
from mlx_headpose.weights import from_pretrained, save_pretrained, tensors_of

# As published, but for the line breaks.
TRAIN = """--batch_size 64 --num_epochs 60 --lr 0.00001 --dataset Pose_300W_LP
    --data_dir datasets/300W_LP --filename_list datasets/300W_LP/files.txt"""
TEST = """--batch_size 64 --dataset ALFW2000 --data_dir datasets/AFLW2000
    --filename_list datasets/AFLW2000/files.txt --model_path weights/X.safetensors
    --show_viz False"""


def small(size=64, **options):
    options = {"width": 64, "depth": 2, "backbone_heads": 1, "dim": 32, "layers": 2} | options
    preprocessing = Preprocessing(resize_to=250).at_size(size)
    return build(Config(preprocessing=preprocessing, **options))


@pytest.fixture
def workplace(shared, tmp_path):
    """A folder with `datasets/` as the published commands expect it."""
    shutil.copytree(shared / "data" / "300W_LP", tmp_path / "datasets" / "300W_LP")
    aflw = tmp_path / "datasets" / "AFLW2000"
    aflw.mkdir()
    for path in sorted((shared / "data" / "AFLW2000").glob("image000*"))[:40]:
        (aflw / path.name).symlink_to(path)
    return tmp_path


def test_the_published_commands(workplace, shared):
    for name in ("300W_LP", "AFLW2000"):
        done = run("create_filename_list.py", "--root_dir", f"datasets/{name}", folder=workplace)
        assert done.returncode == 0, done.stderr
    listed = (workplace / "datasets/300W_LP/files.txt").read_text()
    assert listed == (shared / "data" / "300W_LP" / "300wlp_list.txt").read_text()
    save_pretrained(small(depth=1), workplace / "start.safetensors")
    more = ["--val_filename_list", "datasets/AFLW2000/files.txt", "--num_epochs", "1"]
    more += ["--weights", "start.safetensors", "--output_string", "t", "--gpu", "-1"]
    done = run("train.py", *TRAIN.split(), "--model", "tokenhpe", *more, folder=workplace)
    assert done.returncode == 0, done.stderr
    assert "3 training and " in done.stdout
    assert "lr 1e-05" in done.stdout
    command = TEST.replace("weights/X.safetensors", "workdirs_t/best.safetensors").split()
    done = run("test.py", *command, "--json", "report.json", "--csv", "poses.csv", folder=workplace)
    assert done.returncode == 0, done.stderr
    report = json.loads((workplace / "report.json").read_text())
    assert f"MAE {report['mae']:.2f}" in done.stdout
    vectors = " ".join(f"{name} {report[name]:.2f}," for name in ("left", "down"))
    assert f"VMAE {report['vmae']:.2f} ({vectors} front {report['front']:.2f})" in done.stdout
    table = np.loadtxt(workplace / "poses.csv", delimiter=",", skiprows=1, usecols=range(1, 7))
    with pytest.warns(UserWarning, match="flatters"):
        legacy = pose_metrics(table[:, :3], table[:, 3:], legacy=True)
    assert "legacy minimum" in done.stdout
    assert f"MAE {legacy.mae:.2f}" in done.stdout.split("legacy minimum")[1]


def test_recipe_halves_the_rate_after_epochs_20_and_40():
    from mlx_headpose.training.options import TrainingOptions

    options = TrainingOptions.from_recipe(Config.recipe, pretrained=True, lr=1e-5)
    assert (options.epochs, options.batch_size) == (60, 64)
    rates = [options.learning_rate(epoch * 10, 10) for epoch in (0, 19, 20, 39, 40, 59)]
    assert np.allclose(rates, [1e-5, 1e-5, 5e-6, 5e-6, 2.5e-6, 2.5e-6])


class TestFilenameList:
    def sample(self, folder, name, angles):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / f"{name}.jpg")
        pose_para = np.array([[*np.radians(angles), 1.0, 1.0, 0.0, 0.01]])
        savemat(folder / f"{name}.mat", {"Pose_Para": pose_para})

    def test_leaves_out_steep_poses_and_files_without_a_picture(self, tmp_path):
        self.sample(tmp_path, "AFW/b", (10, 20, 30))
        self.sample(tmp_path, "AFW/a", (98.9, 0, 0))
        self.sample(tmp_path, "AFW_Flip/c", (0, 0, -99.5))
        (tmp_path / "Code").mkdir()
        savemat(tmp_path / "Code" / "Model.mat", {"shape": np.zeros((3, 3))})
        done = run(
            "create_filename_list.py",
            *("--root_dir", tmp_path, "--filename", "mine.txt"),
            folder=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "mine.txt").read_text() == "AFW/a\nAFW/b\n"
        assert "2 names; 1 have an angle outside" in done.stdout

    def test_errors_are_one_sentence(self, tmp_path):
        (tmp_path / "only.mat").write_bytes(b"")
        for folder, word in (("missing", "no such folder"), (".", "no .jpg")):
            done = run("create_filename_list.py", "--root_dir", folder, folder=tmp_path)
            assert done.returncode == 2
            assert done.stderr.startswith("error: ")
            assert word in done.stderr
            assert done.stderr.count("\n") == 1


class TestTokens:
    def test_what_is_seen_is_what_the_network_does(self):
        mx.random.seed(0)
        model = small(regions=11)
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        view = view_tokens(model, image)
        outputs = model(mx.array(image)[None])
        assert np.allclose(view.pose, model.decode(outputs)[0], atol=1e-3)
        assert view.token_poses.shape == (11, 3)
        assert view.similarity.shape == (3, 11, 11)
        assert np.allclose(view.similarity.diagonal(axis1=1, axis2=2), 1, atol=1e-5)
        tokens = np.array(model.head.tokens[0])
        cosine = tokens[2] @ tokens[5] / np.linalg.norm(tokens[2]) / np.linalg.norm(tokens[5])
        assert np.isclose(view.similarity[0, 2, 5], cosine, atol=1e-5)
        assert view.among.shape == (2, 11, 11)
        assert np.allclose(view.among.sum(-1), 1, atol=1e-5)
        assert view.face.shape == (2, 11, 4, 4)
        assert ((view.face.sum((-1, -2)) > 0) & (view.face.sum((-1, -2)) < 1)).all()

    def test_a_token_looks_where_its_key_is(self):
        """A block whose keys are the position's rows makes every token look at the lowest row."""
        model = small(layers=1)
        dim, row = 32, 3
        block = model.head.blocks[0]
        weight = np.zeros((3 * dim, dim), np.float32)
        model.head.tokens = mx.ones((1, 9, dim)) * mx.arange(dim)  # not flat, or norm gives 0
        model.head._position = mx.zeros((16, dim))
        model.head._position[4 * row : 4 * row + 4, 0] = 1
        model.head.project.weight = mx.zeros_like(model.head.project.weight)
        model.head.project.bias = mx.zeros_like(model.head.project.bias)
        weight[:dim, -1] = 20  # queries: the tokens' last, largest entry
        weight[dim : 2 * dim, 0] = 20  # keys: the row
        block.attn.qkv.weight = mx.array(weight)
        view = view_tokens(model, np.zeros((64, 64, 3), np.uint8))
        assert (view.face[0].sum(-1).argmax(-1) == row).all()
        assert np.allclose(view.face[0, :, row].sum(-1), 1, atol=1e-3)

    def test_other_methods_have_none(self):
        model = build(HopeNet(arch="squeezenet1_1"))
        with pytest.raises(InputError, match="no orientation tokens"):
            view_tokens(model, np.zeros((224, 224, 3), np.uint8))

    def test_names_follow_the_regions(self):
        assert region_names(9)[0] == "yaw > 40, pitch > 30"
        assert region_names(9)[8] == "yaw < -40, pitch < -30"
        assert region_names(11)[4] == "yaw 20..60"
        assert len(region_names(11)) == 11

    def test_the_command(self, shared, tmp_path):
        pytest.importorskip("matplotlib")
        save_pretrained(small(), tmp_path / "t.safetensors")
        done = installed(
            *("tokens", "--snapshot", "t.safetensors"),
            *("--image", shared / "data" / "AFLW2000" / "image00004.jpg"),
            *("--box", 150, 150, 300, 330, "--output", "t.png"),
            folder=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert "region" in done.stdout
        with Image.open(tmp_path / "t.png") as picture:
            assert min(picture.size) > 500
            assert np.asarray(picture.convert("RGB")).std() > 20


def test_written_for_pytorch_and_read_back(tmp_path):
    model = small(regions=11)
    write_torch(model, tmp_path / "t.tar")
    convert_file(tmp_path / "t.tar", tmp_path / "t.safetensors")
    back = from_pretrained(tmp_path / "t.safetensors")
    assert back.config.regions == 11
    assert back.config.preprocessing == model.config.preprocessing
    ours = tensors_of(model)
    assert all(mx.array_equal(value, ours[name]) for name, value in tensors_of(back).items())
    with pytest.raises(InputError, match="resnet stem"):
        write_torch(small(stem="resnet"), tmp_path / "u.tar")


def test_a_wrong_input_size_is_one_sentence():
    model = small()
    with pytest.raises(InputError, match="positions"):
        model(mx.zeros((1, 80, 80, 3)))
