"""TokenHPE: the network and its losses against the authors' own outputs, and its checkpoints."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from support.converted import converted_network, network_of

from mlx_headpose.convert import convert_file, convert_tensors
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.errors import InputError
from mlx_headpose.methods import build
from mlx_headpose.methods.tokenhpe.network import Config, TokenAttention, region_of, sine_embedding
from mlx_headpose.pose import geodesic_radians, pose_to_r
from mlx_headpose.readers.torch_writer import write_torch_file
from mlx_headpose.weights import from_pretrained, load_strictly

PUBLISHED = "tokenhpe_v1_vitb_224_lyr3"
VIT = "imagenet21k_timm_vit_base_patch16_224"


def small(**options):
    options = {"width": 48, "depth": 2, "backbone_heads": 3, "dim": 32, "layers": 2} | options
    return Config(preprocessing=Preprocessing(size=64), **options)


def with_sine(tensors):
    """A seeded state dict with the sine embedding in its place, as the authors' files have it."""
    return tensors | {"Ori_blocks.pos_embedding": np.array(sine_embedding(14, 128))[None]}


@pytest.fixture(scope="module")
def published(seeded):
    return with_sine(seeded.seeded_state_dict(PUBLISHED))


def test_equals_the_published_implementation(shared, seeded, published):
    model = converted_network(published)
    golden = np.load(shared / "golden" / f"{PUBLISHED}_224.npz")
    outputs = model(mx.array(seeded.seeded_image(224)))
    assert len(outputs) == 2
    for index, output in enumerate(outputs):
        expected = golden[f"output{index}"]
        assert output.shape == expected.shape
        assert np.abs(np.array(output) - expected).max() < 2e-5
    assert np.allclose(pose_to_r(model.decode(outputs)), golden["output0"], atol=1e-4)


@pytest.mark.parametrize("regions", [9, 11])
@pytest.mark.parametrize("alpha", [0.6, 0.95])
def test_loss_equals_the_published(regions, alpha, shared):
    golden = np.load(shared / "golden" / "losses.npz")
    pose = mx.array(golden["yaw_pitch_roll_deg"])
    assert np.array_equal(region_of(pose, regions), golden[f"tokenhpe_region_{regions}"])
    assert np.allclose(pose_to_r(pose), golden["tokenhpe_R_true"], atol=1e-6)
    model = build(small(regions=regions, alpha=alpha))
    outputs = tuple(
        mx.array(golden[name]) for name in ("tokenhpe_R_pred", f"tokenhpe_orientations_{regions}")
    )
    loss, parts = model.loss(outputs, pose)
    found = [loss.item(), parts["final"].item(), parts["region"].item()]
    assert np.allclose(found, golden[f"tokenhpe_loss_{regions}regions_alpha{alpha}"], rtol=1e-5)


class TestRegions:
    @pytest.mark.parametrize(
        ("pose", "nine", "eleven"),
        [
            ((0, 0, 0), 4, 5),
            ((41, 31, 0), 0, 0),
            ((40, 31, 0), 1, 1),
            ((-40, 31, 0), 1, 1),
            ((-41, 31, 0), 2, 2),
            ((61, 30, 0), 3, 3),
            ((60, -30, 0), 3, 4),
            ((20.5, 0, 0), 4, 4),
            ((20, 0, 0), 4, 5),
            ((-20, 0, 0), 4, 5),
            ((-20.5, 0, 0), 4, 6),
            ((-60, 0, 0), 5, 6),
            ((-61, 0, 0), 5, 7),
            ((41, -31, 0), 6, 8),
            ((0, -31, 90), 7, 9),
            ((-179, -99, 0), 8, 10),
        ],
    )
    def test_borders_belong_to_the_middle(self, pose, nine, eleven):
        pose = mx.array([pose], mx.float32)
        assert (region_of(pose, 9).item(), region_of(pose, 11).item()) == (nine, eleven)

    def test_a_mirrored_head_lies_in_the_mirrored_region(self):
        rng = np.random.default_rng(0)
        pose = rng.uniform(-99, 99, (200, 3)).astype(np.float32)
        mirror = {9: [2, 1, 0, 5, 4, 3, 8, 7, 6], 11: [2, 1, 0, 7, 6, 5, 4, 3, 10, 9, 8]}
        for regions, other in mirror.items():
            found = np.array(region_of(mx.array(pose), regions))
            mirrored = region_of(mx.array(pose * np.float32([-1, 1, -1])), regions)
            assert np.array_equal(mirrored, np.array(other)[found])
            assert set(found.tolist()) == set(range(regions))


