"""The data path: what a batch holds, in which order, and what happens to broken photos."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image
from support.toy_training import ToySet

from mlx_headpose import InputError
from mlx_headpose.core.crop import NONE, cut
from mlx_headpose.core.inputs import ImageInput, square_inside
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data.augment import (
    BLUR_SIGMA,
    BRIGHTNESS_SHIFT,
    CONTRAST_SCALE,
    EXPOSED,
    FLIP,
    NOISE_SIGMA,
    TURNED,
    UNCHANGED,
    Augmentation,
    Change,
    apply,
    random_crop,
    shifted,
)
from mlx_headpose.data.base import Dataset, resample
from mlx_headpose.data.loader import Batch, Loader, read_ahead
from mlx_headpose.pose import pose_to_matrix
from mlx_headpose.readers.pictures import open_reduced, open_upright
from mlx_headpose.synthetic import SyntheticHeads

SQUASH = Preprocessing(size=32, resize="squash")


def loader(dataset: Dataset | None = None, **changes: object) -> Loader:
    """A loader of the toy set."""
    values = {"batch_size": 8, "augmentation": Augmentation(0.8), "seed": 3, "workers": 2}
    return Loader(dataset or ToySet(), ImageInput(SQUASH), **{**values, **changes})


def assert_equal(one: Batch, other: Batch) -> None:
    """The same samples, to the bit."""
    assert one.ids == other.ids
    for name in ("inputs", "poses", "changes"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


class Uneven(ToySet):
    """Some pictures take long, so that threads overtake each other."""

    def image(self, index: int) -> Image.Image:
        """As in the toy set, later."""
        time.sleep(0.01 * (index % 3))
        return super().image(index)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    first = list(loader(Uneven(), workers=8).batches(epoch=1))
    again = list(loader(workers=1).batches(epoch=1))
    assert len(first) == len(loader()) == 6
    for one, other in zip(first, again, strict=True):
        assert_equal(one, other)
    other_epoch, other_seed = next(loader().batches(epoch=2)), next(loader(seed=4).batches(epoch=1))
    assert first[0].ids != other_epoch.ids
    assert first[0].ids != other_seed.ids


def test_an_epoch_can_be_entered_at_any_step() -> None:
    whole = list(loader().batches(epoch=5))
    for one, other in zip(whole[4:], loader().batches(epoch=5, start=4), strict=True):
        assert_equal(one, other)


def test_poses_belong_to_their_samples() -> None:
    dataset = ToySet()
    for batch in loader(dataset).batches():
        for name, pose in zip(batch.ids, batch.poses, strict=True):
            assert np.array_equal(pose, dataset.poses[dataset.ids.index(name)])


def test_a_set_smaller_than_a_batch_still_trains() -> None:
    small = loader(ToySet(3), batch_size=32)
    assert len(small) == 1
    assert len(next(small.batches()).ids) == 3


class Broken(ToySet):
    """Picture 7 cannot be read."""

    def image(self, index: int) -> Image.Image:
        """As in the toy set, but for one."""
        if index == 7:
            raise InputError("picture7.jpg: broken picture; replace it")
        return super().image(index)


def test_a_broken_photo_stops_with_its_name() -> None:
    with pytest.raises(InputError, match=r"picture7\.jpg: broken"):
        list(loader(Broken()).batches())


def test_broken_photos_are_counted_and_replaced_where_asked() -> None:
    tolerant = loader(Broken(), skip_bad=True)
    ids = [name for batch in tolerant.batches() for name in batch.ids]
    assert len(ids) == 48
    assert "picture7" not in ids
    assert ids.count("picture8") == 2
    assert tolerant.skipped == 1


def test_a_set_of_broken_photos_alone_is_an_error() -> None:
    class AllBroken(ToySet):
        def image(self, index: int) -> Image.Image:
            raise InputError("broken")

    with pytest.raises(InputError, match="no sample can be read"):
        list(loader(AllBroken(9), skip_bad=True).batches())


def test_what_a_worker_raises_comes_out_and_no_thread_stays() -> None:
    class Faulty(ToySet):
        def image(self, index: int) -> Image.Image:
            raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(loader(Faulty()).batches())
    batches = loader().batches()
    next(batches)
    batches.close()  # as when training stops within an epoch
    assert threading.active_count() == before


def test_reading_ahead_is_bounded() -> None:
    started = []
    results = read_ahead(lambda i: started.append(i) or i, range(1000), workers=4, ahead=10)
    assert [next(results) for _ in range(5)] == list(range(5))
    time.sleep(0.1)
    assert len(started) <= 16
    results.close()


def test_crops_agree_with_the_published_ones_on_whole_pixels() -> None:
    picture = ToySet().image(0)
    box = np.array([5.0, 7.0, 53.0, 60.0])
    assert np.array_equal(resample(picture, box, 32), cut(picture, box, SQUASH))


def test_crops_outside_the_picture_are_black() -> None:
    white = Image.new("RGB", (40, 40), "white")
    crop = resample(white, np.array([-20.0, 0.0, 20.0, 40.0]), 32)
    assert (crop[:, :15] == 0).all()
    assert (crop[:, 17:] == 255).all()


def test_fractions_of_a_pixel_move_the_crop() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 240, 4, dtype=np.uint8)[:, None], (60, 1, 3)))
    here = resample(ramp, np.array([10.0, 10.0, 42.0, 42.0]), 32).astype(int)
    there = resample(ramp, np.array([10.5, 10.0, 42.5, 42.0]), 32).astype(int)
    assert np.median(there - here) == 2  # half of a step of 4


class Ramp(ToySet):
    """Pictures whose pixels say which column they are of."""

    def image(self, index: int) -> Image.Image:
        columns = np.arange(240, dtype=np.uint8)[:, None]
        return Image.fromarray(np.tile(columns, (240, 1, 3)))


@pytest.mark.parametrize("resize", ["squash", "short_side", "pad"])
@pytest.mark.parametrize("resize_to", [64, 40])
def test_training_shows_the_same_share_of_a_crop_as_validation(resize, resize_to) -> None:
    dataset = Ramp(1)
    dataset.boxes, dataset.margins = np.array([[20.0, 20.0, 220.0, 220.0]]), NONE
    reads = ImageInput(Preprocessing(32, resize, resize_to))
    rng = np.random.default_rng(0)
    validated = reads.sample(dataset, 0)
    trained = [reads.training_sample(dataset, 0, rng, None)[0] for _ in range(60)]
    assert np.ptp(validated) == pytest.approx(200 * 31 / resize_to, abs=4)
    for crop in trained:
        assert np.ptp(crop) == pytest.approx(np.ptp(validated), abs=4)
    # Anywhere in it.
    assert np.ptp([crop.min() for crop in trained]) > 0.8 * 200 * (1 - 32 / resize_to)


@pytest.mark.parametrize("resize_to", [None, 36])
def test_training_of_published_sizes_shows_what_published_loaders_show(resize_to) -> None:
    dataset = Ramp(1)
    dataset.boxes, dataset.margins = np.array([[20.0, 20.0, 220.0, 220.0]]), NONE
    reads = ImageInput(Preprocessing(32, "short_side", resize_to))
    crop = reads.training_sample(dataset, 0, np.random.default_rng(0), None)[0]
    assert np.ptp(crop) == pytest.approx(200 * 224 / 240 * 31 / 32, abs=4)


class Photos(Dataset):
    """JPEG files."""

    def __init__(self, paths: list[Path], box: tuple[float, ...]):
        count = len(paths)
        boxes = np.tile(np.array(box, np.float32), (count, 1))
        super().__init__(
            "photos", [p.name for p in paths], np.zeros((count, 3)), boxes, ToySet().margins
        )
        self.paths = paths

    def path(self, index: int) -> Path:
        """The file."""
        return self.paths[index]

    def image(self, index: int) -> Image.Image:
        """At full size."""
        return open_upright(self.paths[index])


def test_the_smallest_pictures_can_be_reduced() -> None:
    for size in ((10, 10), (1, 40), (40, 1)):
        file = io.BytesIO()
        Image.new("RGB", size, (200, 100, 50)).save(file, "JPEG")
        picture, scale = open_reduced(file, 12.0)
        assert 0 < scale <= 1
        assert min(picture.size) >= 1


def test_reduced_decoding_gives_the_same_crop(shared: Path) -> None:
    paths = sorted((shared / "data" / "AFLW2000").glob("*.jpg"))[:40]
    photos = Photos(paths, (100.3, 90.7, 395.2, 401.9))
    for index in range(len(photos)):
        box = photos.boxes[index].astype(np.float64)
        assert open_reduced(paths[index], 295 / 128)[1] == 0.5
        fast = photos.cut(index, box, 128).astype(float)
        exact = resample(photos.image(index), box, 128).astype(float)
        psnr = 10 * np.log10(255**2 / np.mean((fast - exact) ** 2))
        assert psnr > 38, paths[index]
        # Decoding at a smaller scale must not move the picture.
        moved = np.mean((np.roll(fast, 1, 1)[:, 2:-2] - exact[:, 2:-2]) ** 2)
        assert np.mean((fast - exact)[:, 2:-2] ** 2) < moved


def test_small_crops_are_decoded_at_full_size(shared: Path) -> None:
    path = sorted((shared / "data" / "AFLW2000").glob("*.jpg"))[0]
    photos = Photos([path], (100, 100, 300, 300))
    exact = resample(photos.image(0), photos.boxes[0].astype(np.float64), 128)
    assert np.array_equal(photos.cut(0, photos.boxes[0].astype(np.float64), 128), exact)


def test_shift_and_crop_stay_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    box = np.array([10.0, 20.0, 110.0, 220.0])
    for _ in range(200):
        moved = shifted(box, rng)
        assert np.allclose(moved[2:] - moved[:2], [100, 200])
        assert (np.abs(moved - box) <= [10, 20, 10, 20]).all()
        inside = random_crop(box, rng)
        width, height = inside[2:] - inside[:2]
        assert 0.8 <= width * height / 20000 <= 1
        assert width / height == pytest.approx(0.5)
        assert (inside[:2] >= box[:2]).all()
        assert (inside[2:] <= box[2:] + 1e-9).all()


def test_the_two_steps_are_drawn_with_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    box = np.array([0.0, 0.0, 100.0, 100.0])
    draws = [Augmentation(0.6).draw(box, 224, rng) for _ in range(8000)]
    boxes, changes = np.array([d.box for d in draws]), np.array([d.pixels for d in draws])
    sizes = boxes[:, 2] - boxes[:, 0]
    cropped = sizes < 100 - 1e-6
    moved = ~cropped & (boxes[:, 0] != 0)
    for happened in (changes[:, FLIP] > 0, cropped, moved):
        assert happened.mean() == pytest.approx(0.6 / 4, abs=0.015)
    for column, neutral in ((BLUR_SIGMA, 0), (CONTRAST_SCALE, 1), (NOISE_SIGMA, 0)):
        assert (changes[:, column] != neutral).mean() == pytest.approx(0.6 / 8, abs=0.012)
    plain = Augmentation(1.0, flip=False)
    assert not any(plain.draw(box, 224, rng).pixels[FLIP] for _ in range(200))
    never = Augmentation(0.0).draw(box, 224, rng)
    assert np.array_equal(never.box, box)
    assert np.array_equal(never.pixels, UNCHANGED)
    assert never.turn == 0


@pytest.mark.parametrize("turn", [0.0, 45.0])
def test_an_extended_crop_has_the_edge_of_the_image_in_place_of_black(turn) -> None:
    pixels = np.full((40, 60, 3), 100, np.uint8)
    pixels[:, 50:] = 200
    picture = Image.fromarray(pixels)
    box = np.array([-20.0, -30.0, 80.0, 70.0])
    assert resample(picture, box, 48, turn).min() == 0
    crop = resample(picture, box, 48, turn, extend=True)
    assert crop.min() == 100
    assert crop.max() == 200
    inside = np.array([5.0, 5.0, 35.0, 35.0])
    assert np.array_equal(resample(picture, inside, 30), resample(picture, inside, 30, extend=True))


def test_crops_are_rescaled_turned_and_exposed_only_where_asked() -> None:
    rng = np.random.default_rng(0)
    box = np.array([10.0, 0.0, 110.0, 100.0])
    draws = [
        Augmentation(0.0, turn=180, rescale=1.5, exposure=4).draw(box, 64, rng) for _ in range(4000)
    ]
    turns = np.array([d.turn for d in draws])
    assert (turns != 0).mean() == pytest.approx(TURNED, abs=0.03)
    assert -180 <= turns.min() < -160
    assert 160 < turns.max() <= 180
    assert np.median(np.abs(turns[turns != 0])) == pytest.approx(180 / 8, abs=4)
    sides = np.array([d.box[2] - d.box[0] for d in draws])
    assert sides.min() == pytest.approx(100 / 1.5, abs=1)
    assert sides.max() == pytest.approx(150, abs=2)
    middles = np.array([(d.box[:2] + d.box[2:]) / 2 for d in draws])
    off = np.abs(middles - (60, 50)) / sides[:, None]
    assert 0.11 < off.max() <= 0.12 + 1e-9
    gains = np.array([d.pixels[CONTRAST_SCALE] for d in draws])
    assert (gains != 1).mean() == pytest.approx(EXPOSED, abs=0.03)
    assert gains.min() == pytest.approx(1 / 16, abs=0.01)
    assert gains.max() == pytest.approx(4, abs=0.1)
    # A gain leaves black alone.
    darkest = np.array([d.pixels[BRIGHTNESS_SHIFT] for d in draws]) - 127.5 * gains + 127.5
    assert np.abs(darkest).max() < 1e-3


def test_a_turned_head_has_the_pose_of_the_turned_image() -> None:
    heads = SyntheticHeads(3, "train", seed=0, yaw=(-40, 40), size=160)
    for index, angle in enumerate((30.0, -100.0, 170.0)):
        pose = heads.poses[index].astype(np.float64)
        turned = Change(heads.boxes[index], angle, UNCHANGED).turned(pose)
        wanted = pose_to_matrix(np.array([0.0, 0.0, angle])) @ pose_to_matrix(pose)
        assert pose_to_matrix(turned) == pytest.approx(wanted, abs=1e-9)
        # The image of the nose's tip moves clockwise about the crop's middle.
        box = heads.crop_box(index)
        middle, side = (box[:2] + box[2:]) / 2, box[2] - box[0]
        dot = Image.new("RGB", heads.image(index).size)
        x, y = (middle + np.array((0.25 * side, 0))).astype(int)
        dot.paste((255, 255, 255), (x - 3, y - 3, x + 4, y + 4))
        cut = resample(dot, np.concatenate((middle - side / 2, middle + side / 2)), 64, angle)
        row, column = np.array(np.nonzero(cut[..., 0] > 60)).mean(1)
        seen = np.degrees(np.arctan2(row - 31.5, column - 31.5))
        assert (seen - angle + 180) % 360 - 180 == pytest.approx(0, abs=5)


def changed(images: np.ndarray, **columns: float) -> tuple[np.ndarray, np.ndarray]:
    """Images and poses after one change, by its column's name."""
    names = {
        "flip": FLIP,
        "contrast": CONTRAST_SCALE,
        "brightness": BRIGHTNESS_SHIFT,
        "blur": BLUR_SIGMA,
        "noise": NOISE_SIGMA,
    }
    changes = np.tile(UNCHANGED, (len(images), 1))
    for name, value in columns.items():
        changes[:, names[name]] = value
    poses = mx.array([[10.0, 20.0, 30.0]] * len(images))
    result = apply(mx.array(images), poses, mx.array(changes), mx.random.key(1))
    return np.array(result[0]), np.array(result[1])


