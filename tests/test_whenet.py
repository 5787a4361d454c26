"""WHENet: the network against the authors' own outputs, Keras weights, loss and decoding."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.commands import run
from support.converted import seeded_network

from mlx_headpose.core.crop import AROUND_HEAD, AROUND_POINTS
from mlx_headpose.data import open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.whenet.checkpoint import FORMATS
from mlx_headpose.methods.whenet.network import BINS, Config, soft_labels, wrapped_square
from mlx_headpose.readers.h5 import read_h5
from mlx_headpose.weights import from_pretrained, save_tensors

[FORMAT] = FORMATS


def test_has_the_published_number_of_parameters():
    model = build(Config())
    assert sum(v.size for _, v in tree_flatten(model.parameters())) == 4_372_376
    assert sum(v.size for _, v in tree_flatten(model.trainable_parameters())) == 4_330_360


def test_equals_the_published_implementation(shared, seeded):
    model = seeded_network(seeded, "whenet_keras")
    golden = np.load(shared / "golden" / "whenet_keras_224.npz")
    outputs = model(mx.array(seeded.seeded_image(224)))
    for index, output in enumerate(outputs):
        expected = golden[f"output{index}"]
        error = np.abs(np.array(output) - expected).max() / np.abs(expected).max()
        # Both implementations lie about 1e-4 from the same sums in float64.
        assert error < 4e-4, f"output {index}: {error}"


@pytest.mark.parametrize("size", [64, 96, 100])
def test_takes_any_input_size_and_trains(size):
    mx.random.seed(0)
    model = build(Config())
    outputs = model(mx.random.randint(0, 255, (2, size, size, 3)).astype(mx.uint8))
    assert [o.shape for o in outputs] == [(2, 120), (2, 66), (2, 66)]
    loss, parts = model.loss(outputs, mx.array([[179.0, 0, 0], [-179.0, 98, -120]]))
    assert set(parts) == {"yaw", "pitch", "roll"}
    assert np.isclose(loss.item(), sum(p.item() for p in parts.values()), rtol=1e-5)
    assert np.isfinite(loss.item())


def test_blocks_begin_as_their_shortcuts():
    blocks = build(Config(drop_connect=0)).backbone.blocks
    shortcuts = [block for block in blocks if block.residual]
    assert len(shortcuts) == 9
    x = mx.random.normal((2, 4, 4, 24))
    assert mx.array_equal(shortcuts[0](x), x)
    branch = next(block for block in blocks if not block.residual)
    assert mx.array_equal(branch.project.norm.weight, mx.ones((16,)))


def test_wrapped_square_joins_the_seam():
    # Equation 3: min(|d|², (360 − |d|)²).
    d = mx.array([0.0, 10.0, -10.0, 180.0, 358.0, -358.0, 360.0])
    assert np.allclose(np.array(wrapped_square(d)), [0, 100, 100, 32400, 4, 4, 0])


def logits_at(*bins, count=120):
    logits = np.full((1, count), -50.0, np.float32)
    logits[0, list(bins)] = 0
    return mx.array(logits)


def test_loss_is_hopenets_with_yaw_wrapped():
    """Against torch: cross entropy of the bin and squared error of the expectation."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(8, n)).astype(np.float32) for n in (120, 66, 66)]
    pose = np.stack(
        [rng.uniform(-180, 180, 8), rng.uniform(-90, 90, 8), rng.uniform(-90, 90, 8)], 1
    ).astype(np.float32)
    model = build(Config(alpha=0.5))
    total, parts = model.loss(tuple(map(mx.array, logits)), mx.array(pose))
    for i, (name, start) in enumerate((("yaw", -180), ("pitch", -99), ("roll", -99))):
        raw = torch.from_numpy(logits[i])
        label = torch.from_numpy(((pose[:, i] - start) // 3).astype(np.int64))
        angles = (torch.softmax(raw, 1) * torch.arange(raw.shape[1])).sum(1) * 3 + start
        d = (angles - torch.from_numpy(pose[:, i])).abs()
        if name == "yaw":
            d = torch.minimum(d, 360 - d)
        expected = torch.nn.functional.cross_entropy(raw, label) + 0.5 * (d**2).mean()
        assert np.isclose(parts[name].item(), expected.item(), rtol=1e-4)
    assert np.isclose(total.item(), sum(p.item() for p in parts.values()), rtol=1e-5)


def test_loss_takes_180_as_minus_180_and_clamps_steep_pitch():
    model = build(Config(alpha=1.0))
    outputs = (logits_at(0), logits_at(65, count=66), logits_at(0, count=66))
    _, parts = model.loss(outputs, mx.array([[180.0, 120.0, -120.0]]))
    assert parts["yaw"].item() < 1e-3  # same bin, same angle
    assert np.isclose(parts["pitch"].item(), 24.0**2, rtol=1e-3)  # cross entropy 0
    assert np.isclose(parts["roll"].item(), 21.0**2, rtol=1e-3)


def test_decodings_agree_away_from_the_seam():
    circular, published = build(Config()), build(Config(decoding="expectation"))
    for bins in [(10, 12), (60, 61), (30, 31, 32)]:
        outputs = (logits_at(*bins), logits_at(33, count=66), logits_at(40, count=66))
        assert np.allclose(circular.decode(outputs), published.decode(outputs), atol=1e-2)


@pytest.mark.parametrize(("name", "angle"), [("yaw", 179.0), ("yaw", -12.3), ("pitch", 41.7)])
def test_soft_labels_stand_for_their_angle(name, angle):
    bins = BINS[name]
    labels = soft_labels(mx.array([angle]), bins, 10.0)
    assert np.isclose(labels.sum().item(), 1, atol=1e-6)
    decode = bins.circular_expectation if bins.circular else bins.expectation
    assert np.isclose(decode(mx.log(labels)).item(), angle, atol=0.02)
    # The loss is smaller where the network says just that.
    model = build(Config(label_width=10.0, alpha=0.0))
    outputs = [mx.zeros((1, b.count)) for b in BINS.values()]
    index = list(BINS).index(name)
    pose = mx.array([[angle if i == index else 0.0 for i in range(3)]])
    at_random = model.loss(tuple(outputs), pose)[1][name].item()
    outputs[index] = mx.log(labels + 1e-30)
    assert model.loss(tuple(outputs), pose)[1][name].item() < at_random - 0.5


# Bins 119 and 0 are 177° and −180°: neighbours, whose mean is 178.5°.
@pytest.mark.parametrize(("decoding", "yaw"), [("circular", 178.5), ("expectation", -1.5)])
def test_decoding_is_the_configs(decoding, yaw):
    outputs = (logits_at(0, 119), logits_at(33, count=66), logits_at(40, count=66))
    model = build(Config(decoding=decoding))
    assert np.allclose(np.array(model.decode(outputs)), [[yaw, 0, 21]], atol=1e-2)
    assert model.confidence(outputs).item() == pytest.approx(1, abs=1e-3)


def test_checkpoint_round_trip(tmp_path):
    model = build(Config(decoding="expectation"))
    tensors = dict(tree_flatten(model.parameters()))
    save_tensors(tmp_path / "w.safetensors", tensors, model.config.to_dict())
    loaded = from_pretrained(tmp_path / "w.safetensors")
    assert loaded.config == model.config
    assert all(mx.array_equal(v, tensors[k]) for k, v in tree_flatten(loaded.parameters()))


@pytest.mark.parametrize(
    "options",
    [{"decoding": "median"}, {"drop_connect": 1.0}, {"alpha": float("nan")}, {"label_width": -1.0}],
)
def test_config_refuses_nonsense(options):
    with pytest.raises(InputError):
        Config(**options)


class TestKerasFile:
    @pytest.mark.parametrize("full_model", [False, True], ids=["save_weights", "save"])
    def test_converts_every_tensor(self, full_model, seeded, tmp_path):
        path = tmp_path / "WHENet.h5"
        seeded.write_keras_h5("whenet_keras", path, full_model=full_model)
        tensors = read_h5(path)
        assert FORMAT.matches(tensors)
        expected = seeded.seeded_state_dict("whenet_keras")
        assert list(tensors) == list(expected)
        assert all(np.array_equal(tensors[k], v) for k, v in expected.items())
        conversion = FORMAT.convert(tensors)
        assert not conversion.left_out
        assert sum(v.size for v in conversion.tensors.values()) == 4_372_376

    def test_the_numbers_in_names_do_not_matter(self, seeded):
        tensors = seeded.seeded_state_dict("whenet_keras")
        renamed = {renumber(name): value for name, value in tensors.items()}
        assert list(renamed) != list(tensors)
        assert FORMAT.matches(renamed)
        ours, theirs = FORMAT.convert(renamed).tensors, FORMAT.convert(tensors).tensors
        assert all(np.array_equal(ours[k], theirs[k]) for k in theirs)

    def test_pitch_and_roll_are_told_apart_by_name(self, seeded):
        tensors = seeded.seeded_state_dict("whenet_keras")
        items = list(tensors.items())
        swapped = dict(items[:-4] + items[-2:] + items[-4:-2])
        assert FORMAT.matches(swapped)
        assert np.array_equal(
            FORMAT.convert(swapped).tensors["head.pitch.weight"], tensors["pitch_new/kernel:0"].T
        )

    def test_a_missing_or_foreign_tensor_is_no_whenet(self, seeded):
        tensors = seeded.seeded_state_dict("whenet_keras")
        assert not FORMAT.matches(dict(list(tensors.items())[:-1]))
        assert not FORMAT.matches({})
        assert not FORMAT.matches(tensors | {"extra/kernel:0": np.zeros((3, 3))})


def renumber(name):
    layer, leaf = name.split("/")
    stem, _, number = layer.rpartition("_")
    return f"{stem}_{int(number) + 230}/{leaf}" if number.isdigit() else name


class TestHostileFile:
    @pytest.fixture
    def h5(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "hostile.h5"

        def write(fill):
            with h5py.File(path, "w") as file:
                file.attrs["layer_names"] = np.array([b"dense"])
                group = file.create_group("dense")
                group.attrs["weight_names"] = np.array([b"dense/kernel:0"])
                fill(file, group, h5py)
            return path

        return write

    def test_plain(self, h5):
        path = h5(lambda f, g, h: g.create_dataset("dense/kernel:0", data=np.ones((2, 3))))
        assert read_h5(path)["dense/kernel:0"].shape == (2, 3)

    def test_external_link(self, h5):
        def fill(file, group, h5py):
            group.create_group("dense")["kernel:0"] = h5py.ExternalLink("other.h5", "/secret")

        with pytest.raises(InputError, match="another file"):
            read_h5(h5(fill))

    def test_external_storage(self, h5, tmp_path):
        (tmp_path / "secret").write_bytes(b"x" * 64)

        def fill(file, group, h5py):
            group.create_dataset(
                "dense/kernel:0", (8,), "f8", external=[(str(tmp_path / "secret"), 0, 64)]
            )

        with pytest.raises(InputError, match="another file"):
            read_h5(h5(fill))

    @pytest.mark.parametrize(
        "options",
        [
            {"shape": (1 << 40,), "dtype": "f4", "chunks": (1024,)},
            {"shape": (1 << 20,), "dtype": "f4", "chunks": (1024,)},
            {"data": np.zeros(1 << 20), "compression": "gzip"},
        ],
        ids=["petabyte", "never written", "bomb"],
    )
    def test_claimed_size(self, h5, options):
        with pytest.raises(InputError, match=r"claims|compressed"):
            read_h5(h5(lambda f, g, h: g.create_dataset("dense/kernel:0", **options)))

    def test_text_in_place_of_numbers(self, h5):
        with pytest.raises(InputError, match="numbers"):
            read_h5(h5(lambda f, g, h: g.create_dataset("dense/kernel:0", data=[b"x"])))

    def test_missing_tensor(self, h5):
        with pytest.raises(InputError, match="kernel:0 is missing"):
            read_h5(h5(lambda f, g, h: g.create_group("dense")))

    def test_no_keras_file(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = [1, 2]
        with pytest.raises(InputError, match="layer_names"):
            read_h5(tmp_path / "a.h5")
        (tmp_path / "b.h5").write_bytes(b"not HDF5" * 100)
        with pytest.raises(InputError, match=r"b\.h5"):
            read_h5(tmp_path / "b.h5")
        with pytest.raises(InputError, match="no such file"):
            read_h5(tmp_path / "c.h5")

    def test_truncated_anywhere(self, h5):
        path = h5(lambda f, g, h: g.create_dataset("dense/kernel:0", data=np.ones((20, 30))))
        data = path.read_bytes()
        for length in range(0, len(data), 97):
            path.write_bytes(data[:length])
            with pytest.raises(InputError):
                read_h5(path)


def test_convert_command(seeded, shared, tmp_path):
    source, output = tmp_path / "WHENet.h5", tmp_path / "whenet.safetensors"
    seeded.write_keras_h5("whenet_keras", source)
    done = run("convert.py", "--weight", source, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "WHENet" in done.stdout
    golden = np.load(shared / "golden" / "whenet_keras_224.npz")["output1"]
    output1 = from_pretrained(output)(mx.array(seeded.seeded_image(224)))[1]
    assert np.abs(np.array(output1) - golden).max() < 4e-4 * np.abs(golden).max()


def test_reads_sets_without_head_boxes(shared):
    dataset = open_dataset("AFLW2000", shared / "data" / "AFLW2000", crop=AROUND_HEAD)
    assert (
        dataset.margins == AROUND_POINTS.test
    )  # no head boxes: a loose box holds most of the head