@pytest.mark.parametrize("turn", [0.0, 180.0])
def test_gradients_stay_finite_where_the_distance_has_none(turn):
    pose = mx.array([[0.0, 0.0, turn]])
    model = build(small())
    same = mx.broadcast_to(mx.eye(3), (1, 9, 3, 3))

    def loss(final, rotations):
        return model.loss((final, rotations), pose)[0]

    value, gradients = mx.value_and_grad(loss, argnums=(0, 1))(same[:, 0], same)
    assert np.isclose(value.item(), np.radians(turn), atol=1e-4)
    assert all(np.isfinite(np.array(g)).all() for g in gradients)


def test_only_the_regions_own_token_is_trained_by_the_second_part():
    model = build(small(alpha=0.0))
    rng = np.random.default_rng(0)
    rotations = mx.array(rng.normal(size=(2, 9, 3, 3)).astype(np.float32))
    pose = mx.array([[50.0, 40, 0], [0.0, 0, 10]])
    final = mx.broadcast_to(mx.eye(3), (2, 3, 3))
    gradient = mx.grad(lambda r: model.loss((final, r), pose)[0])(rotations)
    touched = np.abs(np.array(gradient)).sum((2, 3)) > 0
    assert np.argwhere(touched).tolist() == [[0, 0], [1, 4]]


