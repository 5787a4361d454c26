"""The report page: complete, self-contained, and readable by a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mlx_headpose.cli.test import write_predictions
from mlx_headpose.core.crop import cut
from mlx_headpose.core.preprocessing import Preprocessing
from mlx_headpose.data import Dataset, open_dataset
from mlx_headpose.errors import InputError
from mlx_headpose.evaluation.evaluate import Evaluation
from mlx_headpose.evaluation.faces import best_and_worst, draw_worst
from mlx_headpose.evaluation.report import DIRECTIONS, _confusion, directions, write_report

pytest.importorskip("matplotlib", reason="a report's curves need matplotlib")


@pytest.fixture(scope="module")
def tested():
    """Thirty synthetic heads, and predictions that are off by 1° to 30°."""
    dataset = open_dataset("synthetic", samples=30, train=False, input_size=64)
    offsets = np.arange(1, 31)[:, None] * np.array([1.0, 0.0, 0.0])
    evaluation = Evaluation(
        dataset=dataset.name,
        protocol="a <protocol>",
        ids=list(dataset.ids),
        indices=list(range(len(dataset))),
        poses=dataset.poses.astype(np.float64),
        predictions=dataset.poses + offsets,
        dropped={"an angle outside ±99°": 2},
        seconds=1.0,
    )
    return evaluation, dataset


@pytest.fixture(scope="module")
def page(tested, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, *tested, "net on heads")
    return path


def test_the_page_is_complete_and_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 48
    assert "15.50°" in text  # the mean error of yaw
    assert "a &lt;protocol&gt;" in text
    assert "2 have an angle outside ±99°" in text
    sources = re.findall(r'(?:src|href)="([^"]{5})', text)
    assert len(sources) == 49
    assert set(sources) == {"data:"}
    assert "<script" not in text


def test_the_worst_come_first(page):
    text = page.read_text(encoding="utf-8")
    off = [float(value) for value in re.findall(r"([\d.]+)° off", text)]
    assert off[:24] == sorted(off[:24], reverse=True)
    assert off[24:] == sorted(off[24:])
    assert max(off[24:]) < max(off[:24])


def test_the_worst_faces_as_a_picture(tested, tmp_path):
    evaluation, dataset = tested
    best, worst = best_and_worst(evaluation, dataset, 96)
    errors = [face.error for face in worst]
    assert errors == sorted(errors, reverse=True)
    assert max(face.error for face in best) < errors[0]
    index = list(dataset.ids).index(worst[0].name)
    crop = cut(dataset.image(index), dataset.crop_box(index), Preprocessing(size=96))
    np.testing.assert_array_equal(worst[0].pixels, crop)
    draw_worst(evaluation, dataset, tmp_path / "worst.png")
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 5000
    with pytest.raises(InputError, match=r"worst\.txt: figures are written as"):
        draw_worst(evaluation, dataset, tmp_path / "worst.txt")


def test_faces_are_cut_as_the_network_cut_them(tested):
    evaluation, dataset = tested
    own = Preprocessing(64, "squash", 72, filter="nearest")
    worst = best_and_worst(replace(evaluation, preprocessing=own), dataset, 96)[1][0]
    index = list(dataset.ids).index(worst.name)
    same = Preprocessing(96, "squash", 108, filter="nearest")
    crop = cut(dataset.image(index), dataset.crop_box(index), same)
    np.testing.assert_array_equal(worst.pixels, crop)


def test_predictions_that_are_no_numbers_are_in_no_direction(tested, page, tmp_path):
    evaluation, dataset = tested
    predictions = evaluation.predictions.copy()
    predictions[:4] = np.nan
    broken = replace(evaluation, predictions=predictions)
    text = _confusion(broken)
    cells = re.findall(r"rgba[^>]*>(\d*)</td>", text)
    assert sum(int(cell or 0) for cell in cells) == 26
    assert "4 predictions are no numbers and are left out" in text
    assert "are no numbers" not in _confusion(evaluation)
    write_report(tmp_path / "page.html", broken, dataset, "net")


def test_names_that_are_no_text(tested, tmp_path):
    evaluation, dataset = tested
    name = os.fsdecode(b"caf\xe9.jpg")
    named = replace(evaluation, ids=[name] * len(dataset))
    write_report(tmp_path / "page.html", named, dataset, name)
    assert r"caf\udce9.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    draw_worst(named, dataset, tmp_path / "worst.png")
    write_predictions(tmp_path / "all.csv", named)
    assert b"caf\xe9.jpg," in (tmp_path / "all.csv").read_bytes()


def test_heads_of_one_picture_are_told_apart(tested):
    evaluation, dataset = tested
    one = replace(evaluation, ids=["one.jpg"] * len(dataset))
    found, expected = (best_and_worst(e, dataset, 32)[1] for e in (one, evaluation))
    for face, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(face.pixels, other.pixels)


def test_without_pictures_there_are_no_faces(tested, tmp_path):
    evaluation, dataset = tested
    bare = Dataset("bare", dataset.ids, dataset.poses, dataset.boxes, dataset.margins)
    assert best_and_worst(evaluation, bare, 96) == ([], [])
    with pytest.raises(InputError, match="bare has no pictures"):
        draw_worst(evaluation, bare, tmp_path / "worst.png")


def test_directions_are_the_pictures():
    poses = np.array([[50, 0, 0], [-50, 0, 0], [0, 30, 0], [0, -30, 0], [0, 0, 90]], float)
    names = [DIRECTIONS[i] for i in directions(poses)]
    assert names == ["level left", "level right", "up ahead", "down ahead", "level ahead"]


def test_a_browser_shows_it(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium or chrome")
    picture = tmp_path / "page.png"
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,1600"),
            *(f"--screenshot={picture}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=240,
    )
    with Image.open(picture) as shot:
        colours = shot.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 5000  # curves and faces, not a blank page or an error