def test_pixels_change_as_asked() -> None:
    from scipy.ndimage import gaussian_filter

    images = np.random.default_rng(0).integers(60, 190, (2, 24, 32, 3)).astype(np.uint8)
    same, pose = changed(images)
    assert np.array_equal(same, images)
    assert np.array_equal(pose[0], [10, 20, 30])
    flipped, pose = changed(images, flip=1)
    assert np.array_equal(flipped, images[:, :, ::-1])
    assert np.array_equal(pose[1], [-10, 20, -30])
    brighter, _ = changed(images, brightness=20)
    assert np.array_equal(brighter, images + 20)
    flatter, _ = changed(images, contrast=0.5)
    assert np.abs(flatter - ((images - 127.5) * 0.5 + 127.5)).max() <= 0.5
    blurred, _ = changed(images, blur=1.2)
    expected = gaussian_filter(images.astype(float), (0, 1.2, 1.2, 0), mode="constant")
    inner = np.s_[:, 6:-6, 6:-6]
    assert np.abs(blurred[inner] - expected[inner]).max() <= 1.5
    noisy, _ = changed(np.full((1, 64, 64, 3), 128, np.uint8), noise=5)
    assert noisy.std() == pytest.approx(5, rel=0.05)


def test_short_side_training_crops_are_squares_inside_the_box() -> None:
    rng = np.random.default_rng(0)
    box = np.array([10.0, 20.0, 110.0, 220.0])
    squares = np.array([square_inside(box, 224 / 240, rng) for _ in range(200)])
    sides = squares[:, 2:] - squares[:, :2]
    assert np.allclose(sides, 100 * 224 / 240)
    assert (squares[:, :2] >= box[:2]).all()
    assert (squares[:, 2:] <= box[2:]).all()
    assert np.ptp(squares[:, 1]) > 90  # anywhere along the longer side
