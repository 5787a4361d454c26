"""The head detector: what its cells learn, what they say, and what becomes of it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

from mlx_headpose.core.crop import AROUND_HEAD, AROUND_LANDMARKS, Margins
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.core.scene import HEAD, IGNORE, TARGET
from mlx_headpose.data.protocols import OPAL
from mlx_headpose.detection.heads import detector as module
from mlx_headpose.detection.heads.boxes import merged, select
from mlx_headpose.detection.heads.detector import SurroundHeadDetector, prepare
from mlx_headpose.detection.heads.network import (
    CHANNELS,
    SIZES,
    STRIDES,
    Config,
    assign,
    build,
    overlaps,
)
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.detection import Detection, match
from mlx_headpose.inference import detectors
from mlx_headpose.inference.detectors import default_detector, load_detector
from mlx_headpose.methods import config_from_dict
from mlx_headpose.weights import from_pretrained, load_network, save_pretrained

TINY = {"stem": 8, "narrow": 8, "middle": 16, "wide": 16, "blocks": 1}


def tiny(size: int = 64) -> Config:
    return Config(preprocessing=Preprocessing(size=size), **TINY)


def target(box, face=None, yaw: float = 0.0, kind: float = HEAD) -> np.ndarray:
    row = np.zeros(TARGET, np.float32)
    row[:4], row[4:8] = box, box if face is None else face
    row[8:10] = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    row[10] = kind
    return row


def outputs_of(size: int) -> tuple[mx.array, ...]:
    return tuple(mx.zeros((1, size // s, size // s, CHANNELS)) for s in STRIDES)


def test_overlaps_are_those_of_the_papers():
    boxes = mx.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    others = mx.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]])
    overlap, generalised = overlaps(boxes, others)
    assert np.allclose(overlap, [1, 1 / 3, 0])
    # The hulls are 100, 150 and 300: minus their empty shares 0, 0 and 1/3.
    assert np.allclose(generalised, [1, 1 / 3, -1 / 3])


@pytest.mark.parametrize(("side", "strides"), [(16, {8}), (40, {8, 16}), (60, {16}), (200, {32})])
def test_a_head_is_learnt_near_its_middle_by_the_strides_of_its_size(side, strides):
    size, middle = 256, 128 + 4
    box = (middle - side / 2, middle - side / 2, middle + side / 2, middle + side / 2)
    targets = mx.array(np.stack([target(box), np.zeros(TARGET, np.float32)])[None])
    positive, trained, wanted = (np.array(a)[0] for a in assign(outputs_of(size), targets))
    start = 0
    for stride, (low, high) in zip(STRIDES, SIZES, strict=True):
        count = (size // stride) ** 2
        own = positive[start : start + count].reshape(size // stride, -1)
        assert own.any() == (stride in strides) == (low <= side < high)
        rows, columns = np.nonzero(own)
        away = np.abs(np.stack((columns, rows), 1) * stride + stride / 2 - middle)
        assert (away <= max(stride, 0.25 * side)).all()
        start += count
    assert np.array_equal(wanted[positive > 0], np.tile(target(box), (int(positive.sum()), 1)))
    assert trained.sum() > 0.9 * len(trained)


def test_the_smaller_of_two_heads_at_one_place_is_learnt_there():
    small, large = target((118, 118, 138, 138)), target((110, 110, 146, 146), yaw=90)
    positive, _, wanted = assign(outputs_of(256), mx.array(np.stack([large, small])[None]))
    cell = 15 * 32 + 15  # middle (124, 124) of stride 8
    assert np.array(positive)[0, cell] == 1
    assert np.array_equal(np.array(wanted)[0, cell], small)


def test_nothing_is_learnt_within_ignored_boxes():
    targets = mx.array(target((64, 64, 128, 128), kind=IGNORE)[None, None])
    positive, trained, _ = (np.array(a)[0] for a in assign(outputs_of(256), targets))
    assert not positive.any()
    own = trained[:1024].reshape(32, 32)  # of stride 8
    assert not own[8:16, 8:16].any()
    assert own.sum() == 1024 - 64


def test_a_cell_without_an_opinion_says_a_typical_head_around_itself():
    model = build(tiny())
    cells = np.array(model.decode(outputs_of(64)))[0]
    assert cells.shape == (64 + 16 + 4, CHANNELS)
    assert np.allclose(cells[9], [0.5, 0, 0, 24, 24, 4.8, 4.8, 19.2, 19.2, 0, 0], atol=1e-5)
    assert np.allclose(cells[-1, 1:5], [0, 0, 96, 96])  # middle (48, 48), three strides wide


def test_likely_cells_are_those_of_decoding_with_a_score():
    mx.random.seed(3)
    model = build(tiny())
    outputs = tuple(mx.random.normal((2, side, side, CHANNELS)) for side in (8, 4, 2))
    every = np.array(model.decode(outputs))
    for least in (0.0, 0.6, 1.0):
        for found, cells in zip(model.head.likely(outputs, least), every, strict=True):
            wanted = cells[cells[:, 0] >= least]
            assert found == pytest.approx(wanted, rel=1e-5, abs=1e-4)
    assert all(len(found) for found in model.head.likely(outputs, 0.6))


def test_it_learns_to_find_a_square():
    mx.random.seed(0)
    rng = np.random.default_rng(0)
    model = build(tiny())
    optimizer = optim.Adam(5e-3)

    def scene() -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(0, 90, (64, 64, 3)).astype(np.uint8)
        x, y = rng.integers(0, 44, 2)
        image[y : y + 20, x : x + 20] = 230
        return image, target((x, y, x + 20, y + 20), (x + 5, y + 5, x + 15, y + 20))[None]

    def loss_of(model, images, targets):
        return model.loss(model(images), targets)[0]

    step = nn.value_and_grad(model, loss_of)
    model.train()
    losses = []
    for _ in range(120):
        images, targets = (
            mx.array(np.stack(part)) for part in zip(*[scene() for _ in range(8)], strict=True)
        )
        loss, gradients = step(model, images, targets)
        optimizer.update(model, gradients)
        mx.eval(model.state, optimizer.state)
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.35 * losses[0]
    model.eval()
    found = 0
    for _ in range(10):
        image, targets = scene()
        cells = select(np.array(model.decode(model(mx.array(image[None]))))[0], 0.2)
        boxes = mx.array(cells[:1, 1:5]), mx.array(targets[:1, :4])
        faces = mx.array(cells[:1, 5:9]), mx.array(targets[:1, 4:8])
        found += len(cells) > 0 and overlaps(*boxes)[0].item() > 0.5 < overlaps(*faces)[0].item()
    assert found >= 8


def test_a_config_comes_back_and_impossible_ones_are_refused():
    config = tiny()
    assert config_from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="multiples of 8"):
        dataclasses.replace(config, stem=10)
    with pytest.raises(InputError, match="multiple of 32"):
        tiny(48)


def test_suppression_keeps_the_best_box_of_a_head():
    cells = np.zeros((3, CHANNELS), np.float32)
    cells[:, 0] = 0.6, 0.9, 0.7
    cells[:, 1:5] = (0, 0, 20, 20), (1, 0, 21, 20), (40, 40, 60, 60)
    assert select(cells, 0.5)[:, 0].tolist() == pytest.approx([0.9, 0.7])
    assert len(select(cells, 0.95)) == 0


def test_a_box_within_a_better_one_is_a_part_of_that_head():
    cells = np.zeros((4, CHANNELS), np.float32)
    cells[:, 0] = 0.6, 0.9, 0.7, 0.8
    cells[:, 1:5] = (10, 10, 20, 20), (0, 0, 40, 40), (30, 0, 70, 40), (-40, -40, 80, 80)
    assert select(cells, 0.5)[:, 0].tolist() == pytest.approx([0.9, 0.7])


def cell(score, left, side):
    """(11,) a decoded cell: a square head with its face in the middle."""
    box = np.array([left, 10, left + side, 10 + side])
    return np.array([score, *box, *(box + side * np.array([0.2, 0.2, -0.2, -0.2])), 1, 0])


def test_boxes_are_means_of_the_looks_that_see_the_head():
    fine = np.stack([cell(0.8, 10, 40), cell(0.5, 13, 40), cell(0.7, 200, 40)])
    coarse = np.stack([cell(0.2, 14, 44), cell(0.1, -10, 40), cell(0.6, 90, 20)])
    heads = fine[[0, 2]]
    found, scores = merged(heads, [fine, coarse, np.zeros((0, 11))])
    np.testing.assert_allclose(found[0, 1:9], 0.8 * fine[0, 1:9] + 0.2 * coarse[0, 1:9], rtol=1e-6)
    np.testing.assert_allclose(found[1], heads[1], rtol=1e-6)  # only one look sees it
    np.testing.assert_allclose(found[:, [0, 9, 10]], heads[:, [0, 9, 10]], rtol=1e-6)
    np.testing.assert_allclose(scores, [(0.8, 0.2, 0), (0.7, 0, 0)])
    nothing, scores = merged(np.zeros((0, 11)), [fine, coarse])
    assert (nothing.shape, scores.shape) == ((0, 11), (0, 2))
    flat = cell(0.7, 30, 0)[None]
    np.testing.assert_allclose(merged(flat, [fine, flat])[0], flat, rtol=1e-6)


def test_files_from_before_there_was_an_outline_are_read():
    stored = {k: v for k, v in tiny().to_dict().items() if k not in ("outline", "verification")}
    assert config_from_dict(stored) == tiny()


def test_matching_counts_as_the_program_that_judges_does(shared: Path):
    path = shared / "detection" / "score_detector.py"
    spec = importlib.util.spec_from_file_location("score_detector", path)
    assert spec is not None
    assert spec.loader is not None
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    rng = np.random.default_rng(1)
    for _ in range(200):

        def boxes(count: int) -> np.ndarray:
            corner = rng.uniform(0, 60, (count, 2))
            return np.concatenate([corner, corner + rng.uniform(10, 40, (count, 2))], 1)

        heads = boxes(rng.integers(0, 6))
        guesses = np.concatenate([heads + rng.normal(0, 4, heads.shape), boxes(3)])
        scores = rng.uniform(0.1, 1, len(guesses))
        ignored = boxes(rng.integers(0, 4))
        counted, found = match(guesses, scores, heads, ignored)
        label = {"boxes": heads, "ignored": ignored}
        theirs, _, false = judge.match(guesses, scores, label, 0.0)
        hit = np.zeros(len(heads), bool)
        hit[found[found >= 0]] = True
        assert np.array_equal(hit, theirs)
        assert (found < 0).sum() == false
        assert len(ignored) or len(counted) == len(guesses)


def test_figures_count_heads_missed_at_a_rate_of_false_boxes():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    found = np.array([0, 1, -1, 2, -1, 3])
    detection = Detection(scores, found, np.array([0.0, 90, 170, 10]), np.full(4, 30.0), scenes=4)
    assert 0.5 < detection.threshold() < 0.6  # one false box in four scenes
    figures = detection.figures()
    assert figures["missed"] == 25
    assert (figures["front"], figures["side"], figures["back"]) == (50, 0, 0)
    assert detection.recall(0.65)["24-48 px"] == 0.5


@pytest.fixture
def detector() -> SurroundHeadDetector:
    mx.random.seed(3)
    network = build(tiny())
    for conv in network.head.output:  # so that cells say something
        conv.weight *= 20
        conv.bias = conv.bias + 5.0 * (mx.arange(CHANNELS) == 0)
    return SurroundHeadDetector(network, size=96)


def test_images_are_scaled_and_padded_and_boxes_come_back(detector):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (60, 96, 3), np.uint8)
    ((pixels, factors),) = prepare(small, 96)
    assert pixels.shape == (64, 96, 3)
    assert np.array_equal(pixels[:60], small)
    assert (pixels[60:] == 114).all()
    assert factors.tolist() == [1, 1]
    large = small.repeat(3, 0).repeat(3, 1)
    ((pixels, factors),) = prepare(large, 96)
    assert pixels.shape == (64, 96, 3)
    assert factors.tolist() == [3, 3]
    ((_, factors),) = prepare(large, 200)
    assert factors.tolist() == pytest.approx([1.44, 1.44])
    (_, factors), (smaller, more) = prepare(small.repeat(10, 0).repeat(10, 1), 480)
    assert factors.tolist() == [2, 2]
    assert smaller.shape == (128, 192, 3)  # 192 x 120, padded
    assert more.tolist() == [5, 5]
    huge = np.zeros((1500, 1500, 3), np.uint8)
    assert [len(pixels) for pixels, _ in prepare(huge, 1500)] == [1504, 608, 256]
    (found,) = detector([small], 0.3)
    assert len(found)
    assert found.heads is not None
    assert found.boxes.shape == found.heads.shape == (len(found), 4)
    assert (found.heads >= 0).all()
    assert (found.heads <= np.tile((96, 60), 2)).all()
    assert (np.diff(found.scores) <= 0).all()


def test_frames_of_videos_are_searched_at_less(detector, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        module, "prepare", lambda image, size, f=prepare: sizes.append(size) or f(image, size)
    )
    image = np.zeros((90, 1200, 3), np.uint8)
    for size in (None, 960, 320):
        monkeypatch.setattr(detector, "detect_size", size)
        detector.whole([image])
        detector.quick([image])
    assert sizes == [960, 640, 960, 960, 320, 320]
    with pytest.raises(InputError, match="detection size 32: give 64 to 8192 pixels"):
        detector.detect_size = 32


def test_looks_at_the_same_head(detector):
    """A head of 100 pixels is for both looks; one of 20 or 400 for one alone."""
    heads = np.array([(100, 100, 200, 200), (10, 10, 30, 30), (0, 0, 400, 400)], np.float32)
    scores = np.array([(0.9, 0.7), (0, 0.1), (0.2, 0)])
    looks = module._looks(heads, scores, np.array([1.0, 2.5]))
    np.testing.assert_allclose(looks, [(0.9, 0.7), (0, np.nan), (np.nan, 0)])
    detector.detect_size = 640
    assert detector([np.zeros((500, 700, 3), np.uint8)], 0.999)[0].looks is not None
    assert detector([np.zeros((300, 400, 3), np.uint8)], 0.999)[0].looks is None


def test_a_head_stays_one_when_a_coarser_look_moves_two_boxes_together(detector, monkeypatch):
    """Two boxes that overlap by a third, and one between them that the coarser look sees."""
    looks = [np.stack([cell(0.8, 0, 40), cell(0.7, 20, 40), cell(0.6, 200, 40)]), cell(0.6, 4, 16)]
    monkeypatch.setattr(
        type(detector.network.head), "likely", lambda *_: [np.atleast_2d(looks.pop(0))]
    )
    looks[1][[2, 4, 6, 8]] -= 6  # `cell` begins at row 10, which is row 4 here
    (found,) = detector.search([np.zeros((300, 480, 3), np.uint8)], 480, 0.5)
    assert found.scores.tolist() == pytest.approx([0.8, 0.6])
    assert found.heads is not None
    assert found.looks is not None
    assert found.heads[0, 0] == pytest.approx(0.6 / 1.4 * 10, abs=0.1)
    assert found.looks[0].tolist() == pytest.approx([0.8, 0.6])


def test_several_images_at_once_are_the_same_as_one_by_one(detector, monkeypatch):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60, 90, 3), np.uint8) for _ in range(3)]
    images.insert(1, images[0][:40])
    single = [detector([image], 0.3)[0] for image in images]
    # Take the path of a GPU: one batch.
    monkeypatch.setattr(module.mx, "default_device", lambda: mx.Device(mx.gpu))
    for one, together in zip(single, detector(images, 0.3), strict=True):
        np.testing.assert_allclose(one.boxes, together.boxes, atol=1e-2)
        np.testing.assert_allclose(one.heads, together.heads, atol=1e-2)
        np.testing.assert_allclose(one.scores, together.scores, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (33, 31, 3)])
def test_odd_sizes(detector, shape):
    (found,) = detector([np.zeros(shape, np.uint8)], 0.999)
    assert found.boxes.shape == (len(found), 4)


def test_folding_the_norms_changes_nothing(tmp_path):
    mx.random.seed(1)
    model = build(tiny())
    x = mx.array(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8))
    model.train()
    mx.eval(model(x), model.state)  # statistics other than 0 and 1
    model.eval()
    before = model(x)
    mx.eval(before)
    SurroundHeadDetector(model)
    assert not [name for name, _ in model.named_modules() if "BatchNorm" in type(_).__name__]
    for a, b in zip(before, model(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_a_file_comes_back_and_is_no_pose_network(tmp_path):
    model = build(tiny())
    model.eval()
    path = tmp_path / "heads.safetensors"
    save_pretrained(model, path)
    x = mx.array(np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8))
    for a, b in zip(model(x), load_network(path)(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with pytest.raises(InputError, match="give it as --detector"):
        from_pretrained(path)
    with pytest.raises(InputError, match="detection size"):
        SurroundHeadDetector.from_pretrained(path, size=10)


def test_without_yunet_the_bundled_detector_is_taken(monkeypatch):
    monkeypatch.setattr(detectors, "at_hand", lambda: False)
    assert default_detector().name == SurroundHeadDetector.name
    monkeypatch.setattr(detectors, "at_hand", lambda: True)
    monkeypatch.setattr(detectors.FaceDetector, "from_pretrained", lambda: "YuNet")
    assert default_detector() == "YuNet"


def test_boxes_of_landmarks_get_the_margins_of_annotated_ones():
    crop = AROUND_LANDMARKS
    assert crop.around_detected("landmarks") == crop.test
    assert crop.around_detected("faces") == crop.face
    assert crop.around_detected("heads") == crop.head
    assert crop.around_detected("landmarks", 0.5).k == (0.5, 0.5)


def test_a_margin_around_heads_is_of_the_head():
    box = np.array([10.0, 20, 110, 220])
    as_it_is = AROUND_HEAD.around_detected("heads", 0.1).apply(box)
    np.testing.assert_allclose(as_it_is, [0, 0, 120, 240])
    square = OPAL.around_detected("heads", 0.1).apply(box)
    np.testing.assert_allclose(square, [-60, 0, 180, 240])
    own = dataclasses.replace(AROUND_HEAD, head=Margins((0.0, 1.0, 0.0, 0.0)))
    np.testing.assert_allclose(own.around_detected("heads", 0.1).apply(box), [10, 0, 110, 220])
    assert own.around_detected("heads", 0.1) == own.head.with_k(0.1)


def test_a_file_says_which_detector_it_is(tmp_path):
    save_pretrained(build(tiny()), tmp_path / "heads.safetensors")
    assert isinstance(load_detector(tmp_path / "heads.safetensors"), SurroundHeadDetector)
