"""Landmarks as a further target of training: their places, their loss, and that nothing is left."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

from mlx_headpose.cli import main
from mlx_headpose.core.crop import AROUND_LANDMARKS
from mlx_headpose.core.inputs import ImageInput
from mlx_headpose.core.landmarks import MIRRORED, POINTS, in_crop
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import open_dataset
from mlx_headpose.data.augment import FLIP, UNCHANGED, Augmentation, apply, mirrored
from mlx_headpose.methods import build
from mlx_headpose.methods.rotation9d.network import Config
from mlx_headpose.quantization import quantize_int8, quantize_weights
from mlx_headpose.readers.safetensors_file import load_tensors, read_config
from mlx_headpose.synthetic import SyntheticHeads
from mlx_headpose.synthetic.mesh.places import LANDMARKS_68
from mlx_headpose.synthetic.rendered import COLUMNS
from mlx_headpose.weights import (
    for_inference,
    from_pretrained,
    load_to_train,
    save_pretrained,
    tensors_of,
)

SIZE = 64
SMALL = Config(preprocessing=Preprocessing(size=32), stages=2, width=32, landmarks=True)


def a_set(folder: Path, points: np.ndarray | None, split: str = "train", count: int = 1) -> Path:
    """A rendered set of black images with a white dot at a landmark, the last one in `points`."""
    part = folder / split
    (part / "000").mkdir(parents=True)
    with (part / "heads.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(count):
            name = f"000/{number:06}.jpg"
            pixels = np.zeros((400, 400, 3), np.uint8)
            if points is not None:
                x, y = points[number, -1, :2].astype(int)
                pixels[y - 6 : y + 6, x - 6 : x + 6] = 255
            Image.fromarray(pixels).save(part / name, quality=95)
            pose = (10 + number % 50, 5, -5)
            writer.writerow([name, 100, 90, 200, 240, *pose, 120, 130, 150, 150])
    if points is not None:
        np.save(part / "landmarks.npy", points.astype(np.float32))
    return folder


def dotted(count: int, seed: int = 0) -> np.ndarray:
    """(count, 68, 3) landmarks in the middle of images of 400 pixels."""
    rng = np.random.default_rng(seed)
    points = rng.integers(170, 231, (count, POINTS, 2))
    return np.concatenate((points, np.ones((count, POINTS, 1))), axis=2)


def middle_of_dot(image: np.ndarray) -> np.ndarray:
    """(2,) x and y of an image's bright pixels in half images, from its middle."""
    weight = image.astype(float).sum(-1)
    places = (np.arange(len(image)) + 0.5) / len(image) * 2 - 1
    return np.array([weight.sum(0) @ places, weight.sum(1) @ places]) / max(weight.sum(), 1)


@pytest.mark.parametrize("resize", ["squash", "short_side", "pad"])
def test_landmarks_lie_in_the_crop_where_the_image_shows_them(tmp_path, resize):
    dataset = open_dataset(
        "rendered", a_set(tmp_path, dotted(12), count=12), train=True, crop=AROUND_LANDMARKS
    )
    reads = ImageInput(Preprocessing(size=SIZE, resize=resize), learns_landmarks=True)
    augmentation = Augmentation(1.0, turn=180, rescale=1.5)
    samples = [
        reads.training_sample(dataset, i, np.random.default_rng((s, i)), augmentation)
        for i in range(12)
        for s in range(6)
    ]
    images, targets, changes = (np.stack(part) for part in zip(*samples, strict=True))
    assert targets.shape == (72, *reads.target)
    for column, value in enumerate(UNCHANGED):
        if column != FLIP:
            changes[:, column] = value
    flipped = changes[:, FLIP] == 1
    assert 5 < flipped.sum() < 40
    pixels, after = apply(mx.array(images), mx.array(targets.astype(np.float32)), mx.array(changes))
    places = np.array(after)[:, 3:].reshape(-1, POINTS, 2)
    last = np.where(flipped, MIRRORED[-1], POINTS - 1)
    found = np.stack([middle_of_dot(image) for image in np.array(pixels)])
    # Dots near the edge are cut off, and then their middle is another.
    wanted = places[np.arange(72), last]
    inside = (np.abs(wanted) < 0.8).all(1)
    assert inside.sum() > 35
    assert np.abs(wanted).max(0).min() > 0.25, "not all in the middle"
    np.testing.assert_allclose(found[inside], wanted[inside], atol=0.03)


def test_in_crop_by_hand():
    box = np.array([10.0, 20, 30, 60])
    corners = np.array([[10.0, 20], [30, 60], [20, 40]])
    np.testing.assert_allclose(in_crop(corners, box), [[-1, -1], [1, 1], [0, 0]])
    # A quarter turn clockwise takes what is above the middle to its right.
    np.testing.assert_allclose(in_crop(np.array([20.0, 30]), box, 90), [1, 0], atol=1e-9)


