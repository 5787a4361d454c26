"""The pyramid network: parity with the published code, its loss, and its checkpoints."""

from __future__ import annotations

import re
from types import ModuleType

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.converted import network_of

from mlx_headpose.core.checkpoint import Conversion
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build, config_from_dict
from mlx_headpose.methods.pyramid import checkpoint as convert
from mlx_headpose.methods.pyramid.network import Config, arch_name, labels
from mlx_headpose.weights import load_strictly

FORMS = {
    "pyramid": "pyramid_efficientnet_v2_s",
    "pyramid_pfas": "pyramid_pfas_efficientnet_v2_s",
}


def recognise(tensors: dict[str, np.ndarray]) -> Conversion:
    matching = [form for form in convert.FORMATS if form.matches(tensors)]
    assert len(matching) == 1
    return matching[0].convert(tensors)


def relative(ours: mx.array, theirs: np.ndarray) -> float:
    return float(np.abs(np.array(ours) - theirs).max() / np.abs(theirs).max())


def torch_outputs(module: ModuleType, form: str, state: dict[str, np.ndarray], images: np.ndarray):
    import torch

    model = module.TorchPyramid(form=form)
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    model.eval()
    with torch.no_grad():
        outputs = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return [output.numpy() for output in outputs]


def calm(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Seeded weights with the residual blocks' outputs halved.

    As they are, the seeded weights saturate the attention: PyTorch itself in float64, or with its
    channels last, is 0.005 to 0.1 away from its float32 outputs. Any two orders of summation are.
    """
    state = dict(state)
    for name in state:
        if name.endswith("point_wise.1.weight"):
            state[name] = 0.5 * state[name]
    return state


@pytest.mark.parametrize("form", FORMS)
def test_the_torch_network_gives_the_golden_outputs(shared, seeded, torch_pyramid, form):
    """So what agrees with this network agrees with the published one.

    It must sum in the golden run's order for that (see `calm`), which threads change.
    """
    import torch

    name = FORMS[form]
    state, images = seeded.seeded_state_dict(name), seeded.seeded_image(224)
    distances = []
    threads = torch.get_num_threads()
    try:
        for number in (2, 1, 4):
            torch.set_num_threads(number)
            outputs = torch_outputs(torch_pyramid, form, state, images)
            with np.load(shared / "golden" / f"{name}_224.npz") as golden:
                pairs = [(mx.array(o), golden[f"output{i}"]) for i, o in enumerate(outputs)]
            distances.append(max(relative(ours, theirs) for ours, theirs in pairs))
            if distances[-1] < 1e-4:
                return
    finally:
        torch.set_num_threads(threads)
    assert max(distances) < 0.15
    pytest.skip(f"PyTorch sums in another order on this processor, and is {min(distances):.0e} off")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [224, 96])
def test_outputs_equal_the_torch_networks(seeded, torch_pyramid, form, size):
    state = calm(seeded.seeded_state_dict(FORMS[form]))
    images = seeded.seeded_image(size)
    expected = torch_outputs(torch_pyramid, form, state, images)
    for ours, theirs in zip(network_of(recognise(state))(mx.array(images)), expected, strict=True):
        assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_golden_outputs_as_closely_as_rounding_lets_them(shared, seeded, form):
    """A change of the image by one rounding error moves these outputs by 0.05 and more: `calm`."""
    name = FORMS[form]
    model = network_of(recognise(seeded.seeded_state_dict(name)))
    image = mx.array(seeded.seeded_image(224))
    outputs = model(image)
    with np.load(shared / "golden" / f"{name}_224.npz") as golden:
        distance = max(relative(o, golden[f"output{i}"]) for i, o in enumerate(outputs))
    # One change may happen to move them little, so several are tried.
    moved = (model(image * (1 + change)) for change in (1e-7, -1e-7, 2e-7, -2e-7, 5e-7))
    rounding = max(
        relative(b, np.array(a)) for other in moved for a, b in zip(outputs, other, strict=True)
    )
    assert distance < min(4 * rounding, 0.3)


@pytest.mark.parametrize(("form", "count"), [("pyramid", 8_004_648), ("pyramid_pfas", 7_955_496)])
def test_parameters_as_the_published_code_counts_them(form, count):
    model = build(Config(form=form))
    assert sum(value.size for _, value in tree_flatten(model.trainable_parameters())) == count


@pytest.mark.parametrize("size", "sml")
@pytest.mark.parametrize("form", FORMS)
def test_every_manifest_converts_and_comes_back(seeded, size, form):
    rows = seeded.manifest(FORMS[form][:-1] + size)
    source = {name: np.zeros(shape, dtype) for name, shape, dtype in rows}
    conversion = recognise(source)
    assert conversion.config["form"] == form
    assert conversion.config["arch"] == f"efficientnetv2_{size}"
    tensors = {name: mx.array(value) for name, value in conversion.tensors.items()}
    load_strictly(build(config_from_dict(conversion.config)), tensors, "manifest")
    back = convert.to_torch(conversion.config, tensors)["model"]
    assert [[name, list(value.shape), str(value.dtype)] for name, value in back.items()] == rows


@pytest.mark.parametrize("form", FORMS)
def test_the_way_back_changes_no_number(seeded, form):
    source = seeded.seeded_state_dict(FORMS[form])
    conversion = recognise(source)
    back = convert.to_torch(
        conversion.config, {name: mx.array(value) for name, value in conversion.tensors.items()}
    )["model"]
    for name, value in source.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], value, err_msg=name)


@pytest.mark.parametrize("size", "sml")
def test_both_imagenet_forms_give_the_same_backbone(seeded, size):
    """Shapes of all sizes, and for S the numbers: TensorFlow's are made of PyTorch's here."""
    name = f"imagenet21k_efficientnetv2_{size}"
    if size == "s":
        state = seeded.seeded_state_dict(name)
    else:
        state = {n: np.zeros(shape, dtype) for n, shape, dtype in seeded.manifest(name)}
    from_torch = recognise(state)
    rows = seeded.manifest(f"{name}_npy")
    from_tensorflow = recognise({n: tensorflow_tensor(n, shape, state) for n, shape, _ in rows})
    assert from_torch.config == from_tensorflow.config
    for tensor, value in from_torch.tensors.items():
        np.testing.assert_array_equal(from_tensorflow.tensors[tensor], value, err_msg=tensor)
    backbone = build(Config(arch=size)).backbone
    load_strictly(backbone, {k: mx.array(v) for k, v in from_torch.tensors.items()}, name)
    dropped = set(from_torch.left_out)
    assert {"head.classifier.weight", "head.bottleneck.0.weight"} <= dropped


def tensorflow_tensor(name: str, shape: list[int], state: dict[str, np.ndarray]) -> np.ndarray:
    """What TensorFlow would hold under `name`, taken from the PyTorch state dict by order.

    Written from the two layouts alone: blocks' convolutions and norms come in the order of the
    network in both, and are told apart by kind.
    """
    name = name.removesuffix("/ExponentialMovingAverage")
    module, leaf = name.rsplit("/", 1)
    prefix, _, layer = module.rpartition("/")
    squeeze = prefix.endswith("/se")
    torch_prefix = prefix.removesuffix("/se").replace("blocks_", "blocks.") + "."
    inside = [n for n in state if n.startswith(torch_prefix) and (".se." in n) == squeeze]
    if leaf in ("kernel", "depthwise_kernel", "bias"):
        kind = "bias" if leaf == "bias" else "weight"
        convs = [n for n in inside if state[n].ndim != 1 and n.endswith("weight")]
        depthwise = [n for n in convs if state[n].ndim == 4 and state[n].shape[1] == 1]
        if leaf == "depthwise_kernel":
            (found,) = depthwise
            return state[found].transpose(2, 3, 0, 1)
        others = [n for n in convs if n not in depthwise]
        if layer == "dense":
            found = "head.classifier.weight"
        else:
            found = others[int(layer.removeprefix("conv2d").removeprefix("_") or 0)]
        found = re.sub("weight$", kind, found)
        value = state[found]
        if kind == "bias":
            return value
        return value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)
    number = int(layer.removeprefix("tpu_batch_normalization").removeprefix("_") or 0)
    means = [n for n in inside if n.endswith("running_mean")]
    theirs = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }[leaf]
    value = state[means[number].replace("running_mean", theirs)]
    assert list(value.shape) == shape
    return value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("side.down3.0.bias"), "side.down3.0.bias is missing"),
        (lambda s: s.update({"aspp.2.weight": np.zeros(3)}), "does not fit"),
        (lambda s: s.update({"fc_gaze.weight": np.zeros(3)}), "fc_gaze.weight is no tensor"),
        (lambda s: s.pop("blocks.24.block.point_wise.0.weight"), "missing"),
        (
            lambda s: [s.pop(n) for n in list(s) if n.startswith("blocks.24.")],
            "no EfficientNetV2-S, M or L has 24 blocks",
        ),
    ],
)
def test_a_damaged_checkpoint_is_named(seeded, change, message):
    state = {n: np.zeros(s, d) for n, s, d in seeded.manifest(FORMS["pyramid"])}
    change(state)
    with pytest.raises(InputError, match=re.escape(message)):
        recognise(state)


def test_published_loss_and_angles_equal_the_golden(shared):
    with np.load(shared / "golden" / "losses.npz") as golden:
        coarse, shift = golden["pyramid_coarse_logits"], golden["pyramid_shift_logits"]
        pose = mx.array(golden["yaw_pitch_roll_deg"])
        outputs = tuple(
            mx.array(logits[i]) for i in range(3) for logits in (coarse, shift)
        )  # coarse and shift of each angle
        head = build(Config(loss="published")).head
        total, parts = head.loss(outputs, pose)
        expected = golden["pyramid_loss_as_published"]
        np.testing.assert_allclose([parts[a].item() for a in parts], expected, rtol=1e-5)
        assert list(parts) == ["yaw", "pitch", "roll"]
        np.testing.assert_allclose(total.item(), expected.sum(), rtol=1e-5)
        np.testing.assert_allclose(head.decode(outputs), golden["pyramid_angles_deg"], atol=1e-3)
        found = labels(pose)
        np.testing.assert_array_equal(found[0], golden["pyramid_coarse_labels"])
        np.testing.assert_array_equal(found[1], golden["pyramid_shift_labels"])


def logits_of(pose: np.ndarray) -> tuple[mx.array, ...]:
    """Outputs that say exactly this pose, whole degrees within the bins."""
    coarse, shift = labels(mx.array(pose))
    certain = []
    for i in range(3):
        certain += [1e3 * mx.eye(10)[coarse[:, i]], 1e3 * mx.eye(20)[shift[:, i]]]
    return tuple(certain)


def test_the_symmetric_loss_wraps_both_sides_and_the_published_one():
    near, far = np.float32([[-95, 0, 0]]), np.float32([[265 - 1, 0, 0]])  # 1° apart on the circle
    outputs = logits_of(near)
    squares = {}
    for loss in ("symmetric", "published"):
        squares[loss] = [
            float(build(Config(loss=loss)).head.loss(outputs, mx.array(pose))[1]["yaw"])
            for pose in (far, far - 720)
        ]
    entropy = squares["symmetric"][0] - 1
    assert entropy > 0
    assert squares["published"][0] - entropy == pytest.approx(359**2)


def test_decoding_inverts_the_labels():
    pose = np.float32([[-100, 0, 99], [37, -61, 20], [-1, 19, -20]])
    model = build(Config())
    np.testing.assert_allclose(model.decode(logits_of(pose)), pose, atol=1e-3)
    assert np.all(np.array(model.confidence(logits_of(pose))) > 0.999)


def test_poses_outside_the_bins_train_towards_the_nearest():
    pose = mx.array([[179.0, -101.0, 100.0]])
    coarse, shift = labels(pose)
    assert coarse.tolist() == [[9, 0, 9]]
    assert shift.tolist() == [[19, 0, 19]]
    model = build(Config())
    outputs = tuple(mx.zeros((1, n)) for _ in range(3) for n in (10, 20))
    total, _ = model.loss(outputs, pose)
    assert np.isfinite(total.item())


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("4", "s"), ("3", "m"), ("2", "l"), ("EfficientNetV2-S", "s"), ("efficientnet_v2_l", "l")],
)
def test_every_spelling_of_a_backbone(spelling, name):
    assert arch_name(spelling) == f"efficientnetv2_{name}"
    assert Config(arch=spelling).arch == f"efficientnetv2_{name}"


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet50"},
        {"form": "other"},
        {"loss": "l1"},
        {"preprocessing": Preprocessing(size=100)},
    ],
)
def test_impossible_configs_are_refused(options):
    with pytest.raises(InputError):
        Config(**options)


def test_training_reaches_every_parameter():
    mx.random.seed(0)
    model = build(Config(preprocessing=Preprocessing(size=64)))
    model.train()
    images = mx.random.randint(0, 256, (4, 64, 64, 3)).astype(mx.uint8)
    pose = mx.array([[10.0, 20.0, 30.0], [-50.0, 0.0, 5.0], [70.0, -30.0, 1.0], [0.0, 0.0, 0.0]])
    step = nn.value_and_grad(model, lambda m: m.loss(m(images), pose)[0])
    loss, gradients = step(model)
    assert np.isfinite(loss.item())
    zero = [name for name, value in tree_flatten(gradients) if not mx.any(value != 0).item()]
    assert not zero


def test_the_outputs_train_five_times_as_fast():
    recipe = Config.recipe
    names = [name for name, _ in tree_flatten(build(Config()).trainable_parameters())]
    fast = [name for name in names if name.startswith(recipe.head_parameters)]
    assert (recipe.optimizer, recipe.head_lr_scale) == ("adamw", 5)
    assert len(fast) == 12
    assert {name.split(".")[1] for name in fast} == {
        f"{angle}_{part}" for angle in ("yaw", "pitch", "roll") for part in ("coarse", "shift")
    }


def test_initial_weights():
    mx.random.seed(0)
    head = build(Config()).head
    layers = dict(head.named_modules())
    outputs = [m for n, m in layers.items() if n.endswith(("_coarse", "_shift"))]
    others = [
        m
        for n, m in layers.items()
        if isinstance(m, nn.Linear) and not n.endswith(("_coarse", "_shift"))
    ]
    assert len(outputs) == 6
    for module in outputs:
        assert float(mx.std(module.weight)) == pytest.approx(0.01, rel=0.1)
    for module in others:
        wanted = (2 / len(module.weight)) ** 0.5
        assert float(mx.std(module.weight)) == pytest.approx(wanted, rel=0.15)
