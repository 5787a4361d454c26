"""The report page: complete, self-contained, and readable by a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from mlx_headpose.data import open_dataset
from mlx_headpose.evaluation.evaluate import Evaluation
from mlx_headpose.evaluation.report import DIRECTIONS, directions, write_report

pytest.importorskip("matplotlib", reason="a report's curves need matplotlib")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report on thirty synthetic heads with predictions that are off by 1° to 30°."""
    dataset = open_dataset("synthetic", samples=30, train=False, input_size=64)
    offsets = np.arange(1, 31)[:, None] * np.array([1.0, 0.0, 0.0])
    evaluation = Evaluation(
        dataset=dataset.name,
        protocol="a <protocol>",
        ids=list(dataset.ids),
        poses=dataset.poses.astype(np.float64),
        predictions=dataset.poses + offsets,
        dropped={"an angle outside ±99°": 2},
        seconds=1.0,
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, evaluation, dataset, "net on heads")
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
    from PIL import Image

    with Image.open(picture) as shot:
        colours = shot.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 5000  # curves and faces, not a blank page or an error