def test_mirror_images_are_the_other_sides_landmarks():
    assert (MIRRORED[MIRRORED] == np.arange(POINTS)).all()
    assert [MIRRORED[i] for i in (0, 17, 31, 36, 37, 41, 48, 60)] == [
        *(16, 26, 35, 45, 44, 46, 54, 64)
    ]
    assert [i for i in range(POINTS) if MIRRORED[i] == i] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    # The head model's are symmetric, so mirrored they are themselves.
    np.testing.assert_allclose(LANDMARKS_68[MIRRORED] * (-1, 1, 1), LANDMARKS_68, atol=1e-9)
    targets = mx.random.normal((3, 3 + 2 * POINTS))
    assert mx.array_equal(mirrored(mirrored(targets)), targets)
    assert mx.array_equal(mirrored(targets[:, :3]), mirrored(targets)[:, :3])


def gradients(model, images, targets):
    def loss():
        return model.loss(model(images), targets)[0]

    value, tree = nn.value_and_grad(model, loss)()
    return value.item(), dict(tree_flatten(tree))


def test_unknown_landmarks_and_absent_heads_teach_nothing_and_break_nothing():
    mx.random.seed(1)
    model = build(SMALL)
    model.train()
    images = mx.random.randint(0, 256, (4, 32, 32, 3)).astype(mx.uint8)
    poses = mx.random.uniform(-40, 40, (4, 3))
    places = mx.random.uniform(-1, 1, (4, 2 * POINTS))
    unknown = mx.full((4, 2 * POINTS), float("nan"))
    value, none = gradients(model, images, mx.concatenate([poses, unknown], axis=1))
    alone = model.loss(model(images)[:1], poses)[0].item()
    assert value == pytest.approx(alone, abs=1e-6)
    assert (none["head.landmarks.weight"] == 0).all().item()
    assert all(mx.isfinite(g).all().item() for g in none.values())
    known = mx.array([True, False, True, False])[:, None]
    mixed = mx.concatenate([poses, mx.where(known, places, unknown)], axis=1)
    mixed = mx.where(mx.arange(139)[None] >= 3, mixed, mx.where(known, mixed, float("nan")))
    _, some = gradients(model, images, mixed)
    assert all(mx.isfinite(g).all().item() for g in some.values())
    assert mx.abs(some["head.landmarks.weight"]).sum().item() > 0
    # Of the unknown ones the outputs do not matter.
    outputs = model(images)
    moved = (outputs[0], mx.where(known[..., None], outputs[1], outputs[1] + 5))
    first, second = (model.loss(o, mixed)[1]["landmarks"].item() for o in (outputs, moved))
    assert first == second
    assert np.isfinite(np.array(model.error(outputs, mixed))).all()
    # By hand, over the known samples.
    off = np.array(outputs[1])[::2] - np.array(places).reshape(4, POINTS, 2)[::2]
    assert first == pytest.approx(np.hypot(*np.moveaxis(off, -1, 0)).mean(), abs=1e-3)


def test_training_lowers_both_parts():
    mx.random.seed(0)
    model = build(SMALL)
    model.train()
    images = mx.random.randint(0, 256, (8, 32, 32, 3)).astype(mx.uint8)
    poses = mx.random.uniform(-1, 1, (8, 3)) * mx.array([180.0, 40, 40])
    targets = mx.concatenate([poses, mx.random.uniform(-1, 1, (8, 2 * POINTS))], axis=1)
    optimizer = optim.Adam(1e-3)
    step = nn.value_and_grad(model, lambda: model.loss(model(images), targets)[0])
    before = {k: v.item() for k, v in model.loss(model(images), targets)[1].items()}
    for _ in range(60):
        _, tree = step()
        optimizer.update(model, tree)
    after = {k: v.item() for k, v in model.loss(model(images), targets)[1].items()}
    assert set(after) == {"distance", "landmarks"}
    assert all(after[name] < 0.5 * before[name] for name in after)


def test_inference_has_no_trace_of_it(tmp_path):
    mx.random.seed(2)
    model = build(SMALL)
    model.eval()
    images = mx.random.randint(0, 256, (3, 32, 32, 3)).astype(mx.uint8)
    outputs = model(images)
    assert len(outputs) == 1
    slim = for_inference(model)
    assert slim.config == dataclasses.replace(SMALL, landmarks=False)
    assert set(tensors_of(model)) - set(tensors_of(slim)) == {
        *("head.landmarks.weight", "head.landmarks.bias")
    }
    assert mx.array_equal(slim(images)[0], outputs[0])
    assert for_inference(slim) is slim
    save_pretrained(slim, tmp_path / "slim.safetensors")
    save_pretrained(build(slim.config), tmp_path / "plain.safetensors")
    held, usual = (load_tensors(tmp_path / f"{n}.safetensors") for n in ("slim", "plain"))
    assert {n: v.shape for n, v in held.items()} == {n: v.shape for n, v in usual.items()}
    assert not read_config(tmp_path / "slim.safetensors")["landmarks"]
    assert mx.array_equal(from_pretrained(tmp_path / "slim.safetensors")(images)[0], outputs[0])