class TestNetwork:
    def test_has_the_published_number_of_parameters(self, published):
        tensors = published
        unused = ("feature_extractor.head.weight", "feature_extractor.head.bias")
        expected = sum(v.size for k, v in tensors.items() if k not in unused and "pos_emb" not in k)
        expected += tensors["feature_extractor.pos_embed"].size
        model = build(Config())
        assert sum(v.size for _, v in tree_flatten(model.parameters())) == expected

    @pytest.mark.parametrize("stem", ["patch", "resnet"])
    @pytest.mark.parametrize("regions", [9, 11])
    def test_outputs_are_rotations_and_every_parameter_learns(self, stem, regions):
        mx.random.seed(0)
        model = build(small(stem=stem, regions=regions))
        images = mx.random.randint(0, 255, (20, 64, 64, 3)).astype(mx.uint8)
        final, rotations = model(images)
        assert final.shape == (20, 3, 3)
        assert rotations.shape == (20, regions, 3, 3)
        for r in (final, rotations):
            assert np.allclose(r @ r.swapaxes(-1, -2), np.eye(3), atol=1e-5)
        pose = np.random.default_rng(0).uniform(-80, 80, (20, 3)).astype(np.float32)

        def loss(parameters):
            model.update(parameters)
            return model.loss(model(images), mx.array(pose))[0]

        gradients = tree_flatten(mx.grad(loss)(model.trainable_parameters()))
        assert all(np.abs(np.array(g)).max() > 0 for _, g in gradients)
        assert not any("position" in name for name, _ in gradients)

    def test_position_embedding_tells_rows_in_its_first_half(self):
        e = np.array(sine_embedding(14, 128)).reshape(14, 14, 128)
        assert np.allclose(e[:, :1, :64], e[:, :, :64])
        assert np.allclose(e[:1, :, 64:], e[:, :, 64:])
        assert np.isclose(e[2, 0, 0], np.sin(3 / (14 + 1e-6) * 2 * np.pi), atol=1e-6)
        frequency = 10000 ** (2 * (5 // 2) / 64)
        assert np.isclose(e[0, 8, 64 + 5], np.cos(9 / 14 * 2 * np.pi / frequency), atol=1e-6)

    def test_attention_weights_are_those_of_the_fused_attention(self):
        mx.random.seed(1)
        layer = TokenAttention(32, 8)
        x = 3 * mx.random.normal((2, 20, 32))
        weights = layer.weights(x)
        values = layer.qkv(x)[..., 64:].reshape(2, 20, 8, 4).transpose(0, 2, 1, 3)
        mixed = (weights @ values).transpose(0, 2, 1, 3).flatten(2)
        assert np.allclose(layer.out(mixed), layer(x), atol=1e-5)

    def test_bfloat16_weights_still_give_rotations(self):
        mx.random.seed(0)
        model = build(small())
        images = mx.random.normal((2, 64, 64, 3))
        before = model.decode(model(images))
        model.set_dtype(mx.bfloat16)
        final, _ = model(images.astype(mx.bfloat16))
        assert np.allclose(final @ final.swapaxes(-1, -2), np.eye(3), atol=1e-5)
        angle = geodesic_radians(final, pose_to_r(before))
        assert np.degrees(np.array(angle)).max() < 10

    @pytest.mark.parametrize(
        "options",
        [
            {"regions": 10},
            {"alpha": 1.5},
            {"heads": 5},
            {"width": 50},
            {"patch": 15},
            {"stem": "wavelet"},
            {"layers": 0},
            {"depth": 10**6},
        ],
    )
    def test_nonsense_is_refused(self, options):
        with pytest.raises(InputError):
            build(small(**options))

    def test_another_input_size_keeps_the_margin_of_the_crop(self):
        assert Config().preprocessing.at_size(112).resize_to == 125


class TestConversion:
    def test_the_published_file(self, published, tmp_path):
        path = tmp_path / "TokenHPEv1-ViTB-224_224-lyr3.tar"
        optimizer = {"state": {0: {"step": 3, "exp_avg": np.zeros(2)}}, "param_groups": {}}
        write_torch_file(
            path,
            {"epoch": 60, "model_state_dict": published, "optimizer_state_dict": optimizer},
        )
        conversion = convert_file(path, tmp_path / "t.safetensors")
        assert conversion.description.startswith("TokenHPE, 9 orientation tokens")
        assert set(conversion.left_out) == {
            "feature_extractor.head.weight",
            "feature_extractor.head.bias",
            "Ori_blocks.pos_embedding",
        }
        assert "fixed sine" in conversion.left_out["Ori_blocks.pos_embedding"]
        model = from_pretrained(tmp_path / "t.safetensors")
        assert model.config == Config()
        assert np.array_equal(model.head.tokens, published["Ori_blocks.ori_tokens"])

    def test_eleven_regions(self, seeded):
        tensors = with_sine(seeded.seeded_state_dict(f"{PUBLISHED}_11regions"))
        conversion = convert_tensors(tensors, "test")
        model = network_of(conversion)
        assert conversion.config["regions"] == 11
        assert model.head.fc1.weight.shape == (297, 99)

    def test_another_position_embedding_is_not_passed_over_in_silence(self, published):
        learned = published["Ori_blocks.pos_embedding"] + 1
        conversion = convert_tensors(published | {"Ori_blocks.pos_embedding": learned}, "test")
        assert "the file's is another" in conversion.left_out["Ori_blocks.pos_embedding"]

    @pytest.mark.parametrize(
        "name",
        ["mlp_head.2.bias", "Ori_blocks.ori_tokens", "feature_extractor.blocks.7.norm1.bias"],
    )
    def test_a_missing_tensor_is_named(self, name, published):
        tensors = {key: value for key, value in published.items() if key != name}
        with pytest.raises(InputError, match=r"complete|no known checkpoint"):
            convert_tensors(tensors, "test")

    @pytest.mark.parametrize("shape", [(197,), (1, 198, 64), (1, 0, 64)])
    def test_a_misshapen_position_embedding_is_refused(self, shape):
        tensors = {
            "cls_token": np.zeros((1, 1, 64)),
            "pos_embed": np.zeros(shape),
            "patch_embed.proj.weight": np.zeros((64, 3, 16, 16)),
        }
        with pytest.raises(InputError, match=r"positions|not enough values"):
            convert_tensors(tensors, "test")

    def test_imagenet_backbone(self, seeded):
        tensors = seeded.seeded_state_dict(VIT)
        conversion = convert_tensors(tensors, "test")
        assert conversion.config["model_type"] == "backbone"
        assert set(conversion.left_out) == {n for n in tensors if n.startswith(("head", "pre_log"))}
        model = build(Config())
        ours = {k: mx.array(v) for k, v in conversion.tensors.items()}
        load_strictly(model.backbone, ours, "test")
        patches = model.backbone.patch_embed.proj.weight
        assert np.array_equal(patches[5, 3, 7], tensors["patch_embed.proj.weight"][5, :, 3, 7])