@pytest.mark.parametrize("scheme", ["int8", "mlx8"])
def test_quantised_networks_lose_the_layer_as_well(tmp_path, scheme):
    model = build(SMALL)
    model.eval()
    images = mx.random.randint(0, 256, (4, 32, 32, 3)).astype(mx.uint8)
    inputs = np.array(images)
    small = quantize_int8(model, inputs) if scheme == "int8" else quantize_weights(model, 8, inputs)
    slim = for_inference(small)
    assert not [name for name in tensors_of(slim) if "landmarks" in name]
    save_pretrained(slim, tmp_path / "slim.safetensors")
    read = from_pretrained(tmp_path / "slim.safetensors")
    assert read.config == SMALL.for_inference()
    assert mx.array_equal(read(images)[0], small(images)[0])


def test_weights_to_start_from_may_lack_that_layer_and_no_other():
    plain = build(SMALL.for_inference())
    model = build(SMALL)
    begun = mx.array(model.head.landmarks.weight)
    tensors = {name: value + 1 for name, value in tensors_of(plain).items()}
    assert sorted(load_to_train(model, tensors, "x")) == [
        *("head.landmarks.bias", "head.landmarks.weight")
    ]
    assert mx.array_equal(model.head.landmarks.weight, begun)
    assert mx.array_equal(model.head.fc2.weight, tensors["head.fc2.weight"])
    assert load_to_train(build(SMALL), tensors_of(model), "x") == []
    assert load_to_train(plain, tensors_of(model), "x") == []
    assert mx.array_equal(plain.head.fc2.weight, model.head.fc2.weight)
    assert "landmarks" not in plain.head
    del tensors["head.fc2.weight"]
    with pytest.raises(ValueError, match=r"head\.fc2\.weight is missing"):
        load_to_train(build(SMALL), tensors, "x")


def test_train_py_learns_them_and_goes_on_from_a_network_without(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_set(tmp_path / "heads", dotted(16), count=16)
    a_set(tmp_path / "heads", None, "val", 2)
    a_set(tmp_path / "heads", None, "train-others", 4)  # whose landmarks nobody knows
    save_pretrained(build(SMALL.for_inference()), "plain.safetensors")
    words = "--dataset rendered --data_dir heads --batch_size 10 --num_epochs 2 --lr 0.001 --gpu -1"
    line = f"{words} --snapshot plain.safetensors --landmarks --output_string with"
    main("train", line.split())
    said = capsys.readouterr().out
    assert "plain.safetensors lacks what only training uses" in said
    assert "head.landmarks.weight" in said
    records = [json.loads(r) for r in Path("workdirs_with/training.log").read_text().splitlines()]
    parts = [record["parts"] for record in records if record["kind"] == "epoch"]
    assert [set(p) for p in parts] == [{"distance", "landmarks"}] * 2
    assert read_config("workdirs_with/best.safetensors")["landmarks"]
    line = "--snapshot workdirs_with/best.safetensors --output slim.safetensors"
    main("export", line.split())
    assert from_pretrained("slim.safetensors").config == SMALL.for_inference()
    # Without --landmarks it is trained further on what has none, and keeps no layer for them.
    a_set(tmp_path / "bare", None, count=12)
    a_set(tmp_path / "bare", None, "val", 2)
    line = f"{words.replace('heads', 'bare')} --snapshot workdirs_with/best.safetensors"
    main("train", [*line.split(), "--output_string", "on"])
    assert from_pretrained("workdirs_on/best.safetensors").config == SMALL.for_inference()


def test_sets_without_landmarks_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_set(tmp_path / "heads", None, "train", 4)
    a_set(tmp_path / "heads", None, "val", 2)
    words = "--model rotation9d --dataset rendered --data_dir heads --landmarks"
    with pytest.raises(SystemExit) as stop:
        main("train", words.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "none of its images has known landmarks" in error
    assert "\n" not in error


def test_synthetic_heads_have_landmarks_to_learn():
    heads = SyntheticHeads(2, "val", size=64, jitter=0)
    places = heads.image_landmarks(1)
    np.testing.assert_array_equal(places, heads.rendered(1)[1])
    box = np.concatenate((places[:, :2].min(0), places[:, :2].max(0)))
    np.testing.assert_allclose(box, heads.boxes[1], atol=0.01)
    reads = ImageInput(Preprocessing(size=32, resize="squash"), learns_landmarks=True)
    opened = reads.open(heads, train=True)
    _, target, _ = reads.training_sample(opened, 1, np.random.default_rng(0), None)
    box = heads.crop_box(1, np.random.default_rng(0))
    np.testing.assert_allclose(target[3:].reshape(-1, 2), in_crop(places[:, :2], box), atol=1e-5)
    assert np.abs(target[3:]).max() < 1


def test_train_py_learns_them_from_synthetic_heads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(build(SMALL.for_inference()), "plain.safetensors")
    words = "--dataset synthetic --samples 12 --batch_size 6 --num_epochs 1 --lr 0.001 --gpu -1"
    main("train", [*words.split(), "--snapshot", "plain.safetensors", "--landmarks"])
    (log,) = Path().glob("workdirs*/training.log")
    records = map(json.loads, log.read_text().splitlines())
    (parts,) = (record["parts"] for record in records if record["kind"] == "epoch")
    assert np.isfinite(parts["landmarks"])
